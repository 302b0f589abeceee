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

HIGHEST_RATE = 2e-3
BERT_RATE, BERT_HIDDEN_SIZE = 3e-5, 768
RANDOM_WEIGHTS_RATE = 1e-3


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
    tokens_per_batch: Annotated[
        NonNegative, Field(description="0 for 32 items of mean length, but 1,024 at most")
    ] = 0
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

    learning_rate: Annotated[
        float, Field(ge=0, description="the peak; 0 for what suits the model's width")
    ] = 0.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: Share = 0.1
    betas: tuple[Share, Share] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip_norm: Annotated[float, Field(gt=0)] = 1.0

    def for_run(self, steps: int, *, hidden_size: int, from_scratch: bool) -> OptimizerSection:
        """Return the same choices for one run.

        Args:
            steps: of the run.
            hidden_size: of the encoder; see :func:`default_learning_rate`, as for the next.
            from_scratch: whether the weights are random.
        """
        return OptimizerSection(
            learning_rate=self.learning_rate
            or default_learning_rate(hidden_size, from_scratch=from_scratch),
            betas=self.betas,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            schedule=self.schedule,
            final_fraction=0.0,
            warmup_steps=round(self.warmup_fraction * steps),
        )


def default_learning_rate(hidden_size: int, *, from_scratch: bool) -> float:
    """Return the peak that suits an encoder of this width.

    Trained weights: 3e-5 x (768 / hidden_size)^2, at most 2e-3, which goes through 3e-5 of
    BERT-base (arXiv 1810.04805), 3e-4 of ELECTRA-small, 256 wide (arXiv 2003.10555), and 1e-5 to
    3e-5 of RoBERTa-large, 1024 wide (arXiv 1907.11692); ELECTRA's larger models took three times
    as much. Random weights: the same, but at least 1e-3, what ``seqmlm train`` takes, so that the
    baseline is a fair one.

    Too low a rate costs a small trained model more than random weights. A short training leaves
    embeddings in few directions (participation ratio 4 to 7 of 96, random ones 92), so what tells
    words apart must be learned anew; shuffling the same weights made them as quick as random ones.

    Measured on banking77, 2 layers of 96, mean test accuracy of three seeds, 5e-4 and 1,024 tokens
    a step -> this and 32 items a step. After 300 steps of mlm on its questions: 8 labels, 4 epochs
    .51 -> .96 (random weights .69 -> .98); 20 labels of 20 examples, 10 epochs .44 -> .81 (.63 ->
    .85); after 850 steps .97 and .83. After 250 steps of three objectives on WikiText-2, worse
    than counting: .49 -> .96 (.86 -> .98) and .36 -> .74 (.78 -> .88). So short a training did not
    pay off at any rate from 5e-4 to 4e-3. Widths above 128 were not measured.
    """
    by_width = min(BERT_RATE * (BERT_HIDDEN_SIZE / hidden_size) ** 2, HIGHEST_RATE)
    return max(by_width, RANDOM_WEIGHTS_RATE) if from_scratch else by_width


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
