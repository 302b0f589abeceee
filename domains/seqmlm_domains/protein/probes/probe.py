"""Linear probes of one task: an encoder, the same one untrained, and letters alone."""

# M labels, F features, C classes

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from seqmlm.analysis.logistic import LogisticRegression, fit_logistic
from seqmlm.errors import ConfigError
from seqmlm.finetuning.statistics import IndexArray
from seqmlm.model.model import Model
from seqmlm_domains.protein.probes.features import (
    composition,
    embeddings,
    kmer_shares,
    window_residues,
    with_random_weights,
)
from seqmlm_domains.protein.probes.measures import ProbeMeasures, measure
from seqmlm_domains.protein.probes.split import share_with_neighbour
from seqmlm_domains.protein.probes.task import LabelledProtein, Level, ProbeTask, bounded

PENALTIES: Final = (1000.0, 100.0, 10.0, 1.0)
"""Of the squared weights, the strongest first; validation accuracy chooses."""

TRAINED, UNTRAINED, MAJORITY = "embeddings", "random weights", "majority class"

Features = Callable[[Sequence[LabelledProtein]], Tensor]


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How a probe is fitted.

    Args:
        max_train: most training labels, of proteins drawn at random; 2 or more.
        k: residues of a k-mer, for labels of proteins; 1, 2 or 3. The fit takes
            ``training labels x 21 ** k`` floats twice.
        seed: of what is drawn, the bootstrap, and the random weights.
        tokens_per_batch: bounds the memory of the encoder; results do not depend on it.

    Raises:
        ConfigError: a value is out of range.
    """

    max_train: int = 20_000
    k: int = 2
    seed: int = 0
    tokens_per_batch: int = 8192

    def __post_init__(self) -> None:
        if self.max_train < 2:
            raise ConfigError(f"--max-train {self.max_train}: must be at least 2.")
        if self.k not in (1, 2, 3):
            raise ConfigError(f"--kmer {self.k}: k-mers are of 1, 2 or 3 residues.")


@dataclass(frozen=True)
class ProbeResult:
    """All predictors of one task, on the same test labels.

    Args:
        task: name.
        level: what a label belongs to.
        split: who decided what is tested.
        classes: how often each label occurs among the training labels used.
        labels: used for training, for validation, and tested.
        proteins: the same, in proteins.
        given_labels: training labels there were.
        unseen: test labels of classes that no training label has; always wrong.
        test_with_neighbour: share of the test proteins with which a training protein used shares
            5-mers, which flatters every predictor.
        measures: by predictor, the embeddings first.
        penalties: that validation chose, by predictor.
    """

    task: str
    level: Level
    split: str
    classes: Mapping[str, int]
    labels: tuple[int, int, int]
    proteins: tuple[int, int, int]
    given_labels: int
    unseen: int
    test_with_neighbour: float
    measures: Mapping[str, ProbeMeasures]
    penalties: Mapping[str, float]

    @property
    def accuracy_name(self) -> str:
        """The field's word for the accuracy, such as ``Q3 accuracy``."""
        if self.level == "residue":
            return f"Q{len(self.classes)} accuracy"
        return "accuracy" if len(self.classes) == 2 else "top-1 accuracy"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        parts = ("train", "validation", "test")
        return {
            "task": self.task,
            "level": self.level,
            "split": self.split,
            "accuracy_is": self.accuracy_name,
            "classes": dict(self.classes),
            "labels": dict(zip(parts, self.labels, strict=True)),
            "proteins": dict(zip(parts, self.proteins, strict=True)),
            "training_labels_given": self.given_labels,
            "test_labels_of_unseen_classes": self.unseen,
            "test_proteins_with_neighbour_in_training": self.test_with_neighbour,
            "predictors": {
                name: {**found.to_json(), "penalty": self.penalties.get(name)}
                for name, found in self.measures.items()
            },
        }


def probe(
    model: Model,
    task: ProbeTask,
    settings: ProbeSettings | None = None,
    *,
    on_progress: Callable[[str], None] = lambda doing: None,
) -> ProbeResult:
    """Fit a logistic regression to each kind of features, and judge all on the test proteins.

    Embeddings are those of the last layer, frozen; for proteins the mean over residues. The
    penalty is chosen by validation accuracy; ties go to the stronger.

    Args:
        model: of proteins.
        task: labelled proteins.
        settings: defaults where absent.
        on_progress: told what is done.
    """
    chosen = settings or ProbeSettings()
    used = bounded(task, chosen.max_train, seed=chosen.seed)
    names = sorted({label for protein in used.train for label in protein.labels})
    classes = {name: number for number, name in enumerate(names)}
    train, validation, true = (
        np.array([classes.get(label, -1) for protein in part for label in protein.labels])
        for part in (used.train, used.validation, used.test)
    )
    predicted, penalties = {}, {}
    for name, features in _predictors(model, task.level, chosen):
        on_progress(f"{task.name}: {name}")
        fitted, penalties[name] = _fit(
            features(used.train), train, features(used.validation), validation, len(names)
        )
        predicted[name] = fitted.predict(features(used.test)).numpy()
    predicted[MAJORITY] = np.full(len(true), np.bincount(train).argmax())
    test_proteins = np.repeat(np.arange(len(used.test)), [len(p.labels) for p in used.test])
    on_progress(f"{task.name}: intervals")
    return ProbeResult(
        task=task.name,
        level=task.level,
        split=task.split,
        classes={name: int((train == number).sum()) for name, number in classes.items()},
        labels=(len(train), len(validation), len(true)),
        proteins=(len(used.train), len(used.validation), len(used.test)),
        given_labels=sum(len(protein.labels) for protein in task.train),
        unseen=int((true < 0).sum()),
        test_with_neighbour=share_with_neighbour(
            model.domain,
            [protein.encoding for protein in used.test],
            [protein.encoding for protein in used.train],
        ),
        measures=_judge(used, classes, predicted, test_proteins, seed=chosen.seed),
        penalties=penalties,
    )


def _predictors(
    model: Model, level: Level, settings: ProbeSettings
) -> Iterator[tuple[str, Features]]:
    """Name and features of each predictor, the embeddings first."""
    untrained = with_random_weights(model, seed=settings.seed)
    for name, encoder in ((TRAINED, model), (UNTRAINED, untrained)):
        yield (
            name,
            lambda proteins, encoder=encoder: embeddings(  # type: ignore[misc]
                encoder, proteins, level, tokens_per_batch=settings.tokens_per_batch
            ),
        )
    if level == "residue":
        yield "window of residues", window_residues
        yield "window composition", lambda found: composition(found, level)
    else:
        yield f"{settings.k}-mers", lambda found: kmer_shares(found, k=settings.k)
        yield "composition", lambda found: composition(found, level)


def _fit(
    features: Tensor,
    classes: IndexArray,
    validation_features: Tensor,
    validation_classes: IndexArray,
    num_classes: int,
) -> tuple[LogisticRegression, float]:
    """The regression with the best validation accuracy, and its penalty."""
    best: tuple[float, LogisticRegression, float] | None = None
    fitted: LogisticRegression | None = None
    for penalty in PENALTIES:
        fitted = fit_logistic(
            features, torch.from_numpy(classes), num_classes, penalty=penalty, start=fitted
        )
        said = fitted.predict(validation_features).numpy()
        accuracy = float((said == validation_classes).mean())
        if best is None or accuracy > best[0]:
            best = accuracy, fitted, penalty
    assert best is not None
    return best[1], best[2]


def _judge(
    task: ProbeTask,
    classes: Mapping[str, int],
    predicted: Mapping[str, IndexArray],
    proteins: IndexArray,
    *,
    seed: int,
) -> dict[str, ProbeMeasures]:
    """Measures with intervals; classes that only the test has get numbers of their own."""
    labels = [label for protein in task.test for label in protein.labels]
    unseen = sorted(Counter(labels).keys() - classes.keys())
    numbers = {**classes, **{name: len(classes) + i for i, name in enumerate(unseen)}}
    true = np.array([numbers[label] for label in labels])
    return measure(true, predicted, proteins, seed=seed)
