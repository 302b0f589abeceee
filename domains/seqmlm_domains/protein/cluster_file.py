"""Reads the table of clusters that MMseqs2 and its relatives write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqmlm.data.text_source import open_text, source_name
from seqmlm.errors import DataError


@dataclass(frozen=True)
class ClusterAssignment:
    """The clusters of some records according to a file.

    Args:
        clusters: int64 ``[records]``, cluster number of each record; -1 where not listed.
        num_unlisted_records: records that the file does not name.
        num_unused_ids: ids in the file that no record has.
    """

    clusters: npt.NDArray[np.int64]
    num_unlisted_records: int
    num_unused_ids: int


def read_cluster_file(path: str | Path, names: Sequence[str]) -> ClusterAssignment:
    """Assign clusters to records from a table of ``representative TAB member`` lines.

    That is what ``mmseqs easy-cluster`` writes to ``*_cluster.tsv``; gzip is recognised. Ids are
    record names, or the accession of names such as ``sp|P62593|BLAT_ECOLX``, as in MMseqs2.

    Args:
        path: the table; memory grows with its number of members.
        names: of the records.

    Raises:
        DataError: unreadable, a line without exactly two columns, an id in two clusters, or not a
            single record listed.
    """
    place = source_name(path)
    cluster_of = _read_members(path, place)
    ids = [name if name in cluster_of else _accession(name) for name in names]
    clusters = np.fromiter((cluster_of.get(i, -1) for i in ids), np.int64, count=len(ids))
    num_unlisted = int((clusters < 0).sum())
    if num_unlisted == len(names):
        example = next(iter(cluster_of))
        raise DataError(
            f"{place}: none of its ids (the first is {example!r}) is the name of a record "
            f"(the first is {names[0] if names else None!r}). Is it the table of other sequences?"
        )
    return ClusterAssignment(clusters, num_unlisted, len(cluster_of.keys() - set(ids)))


def _read_members(path: str | Path, place: str) -> dict[str, int]:
    """Return the cluster number of every id, clusters numbered in order of appearance."""
    number_of: dict[str, int] = {}
    cluster_of: dict[str, int] = {}
    with open_text(path) as text:
        for line_number, line in enumerate(text, start=1):
            if line.isspace():
                continue
            columns = line.rstrip("\n").split("\t")
            if len(columns) != 2 or not all(columns):
                raise DataError(
                    f"{place}: line {line_number} has {len(columns)} columns or an empty one; "
                    "each line is 'representative TAB member'."
                )
            representative, member = columns
            cluster = number_of.setdefault(representative, len(number_of))
            if cluster_of.setdefault(member, cluster) != cluster:
                raise DataError(
                    f"{place}: line {line_number} puts {member!r} into the cluster of "
                    f"{representative!r}, an earlier line into another one."
                )
    if not cluster_of:
        raise DataError(f"{place}: the file is empty (0 clusters).")
    return cluster_of


def _accession(name: str) -> str:
    """Return the middle part of ``database|accession|entry``, or the name itself."""
    parts = name.split("|")
    return parts[1] if len(parts) == 3 else name
