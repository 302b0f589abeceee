"""Evaluate a finished run again, on its own held-out records or on other data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.config import RunConfig, configure, read_config_file, validate
from seqmlm.data.prepare import open_store
from seqmlm.data.samples import TrainingSequences, evaluation_context, evaluation_samples
from seqmlm.data.splits import Split
from seqmlm.data.store import TokenStore
from seqmlm.errors import ConfigError, DataError, RunFolderError
from seqmlm.evaluation.masked import evaluate_masked
from seqmlm.evaluation.own_losses import evaluate_token_objectives
from seqmlm.evaluation.report import (
    TRAINING_DATA,
    EvaluationReport,
    FittedBars,
    fit_training_bars,
    score_bars,
)
from seqmlm.model.model import Model
from seqmlm.model.model_folder import find_model_folder, read_model_config
from seqmlm.objectives.rows import Direction
from seqmlm.objectives.trained import causal_direction
from seqmlm.training.building import build_objectives
from seqmlm.training.distributed import choose_device
from seqmlm.training.workload import split_of_run


def objectives_without_tokens(folder: Path) -> list[str]:
    """Return the names of the objectives of a model that none taught to predict tokens.

    Args:
        folder: of a run, or of a model.

    Returns:
        Empty if one predicts tokens, or if the model does not say.

    Raises:
        ConfigError: the run was fine-tuned on labels.
        CheckpointError: there is no model, or its ``config.json`` is damaged.
    """
    _refuse_fine_tuned(folder)
    objectives = read_model_config(find_model_folder(folder)).get("objectives", [])
    if any(objective["predicts_tokens"] for objective in objectives):
        return []
    return [objective["name"] for objective in objectives]


def _refuse_fine_tuned(folder: Path) -> None:
    if (folder / "model" / "task.json").is_file():
        raise ConfigError(
            f"{folder} was fine-tuned on a labelled task. Measure it on a labelled file: "
            f"seqmlm predict {folder} FILE --output predictions.csv --evaluate"
        )


def recorded_evaluation(folder: Path) -> dict[str, Any]:
    """Return what a run measured on its held-out records at the end of training.

    Raises:
        RunFolderError: the run recorded nothing, or the record is damaged.
    """
    path = folder / "evaluation.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{path} is missing: the run held nothing out, or this is not its folder."
        ) from error
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}.") from error
    return content


def evaluate_run(
    folder: Path,
    *,
    data: Sequence[str],
    device: str,
    backend: str,
    tokens_per_batch: int,
) -> EvaluationReport:
    """Score a run's model and the bars of its training data on the same hidden tokens.

    Args:
        folder: of the run; its training data must still be where it was, for the bars.
        data: other data, all of which is evaluated; the run's own held-out records if empty. Of a
            model without a run, such as an imported one, the bars are fitted on half of it, and
            the other half is evaluated.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        backend: of the kernels.
        tokens_per_batch: bounds the memory; results do not depend on it.

    Raises:
        ConfigError: the folder is no run, or the run held nothing out, and no data is given; or
            the model predicts no tokens.
        DataError: the data cannot be read.
        CheckpointError: there is no model, or it is damaged.
    """
    is_run = _is_evaluable_run(folder, data)
    model = Model.load(folder, device=choose_device(device), backend=backend)
    trained_on = (
        _TrainingData.of_run(folder, model) if is_run else _TrainingData.half_of(data, model)
    )
    asked = (
        _Questions.from_other_data(model, data, trained_on)
        if is_run and data
        else _Questions.held_out(model, trained_on)
    )
    if not len(asked.records):
        raise ConfigError(f"{folder} held nothing out; say what to evaluate with --data.")
    return _report(model, trained_on, asked, tokens_per_batch=tokens_per_batch)


def _report(
    model: Model, trained_on: _TrainingData, asked: _Questions, *, tokens_per_batch: int
) -> EvaluationReport:
    """Predict hidden tokens of the records by the model and by the bars."""
    objectives = build_objectives(trained_on.config, model.domain)
    direction = causal_direction(objectives)
    samples = evaluation_samples(
        model.domain,
        asked.store,
        asked.records,
        max_length=trained_on.config.data.max_length,
        direction=direction,
        context=evaluation_context(objectives),
    )
    scores = evaluate_masked(model, samples, tokens_per_batch=tokens_per_batch)
    if scores is None or not scores.targets:
        raise DataError("None of the records holds a token that can be predicted.")
    fit_bars = cache(partial(trained_on.fit_bars, model))
    return EvaluationReport(
        scores=scores,
        bars=score_bars(fit_bars(direction), samples),
        tokens=model.vocabulary.tokens,
        leakage=asked.leakage,
        neighbours=asked.neighbours,
        num_too_close=asked.num_too_close,
        compared_with=trained_on.called,
        sequence_targets=[len(sample.positions) for sample in samples],
        direction=direction,
        objectives=evaluate_token_objectives(
            model,
            objectives,
            asked.store,
            asked.records,
            training=TrainingSequences(trained_on.store, trained_on.split.train),
            bars=fit_bars,
            max_length=trained_on.config.data.max_length,
            tokens_per_batch=tokens_per_batch,
        ),
    )


@dataclass(frozen=True, slots=True)
class _TrainingData:
    """What the bars are fitted on, and how a report calls it."""

    config: RunConfig
    store: TokenStore
    split: Split
    called: str

    @classmethod
    def of_run(cls, folder: Path, model: Model) -> _TrainingData:
        """The records that a run trained on; they must be those that are there now."""
        config = validate(read_config_file(folder / "config.toml"))
        store = open_store(model.domain, config.data.sources)
        split = split_of_run(config, model.domain, store)
        require_same_data(folder, store, split)
        return cls(config, store, split, TRAINING_DATA)

    @classmethod
    def half_of(cls, data: Sequence[str], model: Model) -> _TrainingData:
        """One half of some data, of which the other is held out."""
        config = _halves_of(data, model)
        store = open_store(model.domain, config.data.sources)
        split = split_of_run(config, model.domain, store)
        return cls(config, store, split, "half that the bars were fitted on")

    def fit_bars(self, model: Model, direction: Direction | None) -> FittedBars:
        """Fit the bars that the model is compared with."""
        return fit_training_bars(
            model.domain,
            self.store,
            self.split.train,
            sampling=self.config.data.sampling,
            groups=self.split.groups,
            direction=direction,
        )


@dataclass(frozen=True, slots=True)
class _Questions:
    """The records to evaluate, and how near they are to what was trained on."""

    store: TokenStore
    records: npt.NDArray[np.int64]
    leakage: float
    neighbours: str
    num_too_close: int

    @classmethod
    def held_out(cls, model: Model, trained_on: _TrainingData) -> _Questions:
        """The records that a split keeps from training."""
        split, neighbours = trained_on.split, model.domain.neighbours
        return cls(
            trained_on.store, split.validation, split.leakage, neighbours, split.num_too_close
        )

    @classmethod
    def from_other_data(
        cls, model: Model, data: Sequence[str], trained_on: _TrainingData
    ) -> _Questions:
        """All records of other data."""
        store = open_store(model.domain, data)
        records = np.flatnonzero(store.lengths > 0)
        known = trained_on.store.content_hashes[trained_on.split.train]
        leakage = float(np.isin(store.content_hashes[records], known).mean())
        return cls(store, records, leakage, "an identical copy", 0)


def _is_evaluable_run(folder: Path, data: Sequence[str]) -> bool:
    """Whether a folder is a run, not a model alone; raises if it cannot be evaluated."""
    _refuse_fine_tuned(folder)
    is_run = (folder / "config.toml").is_file()
    if not is_run and not data:
        raise ConfigError(
            f"{folder} is not a run folder: it has no config.toml. Evaluation needs the run, not "
            "the model alone, because the bars are fitted on its training data. With --data, half "
            "of which the bars are fitted on, it needs the model alone."
        )
    if objectives_without_tokens(folder):
        raise ConfigError(
            f"{folder}: {' and '.join(objectives_without_tokens(folder))} predicts no tokens, and "
            "what it was judged by is not part of the saved model: other data cannot be evaluated. "
            f"{folder / 'evaluation.json'} has what it reached on the run's held-out records."
        )
    return is_run


def _halves_of(data: Sequence[str], model: Model) -> RunConfig:
    """Settings that hold out half of some data and fit the length that the model can read."""
    name = model.domain.registered_name
    config = configure(domain=name, sources=data, overrides=["data.validation_fraction=0.5"])
    longest = model.encoder.config.longest_sequence or config.data.max_length
    section = config.data.model_copy(update={"max_length": min(longest, config.data.max_length)})
    return config.model_copy(update={"data": section})


def require_same_data(folder: Path, training: TokenStore, split: Split) -> None:
    """Refuse records that may have been trained on: those of changed data or of another split."""
    path = folder / "data.json"
    try:
        recorded = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); it says what was held out.") from error
    for key, now in (("data", training.fingerprint), ("split", split.fingerprint)):
        if recorded[key] != now:
            raise DataError(
                f"{folder}: the {key} is no longer what the run trained on (then {recorded[key]}, "
                f"now {now}), so what was held out is unknown. Restore the files, or evaluate "
                "other data with --data."
            )
