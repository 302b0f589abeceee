"""A bar that counts: a token given the tokens right beside it, all of them visible.

Counts of one more neighbour on each side are smoothed towards those of one less, down to the
frequencies of the tokens: P_k(t | c) = (n(c, t) + s_k P_(k-1)(t | c')) / (n(c) + s_k), where c are
the k neighbours on either side and c' those without the outermost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

STRENGTHS = tuple(2.0**exponent for exponent in range(-4, 11))
_TUNED_ON = 10  # every tenth sequence fits the strengths
_NOTHING = -1  # beside the first and the last token


class NeighbourCounts:
    """Fitted counts.

    Args:
        sequences: ids of each training sequence, int32 ``[n]``, special tokens included.
        positions: those of each sequence that are counted, int ``[m]``.
        width: neighbours on each side.
        num_tokens: how many different tokens may be predicted.
    """

    def __init__(
        self,
        sequences: Sequence[IntArray],
        positions: Sequence[IntArray],
        *,
        width: int,
        num_tokens: int,
    ) -> None:
        self._width, self._num_tokens = width, num_tokens
        self._strengths: list[float] = []
        rest = [index for index in range(len(sequences)) if index % _TUNED_ON]
        self._count([sequences[i] for i in rest], [positions[i] for i in rest])
        tuned = sequences[::_TUNED_ON], positions[::_TUNED_ON]
        for _ in range(width):
            self._strengths.append(
                min(STRENGTHS, key=lambda strength: self._nats(*tuned, last=strength).mean())
            )
        self._count(sequences, positions)

    def loss(self, sequences: Sequence[IntArray], positions: Sequence[IntArray]) -> float:
        """Return mean nats per position; see the constructor for the arguments."""
        return float(self._nats(sequences, positions).mean())

    def _count(self, sequences: Sequence[IntArray], positions: Sequence[IntArray]) -> None:
        self._pairs: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(self._width + 1)]
        self._contexts: list[Counter[tuple[int, ...]]] = [Counter() for _ in self._pairs]
        for token, beside in self._targets(sequences, positions):
            for width, (pairs, contexts) in enumerate(
                zip(self._pairs, self._contexts, strict=True)
            ):
                context = beside[: 2 * width]
                pairs[*context, token] += 1
                contexts[context] += 1

    def _targets(
        self, sequences: Sequence[IntArray], positions: Sequence[IntArray]
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Each token, and its neighbours from the nearest ones to the farthest."""
        width = self._width
        for ids, own in zip(sequences, positions, strict=True):
            padded = [_NOTHING] * width + ids.tolist() + [_NOTHING] * width
            for at in (own + width).tolist():
                beside = [
                    padded[at + side * away] for away in range(1, width + 1) for side in (-1, 1)
                ]
                yield padded[at], tuple(beside)

    def _nats(
        self,
        sequences: Sequence[IntArray],
        positions: Sequence[IntArray],
        last: float | None = None,
    ) -> FloatArray:
        """Minus the log-probability of each token, by as many widths as have a strength."""
        strengths = [*self._strengths, *([] if last is None else [last])]
        total = self._contexts[0][()]
        nats = []
        for token, beside in self._targets(sequences, positions):
            chance = (self._pairs[0][(token,)] + 1) / (total + self._num_tokens)
            for width, strength in enumerate(strengths, start=1):
                context = beside[: 2 * width]
                seen = self._pairs[width][*context, token]
                chance = (seen + strength * chance) / (self._contexts[width][context] + strength)
            nats.append(-np.log(chance))
        return np.array(nats)
