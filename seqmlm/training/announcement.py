"""What a run is about to do, in a few lines for people."""

from __future__ import annotations

from seqmlm.training.workload import Workload


def describe(work: Workload) -> list[str]:
    """Say in a few lines what is about to be trained on what."""
    split, settings = work.split, work.config
    parameters = sum(parameter.numel() for parameter in work.model.parameters())
    held_out = "nothing held out: there will be no validation"
    if len(split.validation):
        held_out = f"{len(split.validation):,} held out"
    if len(split.validation) and not work.samples:
        held_out += ", too short to hide a token of: there will be no validation"
    if split.num_too_close:
        held_out += f" ({split.num_too_close:,} more have a close neighbour in training: left out)"
    if split.leakage:
        held_out += f", {split.leakage:.1%} of them with a close neighbour in training"
    lines = [
        *work.store.report.lines(),
        *([] if work.warm_start is None else work.warm_start.lines()),
        f"{split.num_groups:,} similarity groups; {len(split.train):,} records to train on, "
        f"{held_out}",
        f"{parameters:,} parameters, {settings.training.steps:,} steps of at most "
        f"{settings.training.tokens_per_batch:,} tokens, on {work.processes.device}",
    ]
    is_long = work.domain.uncut_lengths(work.store) > settings.data.max_length
    if num_long := int(is_long.sum()):
        lines.append(
            f"{num_long:,} records are longer than data.max_length = {settings.data.max_length}: "
            f"{work.domain.what_is_cut}"
        )
    if settings.optimizer.warmup_steps >= settings.training.steps:
        lines.append(
            f"optimizer.warmup_steps = {settings.optimizer.warmup_steps} is not less than "
            f"training.steps = {settings.training.steps}: the learning rate stays below its peak"
        )
    lines += _idle_objectives(work)
    training = settings.training
    if not len(split.validation) and (training.select == "best" or training.patience):
        lines.append("nothing held out: the last model is exported, and no step ends the run early")
    return lines


def _idle_objectives(work: Workload) -> list[str]:
    """Name the objectives whose turn comes after the last step; all epochs are about as long."""
    schedule, steps = work.builder.schedule, work.config.training.steps
    if schedule is None or not schedule.never_active(1):
        return []
    batches = sum(1 for _ in work.order.batches(0))
    epochs = -(-steps // batches)
    names = [work.builder.objectives[index].name for index in schedule.never_active(epochs)]
    if not names:
        return []
    return [
        f"schedule.blocks: {', '.join(names)} will never be trained: training.steps = {steps:,} "
        f"ends in epoch {epochs:,}, at about {batches:,} batches an epoch. Train longer, or put "
        "its block first"
    ]
