"""Type of the fixture that connects clients to a language service of this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.raw_client import RawClient


class Connect(Protocol):
    """Starts a language service with a completer, and returns a client of it."""

    def __call__(
        self,
        completer: Completer,
        *,
        settings: ServerSettings | None = None,
        capacity: int = 64,
        reload: Callable[[], Completer] | None = None,
    ) -> Awaitable[RawClient]: ...
