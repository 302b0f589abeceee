"""Everything a fine-tuning run needs before its first step, made from its configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from seqmlm.config import OptimizerSection, read_config_file
from seqmlm.data.order import EpochOrder, deal
from seqmlm.data.packing import PackedBatch, pack
from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.finetuning.records import LabelledRecord
from seqmlm.finetuning.settings import FineTuningConfig
from seqmlm.finetuning.task import TASKS, Example, LeftOutError, Task
from seqmlm.model.model import Model
from seqmlm.randomness import Purpose, stream
from seqmlm.training.distributed import Processes
from seqmlm.training.optimizer import build_optimizer
from seqmlm.training.step import LossModule, Stepper

DEFAULT_MAX_LENGTH = 512
DEFAULT_BATCH_ITEMS = 32
DEFAULT_BATCH_TOKENS = 1024


@dataclass(frozen=True)
class LabelledPart:
    """The items of one part of the data.

    Args:
        records: all of them, as read.
        examples: those that can be encoded, with the position of each in ``records``.
        report: what became of them.
    """

    records: Sequence[LabelledRecord]
    examples: Sequence[tuple[int, Example[Any]]]
    report: ReadReport

    def with_truth(self) -> list[Example[Any]]:
        """Return the examples that have a label."""
        return [example for _, example in self.examples if example.truth is not None]

    def judged(self, answers: Sequence[Any]) -> tuple[list[Example[Any]], list[Any]]:
        """Return the examples that have a label, and their answers out of all."""
        kept = [
            answer
            for (_, example), answer in zip(self.examples, answers, strict=True)
            if example.truth is not None
        ]
        return self.with_truth(), kept


@dataclass(frozen=True)
class FineTuningWorkload:
    """Data, model and optimizer of one fine-tuning run on one rank."""

    config: FineTuningConfig
    task: Task[Any, Any]
    max_length: int
    parts: dict[str, LabelledPart]
    trained_on: list[Example[Any]]
    order: EpochOrder
    steps: int
    optimizer: OptimizerSection
    model: Model
    stepper: Stepper
    processes: Processes
    identity: dict[str, str | int | float]

    def batches(self, epoch: int) -> Iterator[list[PackedBatch]]:
        """Yield this rank's micro-batches of every step of an epoch."""
        micro_batches = self.config.training.micro_batches
        for chosen in self.order.batches(epoch):
            parts = deal(chosen, self.processes.world_size * micro_batches)
            mine = parts[self.processes.rank * micro_batches :][:micro_batches]
            yield [
                pack([row for index in part.tolist() for row in self.trained_on[index].rows])
                for part in mine
            ]

    def seed_modules(self, step: int) -> None:
        """Give dropout a stream of its own at every step and rank: nothing to save or restore."""
        generator = stream(
            self.config.training.seed, Purpose.MODULES, epoch=step, sample=self.processes.rank
        )
        torch.manual_seed(int(generator.integers(2**63)))

    def describe(self) -> list[str]:
        """Say in a few lines what is about to be trained on what."""
        lines = [
            f"{name}: {line}" for name, part in self.parts.items() for line in part.report.lines()
        ]
        learned = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.model.parameters())
        weights = "random weights" if self.config.training.from_scratch else self.config.model
        return [
            *lines,
            f"{self.task.name}: {learned:,} of {total:,} parameters are trained, from {weights}; "
            f"{self.steps:,} steps of at most {self.order.tokens_per_batch:,} tokens in "
            f"{self.config.training.epochs} epochs on {self.processes.device}, learning rate up to "
            f"{self.optimizer.learning_rate:.2g}",
        ]


def prepare_finetuning(config: FineTuningConfig, processes: Processes) -> FineTuningWorkload:
    """Read the data, hold out a part, give the trained model a head.

    Raises:
        ConfigError: the parts of the configuration do not fit one another.
        DataError: the data cannot be used.
        CheckpointError: there is no trained model.
    """
    training = config.training
    base = Model.load(config.model, device=processes.device, backend=training.backend)
    task = build_task(config, base.domain)
    max_length = _max_length(config, base)
    parts = _read_parts(config, task, max_length)
    trained_on = [example for _, example in parts["train"].examples if example.can_train]
    if not trained_on:
        raise DataError(f"{config.data.train}: no item can be trained on.")
    torch.manual_seed(training.seed)
    model = build_model(base, task, config).to(processes.device)
    lengths = np.array([example.num_tokens for example in trained_on], np.int64)
    order = EpochOrder(
        records=np.arange(len(trained_on)),
        lengths=lengths,
        groups=np.zeros(len(trained_on), np.int64),
        sampling="record",
        tokens_per_batch=training.tokens_per_batch or default_tokens_per_batch(lengths),
        seed=training.seed,
    )
    steps = sum(len(list(order.batches(epoch))) for epoch in range(training.epochs))
    optimizer = config.optimizer.for_run(
        steps, hidden_size=model.encoder.config.hidden_size, from_scratch=training.from_scratch
    )
    return FineTuningWorkload(
        config=config,
        task=task,
        max_length=max_length,
        parts=parts,
        trained_on=trained_on,
        order=order,
        steps=steps,
        optimizer=optimizer,
        model=model,
        stepper=_build_stepper(config, model, task, optimizer, processes),
        processes=processes,
        identity=_identity(config, base, processes),
    )


def default_tokens_per_batch(lengths: npt.NDArray[np.int64]) -> int:
    """Return 32 items of mean length, as BERT was fine-tuned, but 1,024 tokens at most.

    A thousand tokens are 50 to 80 of banking77's short questions: of a few hundred examples, that
    leaves too few steps.

    Args:
        lengths: int64 ``[items]``, tokens of each; at least one.
    """
    return min(math.ceil(DEFAULT_BATCH_ITEMS * float(lengths.mean())), DEFAULT_BATCH_TOKENS)


def build_task(config: FineTuningConfig, domain: Domain) -> Task[Any, Any]:
    """Construct the task of a configuration.

    Raises:
        ConfigError: an unknown name or option.
    """
    task: Task[Any, Any] = TASKS.build(config.task.model_dump(), domain, where="task")
    return task


def build_model(base: Model, task: Task[Any, Any], config: FineTuningConfig) -> Model:
    """Return the model with the task's head on the trained encoder, or on a random one.

    The token head is kept as it is: it is neither used nor trained.

    Raises:
        ConfigError: more layers are to be frozen than there are.
    """
    training = config.training
    model = Model(
        base.domain,
        dataclasses.replace(base.encoder.config, dropout=training.dropout),
        head_transform=base.head_transform,
        heads={task.name: task.head_config(dropout=training.dropout)},
        trained_objectives=() if training.from_scratch else base.trained_objectives,
        backend=training.backend,
    )
    if not training.from_scratch:
        model.encoder.load_state_dict(base.encoder.state_dict())
        model.token_head.load_state_dict(base.token_head.state_dict())
    model.token_head.requires_grad_(False)
    _freeze(model, training.frozen_layers)
    return model


def encode_part(
    task: Task[Any, Any], records: Sequence[LabelledRecord], *, max_length: int, labelled: bool
) -> LabelledPart:
    """Encode items; those that cannot be are counted.

    Args:
        task: of the items.
        records: of one file.
        max_length: tokens per row.
        labelled: whether items without a label are to be counted too.

    Raises:
        DataError: a label cannot be used.
    """
    report = ReadReport(read=len(records))
    examples = []
    for position, record in enumerate(records):
        try:
            example = task.encode(record, max_length=max_length, report=report)
        except LeftOutError as error:
            report.drop(error.reason, error.place)
            continue
        examples.append((position, example))
        if labelled and example.truth is None:
            report.note("without a label: not judged", record.place)
    return LabelledPart(records, examples, report)


def _read_parts(
    config: FineTuningConfig, task: Task[Any, Any], max_length: int
) -> dict[str, LabelledPart]:
    data = config.data
    records = {"train": task.read(data.train, labelled=True)}
    task.learn(records["train"])
    if data.validation:
        records["validation"] = task.read(data.validation, labelled=True)
    elif data.validation_fraction:
        records["train"], records["validation"] = _hold_out(
            task, records["train"], data.validation_fraction, config.training.seed
        )
    if data.test:
        records["test"] = task.read(data.test, labelled=True)
    return {
        name: encode_part(task, part, max_length=max_length, labelled=True)
        for name, part in records.items()
    }


def _hold_out(
    task: Task[Any, Any], records: Sequence[LabelledRecord], fraction: float, seed: int
) -> tuple[list[LabelledRecord], list[LabelledRecord]]:
    """Whole groups at random, until the fraction of the items is reached."""
    names = [task.group_of(record) for record in records]
    groups, members = np.unique(names, return_inverse=True)
    sizes = np.bincount(members)
    order = stream(seed, Purpose.SPLIT).permutation(len(groups))
    count = int(np.searchsorted(np.cumsum(sizes[order]), fraction * len(records), side="right"))
    if len(groups) < 2:
        raise ConfigError(
            f"data.validation_fraction = {fraction}: all {len(records)} items belong together "
            f"({task.belongs_to} {str(groups[0])!r}), so none can be held out. Give a validation "
            "file, or set it to 0."
        )
    is_held_out = np.isin(members, order[: max(count, 1)])
    pairs = list(zip(records, is_held_out.tolist(), strict=True))
    return [record for record, out in pairs if not out], [record for record, out in pairs if out]


def _max_length(config: FineTuningConfig, base: Model) -> int:
    """What is asked for, else what the model was trained on."""
    learned = base.encoder.config.longest_sequence
    asked = config.data.max_length
    if learned and asked > learned:
        raise ConfigError(
            f"data.max_length = {asked}: this model has learned {learned} positions only."
        )
    if asked:
        return asked
    path = Path(config.model) / "config.toml"
    section = read_config_file(path).get("data", {}) if path.is_file() else {}
    return int(section.get("max_length", 0)) or learned or DEFAULT_MAX_LENGTH


def _freeze(model: Model, layers: int) -> None:
    """Keep the weights of the embeddings and the first layers; nothing for 0."""
    encoder = model.encoder
    count = len(encoder.layers)
    if layers > count:
        raise ConfigError(f"training.frozen_layers = {layers}: the encoder has {count} layers.")
    if not layers:
        return
    encoder.requires_grad_(False)
    for layer in encoder.layers[layers:]:
        layer.requires_grad_(True)
    encoder.final_norm.requires_grad_(layers < count)


def _build_stepper(
    config: FineTuningConfig, model: Model, task: Task[Any, Any], section: OptimizerSection,
    processes: Processes,
) -> Stepper:  # fmt: skip
    return Stepper(
        module=processes.parallelise(LossModule(model, [task])),
        objectives=[task],
        weights=torch.ones(1, device=processes.device),
        optimizer=build_optimizer(model, section),
        processes=processes,
        clip_norm=section.clip_norm,
        autocast=config.training.precision == "bfloat16",
    )


def _identity(
    config: FineTuningConfig, base: Model, processes: Processes
) -> dict[str, str | int | float]:
    """What decides the numbers that the run computes; resuming with another is refused."""
    identity: dict[str, str | int | float] = {
        "model": base.fingerprint(),
        "settings": json.dumps(
            config.model_dump(exclude={"model": True, "data": {"train", "validation", "test"}}),
            sort_keys=True,
        ),
        "device": processes.device.type,
        "world_size": processes.world_size,
        "threads": torch.get_num_threads(),
    }
    for name in ("train", "validation", "test"):
        if path := getattr(config.data, name):
            identity[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    return identity
