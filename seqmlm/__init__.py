"""Masked modelling of any discrete sequence: proteins, text, source code, knowledge graphs.

Public names are loaded when first used, so that importing the package costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqmlm.config import configure
    from seqmlm.data.report import ReadReport
    from seqmlm.domain import Domain, Record, TokenBlock
    from seqmlm.encoding import Encoding
    from seqmlm.errors import DataError, SeqmlmError
    from seqmlm.finetuning.fine_tuned import FineTunedModel
    from seqmlm.finetuning.loop import finetune
    from seqmlm.finetuning.settings import configure_finetuning
    from seqmlm.inference.embedding_file import read_embeddings
    from seqmlm.model.model import Model
    from seqmlm.training.loop import train
    from seqmlm.vocabulary import AllowedTokens, SpecialTokens, Vocabulary

__version__ = "0.1.0"

_HOMES = {
    "AllowedTokens": "seqmlm.vocabulary",
    "DataError": "seqmlm.errors",
    "Domain": "seqmlm.domain",
    "Encoding": "seqmlm.encoding",
    "FineTunedModel": "seqmlm.finetuning.fine_tuned",
    "Model": "seqmlm.model.model",
    "ReadReport": "seqmlm.data.report",
    "Record": "seqmlm.domain",
    "SeqmlmError": "seqmlm.errors",
    "SpecialTokens": "seqmlm.vocabulary",
    "TokenBlock": "seqmlm.domain",
    "Vocabulary": "seqmlm.vocabulary",
    "configure": "seqmlm.config",
    "configure_finetuning": "seqmlm.finetuning.settings",
    "finetune": "seqmlm.finetuning.loop",
    "read_embeddings": "seqmlm.inference.embedding_file",
    "train": "seqmlm.training.loop",
}

__all__ = [
    "AllowedTokens",
    "DataError",
    "Domain",
    "Encoding",
    "FineTunedModel",
    "Model",
    "ReadReport",
    "Record",
    "SeqmlmError",
    "SpecialTokens",
    "TokenBlock",
    "Vocabulary",
    "configure",
    "configure_finetuning",
    "finetune",
    "load",
    "read_embeddings",
    "train",
]


def load(path: str, *, device: str = "cpu", backend: str = "auto") -> Model:
    """Return the trained model in a run folder, its ``model`` folder, or an exported folder.

    Raises:
        CheckpointError: there is no model, it is damaged, or its vocabulary has changed.
    """
    from seqmlm.model.model import Model

    return Model.load(path, device=device, backend=backend)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'seqmlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
