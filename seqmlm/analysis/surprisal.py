"""How surprising each token of a sequence is to a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.analysis.run import AnalysedRun
from seqmlm.encoding import Encoding, IntArray
from seqmlm.errors import DataError
from seqmlm.inference.likelihood import score_encoding
from seqmlm.objectives.rows import Direction

NATS_PER_BIT = float(np.log(2))


@dataclass(frozen=True)
class SequenceSurprisal:
    """The surprisal of each token of one sequence.

    Args:
        name: of the sequence, for titles.
        tokens: as they are shown, start and end left out.
        units: number of the unit (word, residue) of each token, -1 for none.
        nats: -log p of each token, None where it cannot be predicted.
    """

    name: str
    tokens: tuple[str, ...]
    units: tuple[int, ...]
    nats: tuple[float | None, ...]

    @property
    def scored_nats(self) -> list[float]:
        """Surprisal of the tokens that have one."""
        return [value for value in self.nats if value is not None]

    @property
    def mean_nats(self) -> float:
        """Mean over the tokens that have one."""
        return float(np.mean(self.scored_nats))


@dataclass(frozen=True)
class SurprisalReport:
    """The surprisal of several sequences.

    Args:
        sequences: in the order given.
        direction: of a causal run; None where each token was masked alone.
    """

    sequences: tuple[SequenceSurprisal, ...]
    direction: Direction | None

    @property
    def predicted_from(self) -> str:
        """What each token was predicted from, for titles."""
        return predicted_from(self.direction)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; 1 bit is log 2 nats."""
        return {
            "predicted_from": self.predicted_from,
            "sequences": [
                {
                    "name": item.name,
                    "scored_tokens": len(item.scored_nats),
                    "mean_nats": item.mean_nats,
                    "mean_bits": item.mean_nats / NATS_PER_BIT,
                    "tokens": [
                        {"token": token, "unit": unit, "nats": nats}
                        for token, unit, nats in zip(
                            item.tokens, item.units, item.nats, strict=True
                        )
                    ],
                }
                for item in self.sequences
            ],
        }


def predicted_from(direction: Direction | None) -> str:
    """Say in a few words what a token is predicted from."""
    if direction is None:
        return "all other tokens"
    return "the tokens before it" if direction == "left_to_right" else "the tokens after it"


def analyse_surprisal(
    run: AnalysedRun, sequences: Iterable[tuple[str, Encoding]], *, tokens_per_batch: int = 8192
) -> SurprisalReport:
    """Score every token of some sequences.

    A run that fills in masks is asked for -log p(token | all others), each token masked alone
    (Salazar et al., arXiv 1910.14659): the cost grows with the square of the length. A causal
    run is asked for -log p(token | those before it), in one pass.

    Args:
        run: of either kind.
        sequences: names and encodings.
        tokens_per_batch: bounds the memory; results do not depend on it.

    Raises:
        DataError: no token of a sequence can be scored.
    """
    scored = tuple(
        _score(run, name, encoding, tokens_per_batch=tokens_per_batch)
        for name, encoding in sequences
    )
    return SurprisalReport(scored, run.direction)


def token_surprisal(
    run: AnalysedRun, encoding: Encoding, *, tokens_per_batch: int
) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Return the positions that can be predicted, int32 ``[m]``, and their surprisal in nats.

    See :func:`analyse_surprisal`; m may be 0.
    """
    score = score_encoding(run.model, encoding, tokens_per_batch=tokens_per_batch)
    return (
        np.array(score.positions, np.int32),
        -np.array(score.token_log_likelihoods, np.float64),
    )


def shown_tokens(run: AnalysedRun, ids: Sequence[int]) -> list[str]:
    """Return each token as a reader knows it: decoded, or as in the vocabulary where that fails.

    White space, which decoding may drop, is shown by signs.
    """
    shown = []
    for token in ids:
        written = run.model.vocabulary.tokens[token]
        text = run.model.domain.decode([token]) or written
        if "\N{REPLACEMENT CHARACTER}" in text:
            text = written
        shown.append(text.replace("\n", "\N{RETURN SYMBOL}").replace(" ", "\N{OPEN BOX}"))
    return shown


def _score(
    run: AnalysedRun, name: str, encoding: Encoding, *, tokens_per_batch: int
) -> SequenceSurprisal:
    positions, nats = token_surprisal(run, encoding, tokens_per_batch=tokens_per_batch)
    if not len(positions):
        raise DataError(
            f"{name}: no token of it can be scored. Give a sequence with at least one token that "
            "is neither special nor a mask."
        )
    surprisal = dict(zip(positions.tolist(), nats.tolist(), strict=True))
    special = run.model.vocabulary.special
    kept = np.flatnonzero(~np.isin(encoding.ids, [special.start, special.end, special.padding]))
    return SequenceSurprisal(
        name,
        tokens=tuple(shown_tokens(run, encoding.ids[kept].tolist())),
        units=tuple(encoding.unit_ids[kept].tolist()),
        nats=tuple(surprisal.get(position) for position in kept.tolist()),
    )
