"""Reading the completer of a server, which no garbage collection may hold up."""

from __future__ import annotations

import gc
import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqmlm_domains.code.completion.completer import Completer
    from seqmlm_domains.code.serving.settings import ServerSettings


def load_completer(run: Path, settings: ServerSettings) -> Completer:
    """Read the completer of a run; the first time takes seconds, for torch is imported.

    Raises:
        ConfigError, CheckpointError: as of ``Completer.load``.
    """
    return _import_completer().load(run, backend=settings.backend, device=settings.device)


@cache
def _import_completer() -> type[Completer]:
    """Import the completer, and exempt all that is there by then from garbage collections.

    A full collection stops every thread while it looks at each object: 230,000 of the libraries,
    which stay, take 180 ms; the thousand of a model take none. A model is read after this, so that
    one that has been exchanged is collected: it refers to itself.
    """
    from seqmlm_domains.code.completion.completer import Completer

    # torch imports it when an operator of ours is called first: seconds, in which the first to ask
    # would get no answer of the model.
    importlib.import_module("torch._dynamo")
    gc.freeze()
    return Completer
