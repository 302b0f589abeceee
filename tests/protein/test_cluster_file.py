from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from seqmlm.errors import DataError
from seqmlm_domains.protein.cluster_file import read_cluster_file


def table(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "clusters.tsv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("is_compressed", [False, True])
def test_members_of_a_representative_share_a_number(tmp_path: Path, is_compressed: bool) -> None:
    content = b"a\ta\r\na\tb\r\n\r\nc\tc\r\na\tb\r\n"
    path = table(tmp_path, gzip.compress(content) if is_compressed else content)
    assignment = read_cluster_file(path, ["b", "c", "a", "b"])
    assert assignment.clusters.tolist() == [0, 1, 0, 0]
    assert (assignment.num_unlisted_records, assignment.num_unused_ids) == (0, 0)


def test_unlisted_records_and_unused_ids_are_counted(tmp_path: Path) -> None:
    path = table(tmp_path, b"a\ta\na\tb\nc\tc\nc\td\n")
    assignment = read_cluster_file(path, ["new", "a", "newer"])
    assert assignment.clusters.tolist() == [-1, 0, -1]
    assert (assignment.num_unlisted_records, assignment.num_unused_ids) == (2, 3)


def test_a_uniprot_name_is_found_by_its_accession(tmp_path: Path) -> None:
    path = table(tmp_path, b"P62593\tP62593\nP62593\tsp|P1|X_Y\n")
    assignment = read_cluster_file(path, ["sp|P62593|BLAT_ECOLX", "sp|P1|X_Y"])
    assert assignment.clusters.tolist() == [0, 0]
    assert assignment.num_unused_ids == 0


BAD = {
    "one column": (b"a\ta\nb\n", "line 2 has 1 columns"),
    "three columns": (b"a\ta\ta\n", "line 1 has 3 columns"),
    "empty member": (b"a\ta\n\na\t\n", "line 3 has 2 columns or an empty one"),
    "spaces for tabs": (b"a a\n", "line 1 has 1 columns"),
    "two clusters": (b"a\ta\nb\tb\na\tb\n", "line 3 puts 'b' into the cluster of 'a'"),
    "empty": (b"", "0 clusters"),
    "other sequences": (b"x\tx\n", "none of its ids (the first is 'x')"),
    "truncated gzip": (gzip.compress(b"a\ta\n" * 1000)[:-12], "ends in the middle"),
    "not UTF-8": (b"a\t\xff\n", "byte offset 2"),
}


@pytest.mark.parametrize(("content", "says"), BAD.values(), ids=BAD)
def test_a_bad_table_is_refused_and_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = table(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_cluster_file(path, ["a", "b"])
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        read_cluster_file(tmp_path, ["a"])
