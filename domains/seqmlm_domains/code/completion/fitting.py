"""Fits the weights of the mixture on names hidden in held-out files, and tells each part's gain.

A conditional logit: the log-likelihood of the hidden name among its strongest competitors is
concave in the weights, so the optimum does not depend on where the search begins. A penalty keeps
them near what is typical of projects, the nearer the fewer files there are to fit on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, get_args

import numpy as np
import numpy.typing as npt
import torch

from seqmlm_domains.code.completion.completer import PARTS, Completer
from seqmlm_domains.code.completion.evidence import FloatArray
from seqmlm_domains.code.completion.fitting_progress import (
    FittingProgress,
    OnProgress,
    tell_nobody,
)
from seqmlm_domains.code.completion.hidden_names import HiddenName
from seqmlm_domains.code.completion.mixture import (
    LEXICAL_TERMS,
    MODEL_TERMS,
    TERMS,
    Mixture,
    Sides,
)

STRONGEST: Final = 100
"""Competitors of a hidden name that typical weights rank best, and as many of the model."""

DRAWN: Final = 100
"""Competitors that are drawn from all others, which they stand for."""

_COMPETITORS: Final = 2 * STRONGEST + DRAWN

WITH_MODEL: Final = "mixture"
WITHOUT_MODEL: Final = "without model"
MODEL_ALONE: Final = "model alone"
"""What is judged of every project, besides the mixture without each other part."""

_SEEN: Final[Mapping[Sides, str]] = {"left": "left side", "both": "both sides"}
_PLACES_AT_ONCE: Final = 16
_PENALTY: Final = 8.0
"""Of the squared distance to typical weights, over the squared number of files: names of one file
have much in common, so that few files say little. Chosen on Java (5 files) and Python (20), whose
held-out files lose when weights shrink to 0 instead."""

_FOLDS: Final = 2


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well hidden names are found.

    Args:
        top_1: share that is ranked first.
        top_5: share among the first five.
        mean_reciprocal_rank: of the hidden names.
    """

    top_1: float
    top_5: float
    mean_reciprocal_rank: float

    @classmethod
    def of(cls, ranks: npt.NDArray[np.int64]) -> Accuracy:
        """Summarise ranks, int64 ``[n]``, from 1."""
        return cls(
            float((ranks == 1).mean()), float((ranks <= 5).mean()), float((1 / ranks).mean())
        )


@dataclass(frozen=True, eq=False)
class Sample:
    """Hidden names with the terms of their candidates, the hidden name first.

    Args:
        terms: float32 ``[n, 1 + competitors, TERMS]``: 100 MB for 2,000 names.
        multiplicity: float64 ``[n, 1 + competitors]``, for how many names each stands; 0 where
            there are fewer.
        files: int64 ``[n]``, which file each is from.
    """

    terms: torch.Tensor
    multiplicity: torch.Tensor
    files: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        completer: Completer,
        hidden: Sequence[HiddenName],
        sides: Sides,
        *,
        on_progress: OnProgress = tell_nobody,
    ) -> Sample:
        """Collect what is known of hidden names; those that are no candidates are left out."""
        terms = np.zeros((len(hidden), 1 + _COMPETITORS, len(TERMS)), np.float32)
        multiplicity = np.zeros(terms.shape[:2])
        generator = np.random.default_rng(0)
        files: list[int] = []
        numbers: dict[int, int] = {}
        for start in range(0, len(hidden), _PLACES_AT_ONCE):
            on_progress(_collected(start, hidden, sides))
            batch = hidden[start : start + _PLACES_AT_ONCE]
            found = [completer.evidence_at(place.cursor(sides)) for place in batch]
            of_names = completer.terms(found)
            for place, evidence, own in zip(batch, found, of_names, strict=True):
                gold = evidence.names.of_words[place.tokens.numbers[place.piece]]
                if not evidence.is_visible[gold]:
                    continue
                chosen, stands_for = _competitors(
                    own, evidence.is_visible, int(gold), sides, generator
                )
                terms[len(files), : len(chosen)] = own[:, chosen].T
                multiplicity[len(files), : len(chosen)] = stands_for
                files.append(numbers.setdefault(id(place.tokens), len(numbers)))
        on_progress(_collected(len(hidden), hidden, sides))
        return cls(
            torch.from_numpy(terms[: len(files)]),
            torch.from_numpy(multiplicity[: len(files)]),
            np.array(files, np.int64),
        )


def fit_mixture(
    samples: Mapping[Sides, Sample], *, on_progress: OnProgress = tell_nobody
) -> tuple[Mixture, dict[str, dict[str, object]]]:
    """Return the weights and, for either case, what they reach with and without each part.

    The accuracies are of files that their weights were not fitted on.

    Args:
        samples: for every case of what there is to see.
        on_progress: told of each set of weights that is fitted.
    """
    choices = _choices_of_terms()
    with_model: dict[Sides, FloatArray] = {}
    without_model: dict[Sides, FloatArray] = {}
    model_alone: dict[Sides, FloatArray] = {}
    report: dict[str, dict[str, object]] = {}
    for sides in get_args(Sides):
        sample = samples[sides]
        on_progress(_weighed(0, choices, sides))
        fitted = {
            name: _fit(sample, choices[name], _typical(name, sides))
            for name in (WITH_MODEL, WITHOUT_MODEL, MODEL_ALONE)
        }
        with_model[sides], model_alone[sides] = fitted[WITH_MODEL], fitted[MODEL_ALONE]
        without_model[sides] = fitted[WITHOUT_MODEL][:LEXICAL_TERMS]
        report[sides] = {}
        for done, (name, terms) in enumerate(choices.items(), 1):
            on_progress(_weighed(done, choices, sides))
            ranks = _held_out_ranks(sample, terms, _typical(name, sides))
            report[sides][name] = asdict(Accuracy.of(ranks))
        on_progress(_weighed(1 + len(choices), choices, sides))
    return Mixture(with_model, without_model, model_alone), report


def _choices_of_terms() -> dict[str, npt.NDArray[np.int64]]:
    """What is judged -> the numbers of its terms."""
    everything = np.arange(len(TERMS))
    of_parts = {
        part: np.array([TERMS.index(name) for name in names]) for part, names in PARTS.items()
    }
    choices = {
        WITH_MODEL: everything,
        WITHOUT_MODEL: np.arange(LEXICAL_TERMS),
        MODEL_ALONE: of_parts["model"],
    }
    for part, own in of_parts.items():
        if part != "model":
            choices[f"without {part}"] = np.setdiff1d(everything, own)
    return choices


def _typical(choice: str, sides: Sides) -> FloatArray:
    """Weights that a choice of terms stays near, float64 ``[TERMS]``."""
    typical = Mixture.typical()
    if choice == WITHOUT_MODEL:
        return np.pad(typical.without_model[sides], (0, len(TERMS) - LEXICAL_TERMS))
    return (typical.model_alone if choice == MODEL_ALONE else typical.with_model)[sides]


def _collected(done: int, hidden: Sequence[HiddenName], sides: Sides) -> FittingProgress:
    return FittingProgress(f"{_SEEN[sides]}, asking the model", done, len(hidden), "names")


def _weighed(done: int, choices: Mapping[str, object], sides: Sides) -> FittingProgress:
    """Those that are kept come first, together; then those that are judged, one by one."""
    steps = 1 + len(choices)
    return FittingProgress(f"{_SEEN[sides]}, weighing the parts", done, steps, "steps")


def _competitors(
    terms: FloatArray,
    is_visible: npt.NDArray[np.bool_],
    gold: int,
    sides: Sides,
    generator: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The hidden name and its competitors, ``[n]`` each, and for how many names each stands.

    Those drawn stand for all that are not among the strongest: without them, nothing would keep a
    weight from raising names that nobody proposed.
    """
    allowed = is_visible.copy()
    allowed[gold] = False
    candidates = np.flatnonzero(allowed)
    guess = Mixture.typical().scores(terms, sides)[candidates]
    first = TERMS.index(MODEL_TERMS[0])
    by_model = terms[first : first + len(MODEL_TERMS), candidates].sum(0)
    is_strong = np.zeros(len(candidates), np.bool_)
    for scores in (guess, by_model):
        is_strong[np.argsort(-scores)[:STRONGEST]] = True
    strong, others = candidates[is_strong], candidates[~is_strong]
    drawn = generator.permutation(others)[:DRAWN]
    stands_for = np.ones(1 + len(strong) + len(drawn))
    stands_for[1 + len(strong) :] = len(others) / max(1, len(drawn))
    return np.concatenate([[gold], strong, drawn]), stands_for


def _fit(
    sample: Sample,
    terms: npt.NDArray[np.int64],
    typical: FloatArray,
    chosen: npt.NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Weights of all terms, float64 ``[TERMS]``, those that may not take part 0."""
    if chosen is None:
        chosen = np.ones(len(sample.files), np.bool_)
    places = torch.from_numpy(chosen)
    values, offsets = sample.terms[places], sample.multiplicity[places].log()
    columns = torch.from_numpy(terms)
    start = torch.from_numpy(typical[terms])
    penalty = _PENALTY / len(np.unique(sample.files[chosen])) ** 2
    weights = start.clone().requires_grad_()
    search = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        scores = _scores(values, torch.zeros(len(TERMS)).double().index_put((columns,), weights))
        scores = scores + offsets
        away = (weights - start).square().sum()
        total = -scores.log_softmax(1)[:, 0].mean() + penalty * away
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    fitted = np.zeros(len(TERMS))
    fitted[terms] = weights.detach().numpy()
    return fitted


def _scores(terms: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sums of terms, float64 ``[n, 1 + competitors]``."""
    return (terms @ weights.float()).double()


def _held_out_ranks(
    sample: Sample, terms: npt.NDArray[np.int64], typical: FloatArray
) -> npt.NDArray[np.int64]:
    """Rank of each hidden name by weights that were fitted on the other half of the files."""
    ranks = np.zeros(len(sample.files), np.int64)
    for fold in range(_FOLDS):
        own = sample.files % _FOLDS == fold
        weights = torch.from_numpy(_fit(sample, terms, typical, ~own))
        scores = _scores(sample.terms[own], weights)
        # Of candidates that score alike the hidden name counts as the last.
        above = (scores >= scores[:, :1]) * sample.multiplicity[own]
        ranks[own] = above.sum(1).round().long().numpy()
    return ranks
