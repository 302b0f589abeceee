"""A run up to its first loss, without training and without a folder."""

from __future__ import annotations

import math
from collections.abc import Sequence

from seqmlm.config import RunConfig
from seqmlm.data.packing import PackedBatch
from seqmlm.errors import TrainingError
from seqmlm.masking.counts import MaskCounts
from seqmlm.objectives.rows import Objective
from seqmlm.training.announcement import describe
from seqmlm.training.distributed import processes
from seqmlm.training.workload import prepare_workload


def rehearse(config: RunConfig) -> list[str]:
    """Check the configuration, read the data, build the model, compute one loss.

    Returns:
        Lines for people: sizes, batches, and the loss of the untrained model.

    Raises:
        TrainingError: the loss of the untrained model is not finite.
        SeqmlmError: whatever else would stop the run before its first step.
    """
    with processes(config.training.device) as group:
        work = prepare_workload(config, group)
        first = next(work.batches(epoch=0, batch=0, step=0))
        batch = first.micro_batches[0].to(group.device)
        with work.model.inference():
            totals = work.stepper.module(batch).tolist()
    terms = [(each, term) for each in work.stepper.objectives for term in each.terms]
    losses = [
        _describe_loss(term, total, objective.count(batch, term))
        for (objective, term), total in zip(terms, totals, strict=True)
    ]
    return [
        *describe(work),
        f"first batch: {len(first.records):,} records, {batch.num_tokens:,} tokens",
        f"untrained loss: {', '.join(losses)}",
        *_missing_targets(work.stepper.objectives, first.micro_batches),
        "dry run: nothing was trained or written",
    ]


def _describe_loss(term: str, total: float, count: float) -> str:
    if not count:
        return f"{term} has no target"
    mean = total / count
    if not math.isfinite(mean):
        raise TrainingError(
            f"The loss {term} of the untrained model is {mean} in the first batch. Check the "
            "numbers among the options of the objective."
        )
    return f"{term} {mean:.3f} nats"


def _missing_targets(
    objectives: Sequence[Objective], micro_batches: Sequence[PackedBatch]
) -> list[str]:
    """What the run would say later, from the first batch."""
    lines = []
    for objective in objectives:
        masking = [batch.targets_for(objective.name).masking for batch in micro_batches]
        counts = sum((found for found in masking if found is not None), start=MaskCounts())
        if counts.sequences and (warning := counts.warning()):
            lines.append(f"objective {objective.name}, in the first batch: {warning}")
    return lines
