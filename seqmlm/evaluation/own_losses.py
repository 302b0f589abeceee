"""Which objectives of a run are measured in their own form, and how those that predict tokens are.

All runs on a corpus are measured on the same tokens. That tells nothing of what else a mixture
learns: its causal losses, a prefix read from both sides, blocks predicted one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from seqmlm.data.samples import (
    EVALUATION_SEED,
    SampleBuilder,
    TrainingSequences,
    continuation_samples,
)
from seqmlm.data.store import TokenStore
from seqmlm.evaluation.decisions import ObjectiveScores, evaluate_objective
from seqmlm.evaluation.masked import evaluate_masked
from seqmlm.evaluation.report import FittedBars, score_bars
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Direction, Objective


def measured_in_own_form(objectives: Sequence[Objective]) -> list[Objective]:
    """Return the objectives whose held-out loss the common evaluation does not give.

    Those that predict no tokens; of those that do, all if there are several, and a single one
    unless the common evaluation is its own.
    """
    of_tokens = [objective for objective in objectives if objective.predicts_tokens]
    is_covered = len(of_tokens) == 1 and of_tokens[0].is_commonly_evaluated
    return [objective for objective in objectives if not (objective.predicts_tokens and is_covered)]


def own_builder(
    objective: Objective,
    objectives: Sequence[Objective],
    model: Model,
    store: TokenStore,
    records: npt.NDArray[np.int64],
    *,
    max_length: int,
) -> SampleBuilder:
    """Return what makes the held-out rows of one objective, always the same.

    Args:
        objective: one of a run.
        objectives: all of it, among which is the one in whose rows it hides tokens, if any.
        model: has the domain.
        store: the corpus.
        records: int64, held out.
        max_length: tokens per row, special tokens included.
    """
    hosts = [each for each in objectives if each.name == objective.rows_of]
    return SampleBuilder(
        model.domain, store, [*hosts, objective], max_length, EVALUATION_SEED, records=records
    )


def evaluate_token_objectives(
    model: Model,
    objectives: Sequence[Objective],
    store: TokenStore,
    records: npt.NDArray[np.int64],
    *,
    training: TrainingSequences,
    bars: Callable[[Direction], FittedBars],
    max_length: int,
    tokens_per_batch: int,
) -> dict[str, ObjectiveScores]:
    """Measure the objectives of a finished run that predict tokens, each in its own form.

    Left out are those with a module of their own, which is not part of a finished model.

    Args:
        model: of the run.
        objectives: of the run, not fitted.
        store: the corpus that holds the records.
        records: int64, to evaluate.
        training: that policies are fitted on.
        bars: gives those of a direction.
        max_length: tokens per row, special tokens included.
        tokens_per_batch: bounds the memory; results do not depend on it.

    Returns:
        By name; an objective without a target in the records is absent.
    """
    found = {}
    for objective in measured_in_own_form(objectives):
        if not objective.predicts_tokens or objective.build_module(model.encoder.config):
            continue
        direction = objective.causal_direction
        if direction is None:
            builder = own_builder(
                objective, objectives, model, store, records, max_length=max_length
            )
            for each in builder.objectives:
                each.fit(training)
            scores = evaluate_objective(
                model, objective, builder, records, tokens_per_batch=tokens_per_batch
            )
        else:
            samples = continuation_samples(
                model.domain, store, records, objective, max_length=max_length
            )
            tokens = evaluate_masked(model, samples, tokens_per_batch=tokens_per_batch)
            if tokens is None or not tokens.targets:
                continue
            scored = score_bars(bars(direction), samples)
            scores = ObjectiveScores.of_tokens(
                objective, tokens, {name: bar.loss for name, bar in scored.items()}
            )
        if scores is not None and scores.sums[:, 1].all():
            found[objective.name] = scores
    return found
