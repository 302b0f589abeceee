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
    from seqmlm.inference.embedding_folder import read_embeddings
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
    "read_embeddings": "seqmlm.inference.embedding_folder",
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
    "from_pretrained",
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


def from_pretrained(
    name: str, *, revision: str | None = None, device: str = "cpu", backend: str = "auto"
) -> Model:
    """Return a Hugging Face model, ESM-2, BERT, RoBERTa or ModernBERT, as one of seqmlm.

    Args:
        name: of a folder, or of a repository on the hub such as ``facebook/esm2_t6_8M_UR50D``,
            which takes the extra ``hf``.
        revision: branch, tag or commit of the repository.
        device: where the model is put.
        backend: of the kernels.

    Raises:
        CheckpointError: there is no such model, it cannot be fetched, or it is damaged.
        ConfigError: the architecture cannot be imported, or huggingface_hub is not installed.
    """
    from seqmlm.interop.hub import import_pretrained

    return import_pretrained(name, revision=revision, backend=backend).model.to(device)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'seqmlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
