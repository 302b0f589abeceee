"""Files that are nearly copies of one another: vendored, versioned or generated from a template.

MinHash (Broder 1997) over runs of tokens, with candidates from locality-sensitive hashing. Files
whose estimated Jaccard similarity reaches a threshold are joined, transitively.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SIMILARITY: Final = 0.7
"""Estimated share of common runs from which two files are near copies."""

RUN_TOKENS: Final = 8
_BANDS, _ROWS = 20, 5  # two files of similarity 0.7 meet in a band with probability 0.975
_HASHES = _BANDS * _ROWS
_RUNS_AT_ONCE = 1 << 14

Int64Array = npt.NDArray[np.int64]
HashArray = npt.NDArray[np.uint64]


def near_copy_groups(files: Iterable[npt.NDArray[np.integer[Any]]]) -> Int64Array:
    """Return a group number per file, int64 ``[files]``, equal for near copies.

    Time and memory are linear in the tokens: about a million tokens a second, 800 bytes a file.

    Args:
        files: token ids of each. Files shorter than :data:`RUN_TOKENS` are copies only if equal.
    """
    generator = np.random.default_rng(0)
    factors = generator.integers(1, 2**63, _HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    made = [_signature(ids, factors) for ids in files]
    if not made:
        return np.zeros(0, np.int64)
    signatures = np.stack(made)
    groups = np.arange(len(signatures))
    for band in range(_BANDS):
        rows = signatures[:, band * _ROWS : (band + 1) * _ROWS]
        for first, other in _candidates(rows):
            if np.mean(signatures[first] == signatures[other]) >= SIMILARITY:
                join(groups, first, other)
    return np.unique([root(groups, file) for file in range(len(groups))], return_inverse=True)[1]


def join(groups: Int64Array, first: int, second: int) -> None:
    """Unite the groups of two members in a forest of parents, in place."""
    roots = sorted((root(groups, first), root(groups, second)))
    groups[roots[1]] = roots[0]


def root(groups: Int64Array, member: int) -> int:
    """Return the first member of a group, and shorten the way there."""
    while groups[member] != member:
        groups[member] = groups[groups[member]]
        member = int(groups[member])
    return member


def _signature(ids: npt.NDArray[np.integer[Any]], factors: HashArray) -> HashArray:
    """The least hash of all runs under each of the hash functions, uint64 ``[100]``."""
    tokens = _mixed(ids.astype(np.uint64) + np.uint64(1))
    length = min(RUN_TOKENS, max(1, len(tokens)))
    runs = np.zeros(max(1, len(tokens) - length + 1), np.uint64)
    for place in range(min(length, len(tokens))):
        runs = _mixed(runs + tokens[place : place + len(runs)])
    runs = np.unique(runs)
    least = np.full(len(factors), np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(runs), _RUNS_AT_ONCE):
        hashes = runs[None, start : start + _RUNS_AT_ONCE] * factors[:, None]
        np.minimum(least, (hashes ^ (hashes >> np.uint64(29))).min(axis=1), out=least)
    return least


def _mixed(values: HashArray) -> HashArray:
    """The finaliser of SplitMix64: every bit of a value moves every bit of the result."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _candidates(rows: HashArray) -> Iterator[tuple[int, int]]:
    """Pairs of files that agree in all rows: each with the first of its bucket and the one before.

    Two comparisons a file, however many share a bucket.
    """
    buckets = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(buckets, kind="stable")
    first = int(order[0])
    for previous, file in zip(order[:-1].tolist(), order[1:].tolist(), strict=True):
        if buckets[file] != buckets[previous]:
            first = file
            continue
        yield first, file
        if previous != first:
            yield previous, file
