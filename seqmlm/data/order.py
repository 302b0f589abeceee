"""Which records form which optimizer step: a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from seqmlm.randomness import Purpose, stream

BATCHES_PER_WINDOW = 50
"""Records are sorted by length within windows of about so many batches.

Wider windows make the rows of a batch more alike, narrower ones the order more random; at 50 the
padding that a dense layout would need is 1 to 2 % on real proteins.
"""


@dataclass(frozen=True)
class EpochOrder:
    """The batches of every epoch.

    Args:
        records: int64 ``[n]``, the record numbers to visit.
        lengths: int64 ``[n]``, tokens of each as encoded.
        groups: int64 ``[n]``, similarity group of each.
        sampling: ``record`` visits every record once an epoch; ``cluster`` one random member of
            every group, so that a group counts the same however often it was sequenced.
        tokens_per_batch: most tokens in a batch; a longer record makes a batch alone.
        seed: of the run.
    """

    records: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    sampling: Literal["record", "cluster"]
    tokens_per_batch: int
    seed: int

    def batches(self, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the record numbers of each batch, rows of similar length together."""
        generator = stream(self.seed, Purpose.ORDER, epoch=epoch)
        visited = self._visited(generator)
        mean_length = max(float(self.lengths[visited].mean()), 1.0)
        window = max(int(BATCHES_PER_WINDOW * self.tokens_per_batch / mean_length), 1)
        for start in range(0, len(visited), window):
            chosen = visited[start : start + window]
            chosen = chosen[np.argsort(self.lengths[chosen], kind="stable")]
            cuts = _fill(self.lengths[chosen], self.tokens_per_batch)
            batches = np.split(chosen, cuts)
            for position in generator.permutation(len(batches)):
                yield self.records[batches[position]]

    def _visited(self, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        if self.sampling == "record":
            return generator.permutation(len(self.records))
        by_group = generator.permutation(len(self.records))
        by_group = by_group[np.argsort(self.groups[by_group], kind="stable")]
        first = np.diff(self.groups[by_group], prepend=-1) != 0
        return generator.permutation(by_group[first])


def _fill(lengths: npt.NDArray[np.int64], tokens_per_batch: int) -> list[int]:
    """Positions where a new batch starts, so that none exceeds the token budget."""
    cuts: list[int] = []
    ends = np.cumsum(lengths)
    start, spent = 0, 0
    while True:
        cut = int(np.searchsorted(ends, spent + tokens_per_batch, side="right"))
        cut = max(cut, start + 1)
        if cut >= len(lengths):
            return cuts
        cuts.append(cut)
        start, spent = cut, int(ends[cut - 1])


def deal(records: npt.NDArray[np.int64], parts: int) -> list[npt.NDArray[np.int64]]:
    """Share one batch among ranks and micro-batches; parts may be empty.

    Rows arrive sorted by length, so dealing them out in turn gives every part the same load.
    """
    return [records[part::parts] for part in range(parts)]
