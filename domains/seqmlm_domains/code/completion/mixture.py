"""One score from several: a log-linear mixture whose weights are fitted on held-out files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from seqmlm.errors import CheckpointError
from seqmlm_domains.code.completion.evidence import FEATURES, Evidence, FloatArray
from seqmlm_domains.code.completion.expected_names import EXPECTED
from seqmlm_domains.code.completion.name_scorer import LENGTHS, NameTokens

Sides = Literal["left", "both"]
"""What there is to see: code before the cursor alone, or behind it too."""

_LENGTH_NAMES: Final = (
    "1 token",
    *(f"{n} tokens" for n in range(2, LENGTHS)),
    f"{LENGTHS} or more",
)

MODEL_TERMS: Final = tuple(f"model, {length}" for length in _LENGTH_NAMES)
"""The model's score, of names with so many tokens; it cannot be compared between lengths as is."""

LENGTH_TERMS: Final = _LENGTH_NAMES[1:]
"""1 for names with so many tokens."""

NEW_TERM: Final = "model, new on the left"
"""The model's score, of names that do not occur before the cursor: counts say little of those."""

TERMS: Final = (*FEATURES, *MODEL_TERMS, *LENGTH_TERMS, NEW_TERM)
"""What is added up, each with a weight; without a model, the first ones alone."""

LEXICAL_TERMS: Final = len(FEATURES)

_TERMS_OF: Final = {"with_model": TERMS, "without_model": FEATURES, "model_alone": TERMS}

_LATER_TERMS: Final = EXPECTED
"""Of which earlier versions wrote no weights: theirs are the typical ones."""

_TYPICAL: Final = Path(__file__).parent / "typical_weights.json"
"""Means over Python, Java and TypeScript of weights that `benchmarks/results` has recorded: fitted
on some 40 held-out files of each project, those of Python on two.

Those of :data:`_LATER_TERMS` are chosen, for held-out files hold too few such places: what is seen
in a module got 1.2 to 1.9 on Java; the others outweigh that a name stands near in the text and in
scope, which with all terms in favour of it is worth 8 nats.
"""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weights of :data:`TERMS`.

    Args:
        with_model: float64 ``[TERMS]`` for either case of what there is to see.
        without_model: float64 ``[LEXICAL_TERMS]``.
        model_alone: float64 ``[TERMS]``, 0 for all but :data:`MODEL_TERMS` and
            :data:`LENGTH_TERMS`; tells what the model knows without counts.
    """

    with_model: Mapping[Sides, FloatArray]
    without_model: Mapping[Sides, FloatArray]
    model_alone: Mapping[Sides, FloatArray]

    @classmethod
    def typical(cls) -> Mixture:
        """Return what the weights of other projects were, until they are fitted to this one.

        On a project of a language that they have not seen, with 5 held-out files to fit on, such
        weights were better than fitted ones: MRR .705 against .679 with the left side alone, .776
        against .749 with both (Java, 500 names).
        """
        return cls.from_json(json.loads(_TYPICAL.read_text(encoding="utf-8")))

    def scores(self, terms: FloatArray, sides: Sides) -> FloatArray:
        """Return the weighted sum of terms, ``[names]``; with a model if it is among them.

        Args:
            terms: float64 ``[TERMS, names]``, or ``[LEXICAL_TERMS, names]``.
            sides: what there is to see.
        """
        weights = self.with_model if len(terms) > LEXICAL_TERMS else self.without_model
        scores: FloatArray = weights[sides] @ terms
        return scores

    def parts(
        self, terms: FloatArray, sides: Sides, parts: Mapping[str, tuple[str, ...]]
    ) -> dict[str, FloatArray]:
        """Return what some of the terms alone add up to, ``[names]`` for each part that is there.

        Args:
            terms: see :meth:`scores`.
            sides: what there is to see.
            parts: names of the terms of each part.
        """
        weights = (self.with_model if len(terms) > LEXICAL_TERMS else self.without_model)[sides]
        found = {}
        for part, names in parts.items():
            rows = [row for row in map(TERMS.index, names) if row < len(terms)]
            if rows:
                found[part] = weights[rows] @ terms[rows]
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the weights by name; :meth:`from_json` reverses it."""
        return {
            kind: {
                side: dict(zip(TERMS, weights.tolist(), strict=False))
                for side, weights in getattr(self, kind).items()
            }
            for kind in _TERMS_OF
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Mixture:
        """Rebuild from :meth:`to_json`.

        Raises:
            CheckpointError: the terms are not those of this version.
        """
        typical = json.loads(_TYPICAL.read_text(encoding="utf-8"))
        found: dict[str, dict[Sides, FloatArray]] = {}
        for kind, terms in _TERMS_OF.items():
            found[kind] = {}
            for side in get_args(Sides):
                weights = content.get(kind, {}).get(side, {})
                added = {term: typical[kind][side][term] for term in _LATER_TERMS}
                weights = {**added, **weights}
                if {*weights} != {*terms}:
                    raise CheckpointError(
                        f"weights of completion, {kind}, {side}: they are of {', '.join(weights)}; "
                        "this version adds up other terms. Run `seqmlm code fit` again."
                    )
                found[kind][side] = np.array([weights[term] for term in terms], np.float64)
        return cls(**found)


def sides_of(evidence: Evidence) -> Sides:
    """Say what there is to see at a cursor."""
    return "both" if len(evidence.cursor.right) else "left"


def terms_of(
    evidence: Evidence, model_scores: FloatArray | None, tokens: NameTokens | None
) -> FloatArray:
    """Return the terms of each name, float64 ``[TERMS or LEXICAL_TERMS, names]``."""
    if model_scores is None or tokens is None:
        return evidence.features
    has_length = (tokens.lengths == np.arange(1, LENGTHS + 1)[:, None]).astype(np.float64)
    of_new = np.where(evidence.is_new_on_the_left, model_scores, 0.0)
    return np.concatenate(
        [evidence.features, has_length * model_scores, has_length[1:], of_new[None]]
    )
