"""Everything a run needs before its first step, made from its configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from seqmlm.config import DomainSection, RunConfig, ScheduleSection
from seqmlm.data.order import EpochOrder, deal
from seqmlm.data.packing import PackedBatch
from seqmlm.data.prepare import open_store, prepare
from seqmlm.data.samples import (
    EvaluationSample,
    SampleBuilder,
    TrainingSequences,
    evaluation_context,
    evaluation_samples,
)
from seqmlm.data.splits import Split, split_records
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain, build_domain
from seqmlm.errors import ConfigError
from seqmlm.model.model import Model, require_backend
from seqmlm.objectives.rows import Direction, Objective
from seqmlm.objectives.schedule import Schedule, build_schedule
from seqmlm.objectives.trained import causal_direction
from seqmlm.randomness import Purpose, stream
from seqmlm.training.building import build_model, build_objectives, encoder_config
from seqmlm.training.distributed import Processes
from seqmlm.training.optimizer import build_optimizer
from seqmlm.training.step import LossModule, Stepper
from seqmlm.training.warm_start import WarmStart, warm_start

OPTIONS_OF_LATER_VERSIONS: Mapping[str, object] = {
    "roles": 0,
    "first_attention_normalisation": True,
    "local_rotary_base": 0.0,
    "rotary_frequencies": [],
    "position_offset": 0,
    "head_dense_bias": True,
}
"""Not in the identity of a run when unused, so that runs begun without them can be resumed."""


@dataclass(frozen=True)
class Batch:
    """This rank's share of one optimizer step.

    Args:
        epoch: pass over the data, from 0.
        number: of the batch within the epoch, from 1.
        records: int64, all record numbers of the step, over all ranks.
        micro_batches: what this rank computes.
    """

    epoch: int
    number: int
    records: npt.NDArray[np.int64]
    micro_batches: list[PackedBatch]


@dataclass(frozen=True)
class Workload:
    """Data, model and optimizer of one run on one rank."""

    config: RunConfig
    domain: Domain
    store: TokenStore
    split: Split
    order: EpochOrder
    builder: SampleBuilder
    samples: list[EvaluationSample]
    direction: Direction | None
    model: Model
    stepper: Stepper
    processes: Processes
    warm_start: WarmStart | None = None

    def batches(self, *, epoch: int, batch: int, step: int) -> Generator[Batch]:
        """Yield this rank's batches without end, one prepared ahead in a thread.

        Args:
            epoch: to start in.
            batch: how many batches of that epoch are done already.
            step: how many batches of the run are done already; objectives that change over the
                run need it.
        """
        upcoming = self._upcoming(epoch, batch, step)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as executor:
            future = executor.submit(self._build, next(upcoming))
            while True:
                built = future.result()
                future = executor.submit(self._build, next(upcoming))
                yield built

    def identity(self) -> dict[str, str | int | float]:
        """What decides the numbers that the run computes; resuming with another is refused."""
        settings = self.config
        objectives = [item.model_dump() for item in settings.objectives]
        identity: dict[str, str | int | float] = {
            "vocabulary": self.domain.vocabulary.fingerprint(),
            "data": self.store.fingerprint,
            "domain": _compact(settings.domain.model_dump()),
            "data_settings": _compact(settings.data.model_dump(exclude={"sources"})),
            "split": self.split.fingerprint,
            "model": _compact(
                {
                    k: v
                    for k, v in settings.model.model_dump().items()
                    if not (k in OPTIONS_OF_LATER_VERSIONS and v == OPTIONS_OF_LATER_VERSIONS[k])
                }
            ),
            "objectives": _compact(
                [
                    {k: v for k, v in item.items() if v or k not in ("label", "rows_of")}
                    for item in objectives
                ]
            ),
            "optimizer": _compact(settings.optimizer.model_dump()),
            "tokens_per_batch": settings.training.tokens_per_batch,
            "micro_batches": settings.training.micro_batches,
            "seed": settings.training.seed,
            "precision": settings.training.precision,
            "device": self.processes.device.type,
            "world_size": self.processes.world_size,
            "threads": torch.get_num_threads(),
        }
        if settings.schedule != ScheduleSection():
            identity["schedule"] = _compact(settings.schedule.model_dump())
        return identity

    def data_record(self) -> str:
        """What an evaluation must find unchanged to know what was held out, as JSON."""
        content = {"data": self.store.fingerprint, "split": self.split.fingerprint}
        return json.dumps(content) + "\n"

    def seed_modules(self, step: int) -> None:
        """Give dropout a stream of its own at every step and rank: nothing to save or restore."""
        generator = stream(
            self.config.training.seed, Purpose.MODULES, epoch=step, sample=self.processes.rank
        )
        torch.manual_seed(int(generator.integers(2**63)))

    def _upcoming(self, epoch: int, batch: int, step: int) -> Iterator[Upcoming]:
        for current in count(epoch):
            for number, records in enumerate(self.order.batches(current), start=1):
                if current > epoch or number > batch:
                    step += 1
                    yield Upcoming(current, number, step, records)

    def _build(self, upcoming: Upcoming) -> Batch:
        micro_batches = self.config.training.micro_batches
        parts = deal(upcoming.records, self.processes.world_size * micro_batches)
        mine = parts[self.processes.rank * micro_batches :][:micro_batches]
        last = max(self.config.training.steps - 1, 1)
        progress = min((upcoming.step - 1) / last, 1.0)
        built = [self.builder.batch(upcoming.epoch, part, progress) for part in mine]
        return Batch(upcoming.epoch, upcoming.number, upcoming.records, built)


@dataclass(frozen=True)
class Upcoming:
    """A batch that is to be built: its epoch, its number there, its step, and its records."""

    epoch: int
    number: int
    step: int
    records: npt.NDArray[np.int64]


def prepare_workload(
    config: RunConfig,
    processes: Processes,
    *,
    on_progress: Callable[[int, int], None] = lambda records, tokens: None,
    has_checkpoint: bool = False,
) -> Workload:
    """Read the data, hold out a split, build model and optimizer.

    The main process prepares the store, the others open what it wrote. A run whose weights will
    come from its checkpoint is not started from those of another model again.

    Raises:
        ConfigError: the parts of the configuration do not fit one another.
        DataError: the data cannot be used.
    """
    require_backend(config.training.backend, processes.device)
    domain = build_domain(config.domain.model_dump())
    if domain.has_vocabulary:  # a typing error must not cost the time to read the data
        encoder_config(config, domain, build_objectives(config, domain))
    store = _open_on_every_rank(config, domain, processes, on_progress)
    objectives = build_objectives(config, domain)
    labels = [objective.name for objective in objectives]
    schedule = build_schedule(**config.schedule.model_dump(), labels=labels)
    data, training = config.data, config.training
    split = split_of_run(config, domain, store)
    builder = SampleBuilder(
        domain, store, objectives, data.max_length, training.seed, schedule, split.train
    )
    for objective in objectives:
        objective.fit(TrainingSequences(store, split.train))
        objective.check(builder.corpus)
    torch.manual_seed(training.seed)
    model = build_model(config, domain, objectives)
    started = warm_start(model, training.init) if training.init and not has_checkpoint else None
    model = model.to(processes.device)
    if training.compile:
        model.encoder.compile(dynamic=True)
    return Workload(
        config=_resolved(config, domain),
        domain=domain,
        store=store,
        split=split,
        order=_order_of_epochs(config, domain, store, split),
        builder=builder,
        samples=_held_out_samples(config, domain, store, split, objectives),
        direction=causal_direction(objectives),
        model=model,
        stepper=_build_stepper(config, model, objectives, schedule, processes),
        processes=processes,
        warm_start=started,
    )


def _order_of_epochs(
    config: RunConfig, domain: Domain, store: TokenStore, split: Split
) -> EpochOrder:
    data, training = config.data, config.training
    lengths = store.lengths[split.train] + domain.special_tokens_per_sequence
    return EpochOrder(
        records=split.train,
        lengths=np.minimum(lengths, data.max_length),
        groups=split.groups[split.train],
        sampling=data.sampling,
        tokens_per_batch=training.tokens_per_batch,
        seed=training.seed,
    )


def _held_out_samples(
    config: RunConfig,
    domain: Domain,
    store: TokenStore,
    split: Split,
    objectives: Sequence[Objective],
) -> list[EvaluationSample]:
    """What is evaluated; nothing if records are so short that no token of any is hidden."""
    samples = evaluation_samples(
        domain,
        store,
        split.validation,
        max_length=config.data.max_length,
        direction=causal_direction(objectives),
        context=evaluation_context(objectives),
    )
    return samples if any(len(sample.positions) for sample in samples) else []


def split_of_run(config: RunConfig, domain: Domain, store: TokenStore) -> Split:
    """Return what a run trains on and what it holds out; see :func:`split_records`."""
    data = config.data
    return split_records(
        domain,
        store,
        method=data.split,
        sampling=data.sampling,
        validation_fraction=data.validation_fraction,
        validation_records=data.validation_records,
        seed=config.training.seed,
    )


def _open_on_every_rank(
    config: RunConfig,
    domain: Domain,
    processes: Processes,
    on_progress: Callable[[int, int], None],
) -> TokenStore:
    """The main process prepares the store, the others open what it wrote."""
    if processes.is_main:
        store = open_store(domain, config.data.sources, on_progress=on_progress)
    processes.wait_for_main()
    if not processes.is_main:
        store = open_store(domain, config.data.sources)
    return store


def _build_stepper(
    config: RunConfig,
    model: Model,
    objectives: list[Objective],
    schedule: Schedule,
    processes: Processes,
) -> Stepper:
    shares = zip(config.objectives, schedule.loss_shares, strict=True)
    weights = [section.weight * share for section, share in shares]
    return Stepper(
        module=processes.parallelise(LossModule(model, objectives)),
        objectives=objectives,
        weights=torch.tensor(weights, device=processes.device),
        optimizer=build_optimizer(model, config.optimizer),
        processes=processes,
        clip_norm=config.optimizer.clip_norm,
        autocast=config.training.precision == "bfloat16",
    )


def keep_standard_input(config: RunConfig, folder: Path, processes: Processes) -> RunConfig:
    """Save what comes on standard input as a store in the run folder, and train on that.

    Otherwise the run could be neither resumed nor evaluated.

    Raises:
        ConfigError: several processes would read it.
        DataError: it cannot be used.
    """
    if "-" not in config.data.sources:
        return config
    if processes.world_size > 1:
        raise ConfigError(
            "data.sources = '-': only one process can read standard input. Make a store first: "
            "seqmlm prepare - --output FOLDER"
        )
    store = folder / "store"
    prepare(build_domain(config.domain.model_dump()), config.data.sources, store)
    data = config.data.model_copy(update={"sources": [str(store.resolve())]})
    return config.model_copy(update={"data": data})


def _resolved(config: RunConfig, domain: Domain) -> RunConfig:
    """Spell out what a later default or another working directory would change."""
    sources = [os.path.abspath(source) for source in config.data.sources]
    init = config.training.init and os.path.abspath(config.training.init)
    return config.model_copy(
        update={
            "training": config.training.model_copy(update={"init": init}),
            "domain": DomainSection(**{**domain.options, "name": config.domain.name}),
            "data": config.data.model_copy(update={"sources": sources}),
        }
    )


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
