"""Groups of similar proteins by shared k-mers, without an alignment.

Two proteins are neighbours if they share a given fraction of the shorter one's distinct 5-mers.
Identity p leaves about p^5 of the 5-mers intact, so this sees relatives of roughly 50 % identity
and above; for remoter ones, cluster with MMseqs2 and pass its table (:mod:`.cluster_file`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm.data.store import TokenStore
from seqmlm_domains.protein.tokenizer import RESIDUE_RANGE

K: Final = 5

MIN_SHARED_KMERS: Final = 4
"""Neighbours share at least this many k-mers, so that short peptides do not meet by chance."""

MAX_INDEX_ENTRIES: Final = 2**25
"""About 34 million k-mers (94,000 proteins of 360 residues) are indexed; of more, a sample.
A sample sees fewer neighbours: of 1/9, 45 k-mers a protein, it finds 9,000 clusters, not 7,000.

The index peaks at 24 bytes an entry, 0.8 GB.
"""

_THIN_SAMPLE = 40
_NUM_RESIDUES = RESIDUE_RANGE[1] - RESIDUE_RANGE[0]
_NUM_KMERS = _NUM_RESIDUES**K
_TOKENS_AT_ONCE = 2**21

_logger = logging.getLogger("seqmlm")

Int64Array = npt.NDArray[np.int64]
KmerArray = npt.NDArray[np.uint32]
BoolArray = npt.NDArray[np.bool_]


def kmer_clusters(
    store: TokenStore, *, shared_fraction: float, max_index_entries: int = MAX_INDEX_ENTRIES
) -> Int64Array:
    """Return a cluster number per record, int64 ``[records]``, numbered from 0.

    Greedy and longest first, as CD-HIT does (Li & Godzik 2006): a record without a cluster founds
    one and takes every neighbour without a cluster. Not transitive: members of two clusters may be
    neighbours. Identical records are always together.

    Args:
        store: residues as ESM-2 ids.
        shared_fraction: of the shorter record's distinct k-mers, in (0, 1].
        max_index_entries: more k-mers than this are sampled by their hash (FracMinHash, Irber et
            al. 2022), which turns the shared fraction into an estimate.
    """
    identical = store.identical_groups()
    records = np.unique(identical, return_index=True)[1]
    index = _KmerIndex.of(store, records, max_index_entries=max_index_entries)
    clusters = np.full(len(records), -1, dtype=np.int64)
    is_free = np.ones(len(records), dtype=np.bool_)
    num_clusters = 0
    for founder in np.argsort(-store.lengths[records], kind="stable").tolist():
        if not is_free[founder]:
            continue
        neighbours = index.neighbours(
            index.kmers_of(founder), among=is_free, shared_fraction=shared_fraction
        )
        clusters[neighbours] = num_clusters
        clusters[founder] = num_clusters
        is_free[neighbours] = False
        is_free[founder] = False
        num_clusters += 1
    return clusters[identical]


def have_neighbours(
    store: TokenStore,
    queries: Int64Array,
    references: Int64Array,
    *,
    shared_fraction: float,
    max_index_entries: int = MAX_INDEX_ENTRIES,
) -> BoolArray:
    """Say for each query record whether a reference record is identical or a neighbour.

    Args:
        store: residues as ESM-2 ids.
        queries: record numbers, int64 ``[queries]``.
        references: record numbers, int64 ``[references]``.
        shared_fraction: as for :func:`kmer_clusters`.
        max_index_entries: as for :func:`kmer_clusters`.

    Returns:
        bool ``[queries]``.
    """
    identical = store.identical_groups()
    found = np.isin(identical[queries], identical[references])
    index = _KmerIndex.of(store, references, max_index_entries=max_index_entries)
    all_references = np.ones(len(references), dtype=np.bool_)
    for query in np.flatnonzero(~found).tolist():
        kmers = _distinct_kmers(store, queries[query : query + 1], index.is_sampled)[0]
        neighbours = index.neighbours(kmers, among=all_references, shared_fraction=shared_fraction)
        found[query] = len(neighbours) > 0
    return found


@dataclass(frozen=True)
class _KmerIndex:
    """Distinct k-mers of each record, and for each k-mer the records that hold it.

    Args:
        kmers: uint32 ``[entries]``, record after record.
        starts: int64 ``[records + 1]`` into ``kmers``.
        postings: uint32 ``[entries]``, records, k-mer after k-mer.
        posting_starts: int64 ``[20^5 + 1]`` into ``postings``.
        is_sampled: bool ``[20^5]``, k-mers that take part.
    """

    kmers: KmerArray
    starts: Int64Array
    postings: npt.NDArray[np.uint32]
    posting_starts: Int64Array
    is_sampled: BoolArray

    @classmethod
    def of(cls, store: TokenStore, records: Int64Array, *, max_index_entries: int) -> _KmerIndex:
        """Index ``records`` of ``store``, numbered from 0 in the order given."""
        num_windows = int(np.maximum(store.lengths[records] - K + 1, 0).sum())
        share = min(1.0, max_index_entries / max(num_windows, 1))
        if share < 1 and num_windows * share < _THIN_SAMPLE * len(records):
            _logger.warning(
                "Clustering samples %.0f k-mers a record out of %.0f and will miss relatives. "
                "Cluster so many records with MMseqs2 and set domain.clusters to its table.",
                num_windows * share / len(records),
                num_windows / len(records),
            )
        is_sampled = _sample_of_kmers(share)
        parts = [_distinct_kmers(store, chunk, is_sampled) for chunk in _in_chunks(store, records)]
        kmers = np.concatenate([np.empty(0, np.uint32), *(part[0] for part in parts)])
        counts = np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)])
        owners = np.repeat(np.arange(len(records), dtype=np.uint64), counts)
        pairs = kmers.astype(np.uint64) << np.uint64(32)
        pairs |= owners
        del owners
        pairs.sort()
        return cls(
            kmers=kmers,
            starts=_starts(counts),
            postings=pairs.astype(np.uint32),
            posting_starts=_starts(np.bincount(kmers, minlength=_NUM_KMERS)),
            is_sampled=is_sampled,
        )

    def kmers_of(self, record: int) -> KmerArray:
        """Return the distinct k-mers of an indexed record."""
        return self.kmers[self.starts[record] : self.starts[record + 1]]

    def neighbours(
        self, kmers: KmerArray, *, among: BoolArray, shared_fraction: float
    ) -> KmerArray:
        """Return the indexed records in ``among`` that share enough of the distinct ``kmers``."""
        first = self.posting_starts[kmers]
        holders = self.postings[_ranges(first, self.posting_starts[kmers + np.uint32(1)] - first)]
        records, num_shared = np.unique(holders[among[holders]], return_counts=True)
        num_distinct = self.starts[records + np.uint32(1)] - self.starts[records]
        # The small term: 0.07 * 100 must not ask for 8 of 100.
        required = shared_fraction * np.minimum(num_distinct, len(kmers)) - 1e-9
        enough: KmerArray = records[num_shared >= np.maximum(required, MIN_SHARED_KMERS)]
        return enough


def _distinct_kmers(
    store: TokenStore, records: Int64Array, is_sampled: BoolArray
) -> tuple[KmerArray, Int64Array]:
    """Return the sampled distinct k-mers, record after record, and their number in each record.

    A k-mer with anything but standard residues does not count.
    """
    lengths = store.lengths[records]
    tokens = store.tokens[_ranges(store.offsets[records], lengths)]
    # Ids below the range wrap to large numbers, so one comparison finds what is no residue.
    residues = tokens.astype(np.uint8) - np.uint8(RESIDUE_RANGE[0])
    owners = np.repeat(np.arange(len(records), dtype=np.uint32), lengths)
    num_windows = max(len(residues) - K + 1, 0)
    codes = np.zeros(num_windows, dtype=np.uint32)
    is_valid = owners[:num_windows] == owners[len(owners) - num_windows :]
    for i in range(K):
        shifted = residues[i : i + num_windows]
        codes = codes * np.uint32(_NUM_RESIDUES) + shifted
        is_valid &= shifted < _NUM_RESIDUES
    codes, owners = codes[is_valid], owners[:num_windows][is_valid]
    is_kept = is_sampled[codes]
    pairs = owners[is_kept].astype(np.uint64) << np.uint64(32)
    pairs |= codes[is_kept]
    pairs.sort()
    is_new = np.ones(len(pairs), dtype=np.bool_)
    is_new[1:] = pairs[1:] != pairs[:-1]
    pairs = pairs[is_new]
    counts = np.bincount((pairs >> np.uint64(32)).astype(np.int64), minlength=len(records))
    return pairs.astype(np.uint32), counts


def _sample_of_kmers(share: float) -> BoolArray:
    """Return bool ``[20^5]``: k-mers whose hash is in the lowest ``share`` of all hashes."""
    if share >= 1:
        return np.ones(_NUM_KMERS, dtype=np.bool_)
    # The finaliser of SplitMix64 (Steele et al. 2014).
    hashes = np.arange(1, _NUM_KMERS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (hashes ^ (hashes >> np.uint64(31))) < np.uint64(share * 2.0**64)


def _in_chunks(store: TokenStore, records: Int64Array) -> Iterator[Int64Array]:
    """Cut ``records`` so that a piece holds about ``_TOKENS_AT_ONCE`` tokens."""
    if len(records):
        pieces = np.cumsum(store.lengths[records]) // _TOKENS_AT_ONCE
        yield from np.split(records, np.flatnonzero(np.diff(pieces)) + 1)


def _ranges(starts: Int64Array, lengths: Int64Array) -> Int64Array:
    """Return ``starts[0], starts[0] + 1, ...`` for each range, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    positions: Int64Array = np.repeat(starts - (ends - lengths), lengths)
    positions += np.arange(total)
    return positions


def _starts(counts: Int64Array) -> Int64Array:
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts
