"""Groups of similar labelled proteins, and what training and test share of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from seqmlm import __version__
from seqmlm.data.report import ReadReport
from seqmlm.data.store import StoreWriter, TokenStore
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm_domains.protein.clustering import have_neighbours, kmer_clusters
from seqmlm_domains.protein.domain import DEFAULT_CLUSTER_THRESHOLD

IntArray = npt.NDArray[np.int64]


def clusters_of(domain: Domain, encodings: Sequence[Encoding]) -> IntArray:
    """Return a cluster number for each protein, int64 ``[n]``; clusters share 5-mers."""
    with _stored(domain, encodings) as store:
        return kmer_clusters(store, shared_fraction=DEFAULT_CLUSTER_THRESHOLD)


def share_with_neighbour(
    domain: Domain, tested: Sequence[Encoding], trained: Sequence[Encoding]
) -> float:
    """Return the share of the tested proteins that a training protein shares 5-mers with."""
    with _stored(domain, [*trained, *tested]) as store:
        numbers = np.arange(len(store))
        found = have_neighbours(
            store,
            numbers[len(trained) :],
            numbers[: len(trained)],
            shared_fraction=DEFAULT_CLUSTER_THRESHOLD,
        )
        return float(found.mean())


def parts_of_groups(
    groups: IntArray, held_out: Mapping[str, float], seed: int
) -> npt.NDArray[np.str_]:
    """Return the part of each record, str ``[n]``: whole groups at random, the rest ``train``.

    Args:
        groups: int64 ``[n]``.
        held_out: share of the records by part; a part ends with the group that fills it.
        seed: of the draw.
    """
    names, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(names))
    part = np.full(len(names), "train", dtype="<U10")
    done = 0
    for name, share in held_out.items():
        ends = np.cumsum(sizes[order[done:]])
        count = int(np.searchsorted(ends, share * len(groups))) + 1
        part[order[done : done + count]] = name
        done += count
    return part[group]


@contextmanager
def _stored(domain: Domain, encodings: Sequence[Encoding]) -> Iterator[TokenStore]:
    """The residues as a store, which is what clusters are found in."""
    residues = [encoding.ids[1:-1] for encoding in encodings]
    lengths = np.array([len(each) for each in residues], np.int64)
    with TemporaryDirectory(prefix="seqmlm-") as name:
        folder = Path(name)
        with StoreWriter(folder, token_dtype=domain.token_dtype) as writer:
            writer.append([""] * len(residues), np.concatenate(residues), lengths)
            writer.finish(report=ReadReport(), made_from={}, version=__version__)
        yield TokenStore(folder)
