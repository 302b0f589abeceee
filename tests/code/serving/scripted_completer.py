"""A completer whose forward pass the test holds and lets go."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.completion.completion import (
    Completion,
    CompletionRequest,
    CompletionResult,
)
from seqmlm_domains.code.completion.project import Project

_PATIENCE_S = 30.0


def request(name: str) -> CompletionRequest:
    """A request that is told from others by its source."""
    return CompletionRequest(source=name, offset=len(name), language="python")


def named(text: str, *, used_model: bool = True) -> CompletionResult:
    """The answer of one completion."""
    completion = Completion(
        text=text, start=0, end=0, word_end=0, score=0.0, source="model", parts={}
    )
    return CompletionResult(completions=(completion,), used_model=used_model)


class ScriptedCompleter(Completer):
    """Answers every request with its own source; :attr:`passes` lists what each pass was for.

    Args:
        poison: source -> what a pass that holds it raises.
        is_held: a pass waits for :meth:`let_go`.
        label: put before every answer of this completer.
        project: what is said to be known.
    """

    def __init__(
        self,
        *,
        poison: dict[str, BaseException] | None = None,
        is_held: bool = False,
        label: str = "",
        project: Project | None = None,
    ) -> None:
        self.project = project or Project.unknown()
        self.passes: list[list[str]] = []
        self.pass_began = threading.Event()
        self._may_go_on = threading.Event()
        self._poison, self._label = poison or {}, label
        if not is_held:
            self.let_go()

    def let_go(self) -> None:
        """Let the pass that is held, and all later ones, go on."""
        self._may_go_on.set()

    def complete_batch(self, requests: Sequence[CompletionRequest]) -> list[CompletionResult]:
        sources = [asked.source for asked in requests]
        self.passes.append(sources)
        self.pass_began.set()
        assert self._may_go_on.wait(_PATIENCE_S)
        for source in sources:
            if source in self._poison:
                raise self._poison[source]
        return [named(self._label + source) for source in sources]

    def complete_lexically(self, request: CompletionRequest) -> CompletionResult:
        return named(self._label + request.source, used_model=False)
