"""Every choice of a fine-tuning run, as data: TOML in, validated, written back resolved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import ConfigDict, Field

from seqmlm.config import (
    NonNegative,
    OptimizerSection,
    Positive,
    Section,
    Share,
    apply_override,
    merge,
    read_config_file,
    validate_as,
)
from seqmlm.errors import ConfigError
from seqmlm.finetuning.task import TASKS


class TaskSection(Section):
    """[task]: the name, and the options that the task's constructor takes."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str


class LabelledDataSection(Section):
    """[data]: the labelled files, what is held out, and how long a row may be."""

    train: str
    validation: str = ""
    test: str = ""
    validation_fraction: Annotated[
        Share, Field(description="of the training file, where no validation file is given")
    ] = 0.1
    max_length: Annotated[
        NonNegative, Field(description="tokens per row; 0 for what the model was trained on")
    ] = 0


class FineTuningSection(Section):
    """[training]: how long, how much at once, what is trained, and where."""

    epochs: Positive = 10
    tokens_per_batch: Positive = 1024
    micro_batches: Positive = 1
    frozen_layers: Annotated[
        NonNegative, Field(description="that keep their weights, with the embeddings below them")
    ] = 0
    from_scratch: Annotated[
        bool, Field(description="random weights instead of the trained ones: the baseline")
    ] = False
    dropout: Annotated[Share, Field(description="of encoder and head")] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    backend: Literal["auto", "reference", "torch", "triton"] = "auto"
    log_every: Positive = 10
    non_finite_limit: Positive = 3


class FineTuningOptimizerSection(Section):
    """[optimizer]: AdamW, a linear warm-up, and a decay to 0."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: Share = 0.1
    betas: tuple[Share, Share] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip_norm: Annotated[float, Field(gt=0)] = 1.0

    def for_steps(self, steps: int) -> OptimizerSection:
        """Return the same choices for a run of so many steps."""
        is_linear = self.schedule == "linear"
        return OptimizerSection(
            learning_rate=self.learning_rate,
            betas=self.betas,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            # Warm-up, nothing stable, then a straight line to 0.
            schedule="warmup_stable_decay" if is_linear else self.schedule,  # type: ignore[arg-type]
            decay_fraction=1.0,
            final_fraction=0.0,
            warmup_steps=round(self.warmup_fraction * steps),
        )


class FineTuningConfig(Section):
    """One complete fine-tuning run.

    ``model`` is the folder of the trained run.
    """

    model: str
    task: TaskSection
    data: LabelledDataSection
    training: FineTuningSection = FineTuningSection()
    optimizer: FineTuningOptimizerSection = FineTuningOptimizerSection()

    def resolved(self) -> FineTuningConfig:
        """Return it with absolute paths, which another working directory does not change."""
        files = ("train", "validation", "test")
        given = {name: path for name in files if (path := getattr(self.data, name))}
        data = {name: os.path.abspath(path) for name, path in given.items()}
        return self.model_copy(
            update={
                "model": os.path.abspath(self.model),
                "data": self.data.model_copy(update=data),
            }
        )

    def to_toml(self) -> str:
        """Return the resolved configuration; reading it back gives an equal one."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def configure_finetuning(
    model: str | Path,
    *,
    task: str | None = None,
    data: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    files: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    resumed: Path | None = None,
) -> FineTuningConfig:
    """Put a configuration together; what comes later wins.

    Args:
        model: folder of the trained run.
        task: registered name or ``module:Class``; may be left to a file.
        data: ``train``, ``validation`` and ``test`` files.
        columns: column of each role of the task, such as ``text`` or ``label``.
        files: TOML.
        overrides: ``section.key=value``.
        resumed: ``config.toml`` of the run to go on with.

    Raises:
        ConfigError: no task, a file cannot be read, or a setting is not allowed.
    """
    settings: dict[str, Any] = {}
    for path in ([] if resumed is None else [resumed]) + list(files):
        settings = merge(settings, read_config_file(path))
    settings = merge(settings, {"model": str(model)})
    if data:
        settings = merge(settings, {"data": dict(data)})
    if task is not None:
        settings = merge(settings, {"task": {"name": task}})
    for assignment in overrides:
        apply_override(settings, assignment)
    if not isinstance(settings.get("task"), Mapping) or "name" not in settings["task"]:
        raise ConfigError(f"No task: say --task NAME, one of {', '.join(TASKS.names())}.")
    roles = {f"{role}_column": column for role, column in (columns or {}).items()}
    return validate_as(FineTuningConfig, merge(settings, {"task": roles}))
