"""Reading the completer of a server, which no garbage collection may hold up."""

from __future__ import annotations

import gc
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
    completer = _import_completer(settings.device)
    return completer.load(run, backend=settings.backend, device=settings.device)


@cache
def _import_completer(device: str) -> type[Completer]:
    """Import the completer, and exempt all that is there by then from garbage collections.

    A full collection stops every thread while it looks at each object: 230,000 of the libraries,
    which stay, take 180 ms; the thousand of a model take none. A model is read after this, so that
    one that has been exchanged is collected: it refers to itself.
    """
    from seqmlm.training.distributed import choose_device
    from seqmlm_domains.code.completion.completer import Completer, import_what_operators_need

    import_what_operators_need(choose_device(device))
    gc.freeze()
    return Completer
