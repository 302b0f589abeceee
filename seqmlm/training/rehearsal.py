"""A run up to its first loss, without training and without a folder."""

from __future__ import annotations

from seqmlm.config import RunConfig
from seqmlm.training.announcement import describe
from seqmlm.training.distributed import processes
from seqmlm.training.workload import prepare_workload


def rehearse(config: RunConfig) -> list[str]:
    """Check the configuration, read the data, build the model, compute one loss.

    Returns:
        Lines for people: sizes, batches, and the loss of the untrained model.

    Raises:
        SeqmlmError: whatever would stop the run before its first step.
    """
    with processes(config.training.device) as group:
        work = prepare_workload(config, group)
        first = next(work.batches(epoch=0, batch=0, step=0))
        batch = first.micro_batches[0].to(group.device)
        with work.model.inference():
            totals = work.stepper.module(batch).tolist()
    terms = [(each, term) for each in work.stepper.objectives for term in each.terms]
    losses = [
        f"{term} {total / max(objective.count(batch, term), 1):.3f} nats"
        for (objective, term), total in zip(terms, totals, strict=True)
    ]
    return [
        *describe(work),
        f"first batch: {len(first.records):,} records, {batch.num_tokens:,} tokens",
        f"untrained loss: {', '.join(losses)}",
        "dry run: nothing was trained or written",
    ]
