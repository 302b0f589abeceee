"""What the HTTP service is sent and what it answers; Tabby's names where Tabby has one."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from pathlib import PurePath
from typing import Annotated

from pydantic import BaseModel, Field

from seqmlm.errors import UnknownNameError
from seqmlm_domains.code.completion.completion import (
    Completion,
    CompletionRequest,
    CompletionResult,
    roles_named,
)
from seqmlm_domains.code.languages import LANGUAGES, SUFFIXES, language_of
from seqmlm_domains.code.serving.language_names import language_named


class LanguageNotSaid(Exception):
    """Neither the request nor the run tells the language of a text."""

    def __init__(self) -> None:
        super().__init__(
            "Say the language, or segments.filepath with a suffix of one that is known: "
            f"{', '.join(sorted(SUFFIXES))}."
        )


class Segments(BaseModel):
    """The text on both sides of the cursor. Tabby's other fields are accepted and not used."""

    filepath: Annotated[
        str | None,
        Field(max_length=4_096, description="its suffix tells the language, unless that is said"),
    ] = None

    prefix: Annotated[str, Field(description="from the start of the file to the cursor")]
    suffix: Annotated[str | None, Field(description="from the cursor to the end of the file")] = (
        None
    )


class CompletionBody(BaseModel):
    """A place in a file where a name is due. Tabby's other fields are accepted and not used."""

    language: Annotated[
        str | None,
        Field(
            max_length=64,
            description=f"one of {', '.join(sorted(LANGUAGES))}, a suffix such as py, or an "
            "editor's name for one; else what segments.filepath says, else the only language that "
            "the run was fitted to",
        ),
    ] = None
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
        Field(
            description="answer by server-sent events: `lexical`, then `model` if it is in time, "
            "each with an answer; then `done` with its `id` and `used_model`, or `error`"
        ),
    ] = False

    def request(self, *, limit: int, fitted: Collection[str]) -> CompletionRequest:
        """Return the completer's request.

        Args:
            limit: most candidates, unless the body says otherwise.
            fitted: languages that the run was fitted to.

        Raises:
            UnknownNameError: there is no such language or role.
            LanguageNotSaid: neither the body nor the run tells the language.
        """
        language = self._language(fitted)
        prefix = _without_surrogates(self.segments.prefix)
        return CompletionRequest(
            source=prefix + _without_surrogates(self.segments.suffix or ""),
            offset=len(prefix),
            language=language,
            limit=self.limit or limit,
            roles=None if self.roles is None else roles_named(self.roles),
            types=None if self.types is None else frozenset(self.types),
        )

    def _language(self, fitted: Collection[str]) -> str:
        if self.language is not None:
            named = language_named(self.language)
            if named is None:
                raise UnknownNameError("language", self.language.lower(), LANGUAGES)
            return named
        path = PurePath(self.segments.filepath or "")
        if path.suffix:
            of_suffix = language_of(path.name)
            if of_suffix is not None:
                return of_suffix.name
        elif len(fitted) == 1:
            return next(iter(fitted))
        raise LanguageNotSaid


class Choice(BaseModel):
    """What to insert at the cursor."""

    index: Annotated[int, Field(description="rank, from 0")]
    text: Annotated[
        str, Field(description="the rest of the name, without what stands on either side of it")
    ]


class Candidate(BaseModel):
    """A whole name for the place of the cursor, and why it stands where it stands."""

    text: str
    score: Annotated[float, Field(description="log probability, nats")]
    source: Annotated[
        str,
        Field(description="the part of the mixture that favoured it most; only: nothing else fits"),
    ]
    parts: Annotated[
        dict[str, float],
        Field(
            description="part -> what it adds to the score, less what it adds to that of the "
            "average candidate, nats; they add up"
        ),
    ]
    start: Annotated[int, Field(description="of what it replaces, in code points of the prefix")]
    end: Annotated[int, Field(description="one past what is typed of it: the cursor")]
    word_end: Annotated[
        int,
        Field(
            description="one past the word that the cursor stands in, in code points of prefix and "
            "suffix; more than end where that goes on behind the cursor: replace all of it, or its "
            "rest is left behind the name"
        ),
    ]
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
        list[Choice],
        Field(description="of the candidates, those that are there once something is inserted"),
    ]
    candidates: list[Candidate]
    used_model: Annotated[bool, Field(description="whether the neural model took part")]
    notice: Annotated[
        str | None,
        Field(
            description="for people: that the run knows no names of this language; null: it does"
        ),
    ]

    @classmethod
    def of(
        cls, result: CompletionResult, *, source: str, identifier: str, notice: str | None
    ) -> CompletionAnswer:
        """Return a completer's result for a source as it is sent.

        A choice is put at the cursor: a name in another case than what is typed, or with another
        end than the word there, is a candidate alone.
        """
        completions = result.completions
        inserted = [_inserted(completion, source) for completion in completions]
        remainders = [text for text in inserted if text is not None]
        return cls(
            id=identifier,
            choices=[Choice(index=index, text=text) for index, text in enumerate(remainders)],
            candidates=[
                Candidate(
                    text=completion.text,
                    score=completion.score,
                    source=completion.source,
                    parts=dict(completion.parts),
                    start=completion.start,
                    end=completion.end,
                    word_end=completion.word_end,
                    role=None if completion.role is None else completion.role.name.lower(),
                    type=completion.type,
                )
                for completion in completions
            ],
            used_model=result.used_model,
            notice=notice,
        )


class StreamEnd(BaseModel):
    """The last event of a stream that was answered to its end."""

    id: str
    used_model: Annotated[bool, Field(description="whether the model has answered in time")]


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
    languages: Annotated[
        list[str], Field(description="that the run was fitted to; all if it was to none")
    ]


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


def _inserted(completion: Completion, source: str) -> str | None:
    """What makes the name of the word that is there, put at the cursor; None if nothing does."""
    typed = source[completion.start : completion.end]
    rest = source[completion.end : completion.word_end]
    is_around = completion.text.startswith(typed) and completion.text.endswith(rest)
    if not is_around or len(completion.text) < len(typed) + len(rest):
        return None
    return completion.text.removeprefix(typed).removesuffix(rest)


def _without_surrogates(text: str) -> str:
    """Halves of characters, which JSON can hold and UTF-8 cannot, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
