"""Source code: repositories, identifiers and their roles, and completion of their names.

Public names are loaded when first used: the command line imports this package before it needs
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqmlm_domains.code.completion.completer import Completer
    from seqmlm_domains.code.completion.completion import (
        Completion,
        CompletionRequest,
        CompletionResult,
    )

_HOMES = {
    "Completer": "completer",
    "Completion": "completion",
    "CompletionRequest": "completion",
    "CompletionResult": "completion",
}

__all__ = ["Completer", "Completion", "CompletionRequest", "CompletionResult"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.completion.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
