"""Records in their neighbourhood: which document they belong to, and where they may be parted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain

Scope = Literal["document", "record"]
"""Where two segments are neighbours: in the same document, or in the same record."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Consecutive segments of a document: sentences, lines, or whatever the domain parts.

    Args:
        tokens: stored tokens ``[n]``.
        bounds: int64 ``[segments + 1]``, where each begins; the last entry is ``n``.
    """

    tokens: npt.NDArray[np.unsignedinteger[Any]]
    bounds: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def from_segment(self, number: int) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the tokens from the beginning of a segment to the end, ``[m]``."""
        return self.tokens[self.bounds[number] :]


@dataclass(frozen=True)
class Corpus:
    """Some records of a store, such as all that training may read, and nothing else.

    Args:
        domain: knows documents and segments.
        store: with the tokens.
        records: int64, record numbers, increasing, none of them empty.
        max_length: most tokens of a row, special tokens included.
    """

    domain: Domain
    store: TokenStore
    records: npt.NDArray[np.int64]
    max_length: int

    def segments(self, record: int, *, within: Scope) -> Segments:
        """Return the segments of a record, at least one.

        Within a document, a record of a single segment is continued by the record that follows
        it there, if that is in the corpus.
        """
        own = self._segments(record)
        if len(own) > 1 or within == "record" or not self._continues(record):
            return own
        rest = self._segments(record + 1)
        return Segments(
            np.concatenate([own.tokens, rest.tokens]),
            np.concatenate([own.bounds[:-1], len(own.tokens) + rest.bounds]),
        )

    def divisible(self, *, within: Scope) -> npt.NDArray[np.int64]:
        """Return the records whose :meth:`segments` are two or more, int64, increasing."""
        enough = self._segment_counts > 1
        if within == "document":
            enough |= self._is_continued
        return self.records[enough]

    def draw_other(
        self, record: int, generator: np.random.Generator, *, within: Scope
    ) -> int | None:
        """Draw a divisible record that is of another document, or just another record.

        Uniform over the records; None if there is no such record.
        """
        candidates = self._divisible[within]
        keys = candidates if within == "record" else self._documents[candidates]
        key = record if within == "record" else self._documents[record]
        first, after = np.searchsorted(keys, key, "left"), np.searchsorted(keys, key, "right")
        num_others = len(candidates) - int(after - first)
        if not num_others:
            return None
        drawn = int(generator.integers(num_others))
        return int(candidates[drawn if drawn < first else drawn + after - first])

    @cached_property
    def _documents(self) -> npt.NDArray[np.int64]:
        """Document of every record of the store, counted in their order."""
        return np.cumsum(np.diff(self.domain.documents(self.store), prepend=0) != 0)

    @cached_property
    def _segment_counts(self) -> npt.NDArray[np.int64]:
        """Segments of every record of the corpus; about 10 microseconds each."""
        counts = (len(self._segments(record)) for record in self.records.tolist())
        return np.fromiter(counts, np.int64, len(self.records))

    @cached_property
    def _divisible(self) -> dict[Scope, npt.NDArray[np.int64]]:
        return {
            "document": self.divisible(within="document"),
            "record": self.divisible(within="record"),
        }

    @cached_property
    def _is_continued(self) -> npt.NDArray[np.bool_]:
        """Whether the next record of the store goes on with the document, in this corpus too."""
        here, there = self.records[:-1], self.records[1:]
        continued = (there == here + 1) & (self._documents[here] == self._documents[there])
        return np.append(continued, np.zeros(min(1, len(self.records)), np.bool_))

    def _continues(self, record: int) -> bool:
        return bool(self._is_continued[np.searchsorted(self.records, record)])

    def _segments(self, record: int) -> Segments:
        tokens = self.store[record]
        starts = np.flatnonzero(self.domain.segment_starts(tokens)[1:]) + 1
        return Segments(tokens, np.concatenate([[0], starts, [len(tokens)]]))
