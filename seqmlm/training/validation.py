"""What a run measures on its held-out records, shared out over the ranks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch

from seqmlm.data.samples import EvaluationSample, continuation_samples
from seqmlm.evaluation.bars import BarResult
from seqmlm.evaluation.decisions import ObjectiveScores, evaluate_objective
from seqmlm.evaluation.masked import MaskedScores, evaluate_masked
from seqmlm.evaluation.own_losses import measured_in_own_form, own_builder
from seqmlm.evaluation.report import (
    EvaluationReport,
    FittedBars,
    fit_training_bars,
    score_bars,
)
from seqmlm.objectives.rows import Direction, Objective
from seqmlm.training.workload import Workload

logger = logging.getLogger("seqmlm")


@dataclass(frozen=True)
class Validation:
    """One measurement.

    Args:
        tokens: predicted tokens; None if no objective of the run predicts any.
        objectives: the objectives that are measured in their own form, by name: those that
            predict no tokens, and the parts of a mixture.
        loss: that of the tokens; without them the weighted sum of the objectives' losses, nats.
        measures: the domain's own, by name; only on the main process.
    """

    tokens: MaskedScores | None
    objectives: Mapping[str, ObjectiveScores]
    loss: float
    measures: Mapping[str, float] = field(default_factory=dict)

    def metrics(self) -> dict[str, Any]:
        """Return the values of a line of ``metrics.jsonl``."""
        values: dict[str, Any] = {"loss": self.loss}
        if self.tokens is not None:
            values["accuracy"] = self.tokens.accuracy
        if self.objectives:
            values["objectives"] = {name: each.to_json() for name, each in self.objectives.items()}
        if self.measures:
            values["measures"] = dict(self.measures)
        return values


class HeldOut:
    """The held-out records of a run and how its model is measured on them."""

    def __init__(self, work: Workload) -> None:
        self._work = work
        objectives = work.stepper.objectives
        self._measures_tokens = bool(work.samples) and any(
            objective.predicts_tokens for objective in objectives
        )
        self._judged = {each.name: each for each in measured_in_own_form(objectives)}
        self._fitted_bars = cache(self._fit_bars)
        self._continuation = cache(self._choose_continuation)

    def measure(self, should_stop: Callable[[], bool]) -> Validation | None:
        """Measure the model; None without anything to measure, or if stopped."""
        tokens = None
        if self._measures_tokens:
            tokens = self._measure_tokens(self._work.samples, should_stop)
            if tokens is None:
                return None
        found: dict[str, ObjectiveScores] = {}
        if len(self._work.split.validation):
            for name, objective in self._judged.items():
                scores = self._measure_objective(objective, should_stop)
                if scores is None:
                    return None
                if scores.sums[:, 1].all():
                    found[name] = scores
                else:
                    logger.warning("%s: the held-out records hold nothing to judge it by", name)
        if tokens is not None:
            return Validation(tokens, found, tokens.loss, self._measures())
        sections = self._work.config.objectives
        weights = {objective.name: section.weight for objective, section
                   in zip(self._work.stepper.objectives, sections, strict=True)}  # fmt: skip
        loss = sum(weights[name] * scores.loss for name, scores in found.items())
        return Validation(None, found, loss, self._measures()) if found else None

    def describe(self, found: Validation) -> str:
        """Return a measurement as one line for people, its bar beside it."""
        parts = [scores.describe() for scores in found.objectives.values()]
        if found.tokens is not None:
            name, bar = min(self._bars.items(), key=lambda item: item[1].loss)
            parts.insert(
                0,
                f"{found.tokens.loss:.3f} nats, accuracy {found.tokens.accuracy:.3f} "
                f"(best bar: {name}, {bar.loss:.3f})",
            )
        parts += [f"{name} {value:.4f}" for name, value in found.measures.items()]
        return "; ".join(parts)

    def report(self, tokens: MaskedScores) -> EvaluationReport:
        """Put predicted tokens beside the bars."""
        work = self._work
        return EvaluationReport(
            scores=tokens,
            bars=self._bars,
            tokens=work.domain.vocabulary.tokens,
            sequence_targets=[len(sample.positions) for sample in work.samples],
            leakage=work.split.leakage,
            neighbours=work.domain.neighbours,
            num_too_close=work.split.num_too_close,
            direction=work.direction,
        )

    def _measure_tokens(
        self, samples: Sequence[EvaluationSample], should_stop: Callable[[], bool]
    ) -> MaskedScores | None:
        work, group = self._work, self._work.processes
        scores = evaluate_masked(
            work.model,
            samples[group.rank :: group.world_size],
            tokens_per_batch=work.config.training.tokens_per_batch,
            should_stop=should_stop,
        )
        if group.any(int(scores is None)) or scores is None:
            return None
        sequence_nats = torch.zeros(len(samples), dtype=torch.float64)
        sequence_nats[group.rank :: group.world_size] = scores.sequence_nats
        return MaskedScores(
            group.sum(scores.table.to(group.device)).cpu(),
            group.sum(sequence_nats.to(group.device)).cpu(),
        )

    def _measure_objective(
        self, objective: Objective, should_stop: Callable[[], bool]
    ) -> ObjectiveScores | None:
        work, group = self._work, self._work.processes
        if objective.predicts_tokens and objective.causal_direction is not None:
            samples, bars = self._continuation(objective.name)
            tokens = self._measure_tokens(samples, should_stop)
            return None if tokens is None else ObjectiveScores.of_tokens(objective, tokens, bars)
        records = work.split.validation
        scores = evaluate_objective(
            work.model,
            objective,
            own_builder(
                objective,
                work.stepper.objectives,
                work.model,
                work.store,
                records,
                max_length=work.config.data.max_length,
            ),
            records[group.rank :: group.world_size],
            tokens_per_batch=work.config.training.tokens_per_batch,
            should_stop=should_stop,
        )
        if group.any(int(scores is None)) or scores is None:
            return None
        return ObjectiveScores(
            scores.terms,
            group.sum(scores.sums.to(group.device)).cpu(),
            group.concatenate(scores.scores),
            group.concatenate(scores.labels.float()) > 0,
        )

    def _measures(self) -> Mapping[str, float]:
        """What the domain judges its models by."""
        work = self._work
        if not work.processes.is_main:
            return {}
        return work.domain.validation_measures(
            work.model,
            work.store,
            work.split.validation,
            max_length=work.config.data.max_length,
        )

    @cached_property
    def _bars(self) -> dict[str, BarResult]:
        """The bars on the held-out tokens."""
        return score_bars(self._fitted_bars(self._work.direction), self._work.samples)

    def _choose_continuation(self, name: str) -> tuple[list[EvaluationSample], Mapping[str, float]]:
        """What a causal objective predicts, and the bars on it; these on the main process only."""
        work, objective = self._work, self._judged[name]
        samples = continuation_samples(
            work.domain,
            work.store,
            work.split.validation,
            objective,
            max_length=work.config.data.max_length,
        )
        if not work.processes.is_main or not any(len(sample.positions) for sample in samples):
            return samples, {}
        scored = score_bars(self._fitted_bars(objective.causal_direction), samples)
        return samples, {name: bar.loss for name, bar in scored.items()}

    def _fit_bars(self, direction: Direction | None) -> FittedBars:
        work = self._work
        return fit_training_bars(
            work.domain,
            work.store,
            work.split.train,
            sampling=work.config.data.sampling,
            groups=work.split.groups,
            direction=direction,
        )
