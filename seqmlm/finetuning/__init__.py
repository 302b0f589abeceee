"""Labelled tasks on a trained encoder: fine-tuning, predictions, the field's metrics."""

from __future__ import annotations

from seqmlm.finetuning.fine_tuned import FineTunedModel
from seqmlm.finetuning.loop import finetune
from seqmlm.finetuning.settings import configure_finetuning

__all__ = ["FineTunedModel", "configure_finetuning", "finetune"]
