"""What the HTTP service is sent and what it answers; Tabby's names where Tabby has one."""

from __future__ import annotations

import math
import uuid
from typing import Annotated

from pydantic import BaseModel, Field

from seqmlm.errors import UnknownNameError
from seqmlm_domains.code.completion.completion import (
    CompletionRequest,
    CompletionResult,
    roles_named,
)
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.serving.documents import EDITOR_LANGUAGES


class Segments(BaseModel):
    """The text on both sides of the cursor. Tabby's other fields are accepted and not used."""

    prefix: Annotated[str, Field(description="from the start of the file to the cursor")]
    suffix: Annotated[str | None, Field(description="from the cursor to the end of the file")] = (
        None
    )


class CompletionBody(BaseModel):
    """A place in a file where a name is due. Tabby's other fields are accepted and not used."""

    language: Annotated[
        str, Field(max_length=64, description=f"one of {', '.join(sorted(LANGUAGES))}")
    ]
    segments: Segments
    limit: Annotated[int | None, Field(ge=1, le=200, description="most candidates")] = None
    roles: Annotated[
        list[str] | None,
        Field(description="names that do one of these somewhere, as call or type; empty: any"),
    ] = None
    types: Annotated[
        list[str] | None,
        Field(description="names declared with one of these somewhere, as List; empty: any"),
    ] = None
    stream: Annotated[
        bool,
        Field(description="answer by server-sent events: the lexical answer, then the model's"),
    ] = False

    def request(self, *, limit: int) -> CompletionRequest:
        """Return the completer's request.

        Args:
            limit: most candidates, unless the body says otherwise.

        Raises:
            UnknownNameError: the language is none of ``LANGUAGES``, or there is no such role.
        """
        language = EDITOR_LANGUAGES.get(self.language, self.language)
        if language not in LANGUAGES:
            raise UnknownNameError("language", self.language, LANGUAGES)
        prefix = _without_surrogates(self.segments.prefix)
        return CompletionRequest(
            source=prefix + _without_surrogates(self.segments.suffix or ""),
            offset=len(prefix),
            language=language,
            limit=self.limit or limit,
            roles=None if self.roles is None else roles_named(self.roles),
            types=None if self.types is None else frozenset(self.types),
        )


class Choice(BaseModel):
    """What to insert at the cursor."""

    index: Annotated[int, Field(description="rank, from 0")]
    text: Annotated[str, Field(description="the rest of the name, past what is typed")]


class Candidate(BaseModel):
    """A whole name for the place of the cursor, and why it stands where it stands."""

    text: str
    score: Annotated[float, Field(description="log probability, nats")]
    source: Annotated[str, Field(description="the part of the mixture that favoured it most")]
    parts: Annotated[
        dict[str, float],
        Field(description="part -> its own log probability, nats; left out: no chance at all"),
    ]
    start: Annotated[int, Field(description="of what it replaces, in code points of the prefix")]
    end: Annotated[int, Field(description="one past what it replaces: the cursor")]
    role: Annotated[
        str | None, Field(description="what the name mostly does; null: seen nowhere as yet")
    ]
    type: Annotated[
        str | None, Field(description="that it is mostly declared with; null: with none")
    ]


class CompletionAnswer(BaseModel):
    """The candidates, best first."""

    id: str
    choices: Annotated[
        list[Choice], Field(description="of the candidates, those that go on as is typed")
    ]
    candidates: list[Candidate]
    used_model: Annotated[bool, Field(description="whether the neural model took part")]

    @classmethod
    def of(cls, result: CompletionResult, *, source: str, identifier: str) -> CompletionAnswer:
        """Return a completer's result for a source as it is sent.

        A choice is put behind what is typed: a name in another case is a candidate alone.
        """
        completions = result.completions
        remainders = [
            completion.text.removeprefix(typed)
            for completion in completions
            if completion.text.startswith(typed := source[completion.start : completion.end])
        ]
        return cls(
            id=identifier,
            choices=[Choice(index=index, text=text) for index, text in enumerate(remainders)],
            candidates=[
                Candidate(
                    text=completion.text,
                    score=completion.score,
                    source=completion.source,
                    parts={
                        part: score
                        for part, score in completion.parts.items()
                        if math.isfinite(score)
                    },
                    start=completion.start,
                    end=completion.end,
                    role=None if completion.role is None else completion.role.name.lower(),
                    type=completion.type,
                )
                for completion in completions
            ],
            used_model=result.used_model,
        )


class Health(BaseModel):
    """The state of the service in one word."""

    status: str


class Version(BaseModel):
    """Of the service, under Tabby's name for it."""

    git_describe: str


class ModelHealth(BaseModel):
    """What Tabby's clients ask before their first completion."""

    model: Annotated[str, Field(description="kind of model")]
    device: Annotated[str, Field(description="that the model runs on: cpu or cuda")]
    arch: Annotated[str, Field(description="of the processor")]
    cpu_count: int
    version: Version


class Problem(BaseModel):
    """What is wrong with a request."""

    code: Annotated[str, Field(description="for programs")]
    message: Annotated[str, Field(description="for people; never holds source text")]


class ProblemAnswer(BaseModel):
    """Every answer with a status of 400 or more."""

    error: Problem


def new_identifier() -> str:
    """Return the name of an answer, which is never given twice."""
    return f"cmpl-{uuid.uuid4().hex}"


def _without_surrogates(text: str) -> str:
    """Halves of characters, which JSON can hold and UTF-8 cannot, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
