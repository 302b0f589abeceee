"""Tokens on disk: what is written is read back, and damage is noticed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm.data.report import ReadReport
from seqmlm.data.store import StoreWriter, TokenStore
from seqmlm.errors import DataError

DTYPES = [np.uint8, np.uint16, np.uint32]


def write(
    folder: Path,
    records: Sequence[tuple[str, Sequence[int]]],
    dtype: type[np.unsignedinteger[Any]] = np.uint8,
    block: int = 2,
) -> TokenStore:
    """Write records in blocks of a few, as `prepare` does."""
    folder.mkdir(parents=True)
    writer = StoreWriter(folder, token_dtype=dtype)
    for start in range(0, len(records), block):
        part = records[start : start + block]
        writer.append(
            [name for name, _ in part],
            np.array([token for _, tokens in part for token in tokens], dtype),
            np.array([len(tokens) for _, tokens in part], np.int64),
        )
    writer.finish(report=ReadReport(read=len(records)), made_from={"x": 1}, version="1.2.3")
    return TokenStore(folder)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=30)
@given(data=st.data())
def test_records_are_read_back_as_written(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: type[np.unsignedinteger[Any]],
    data: st.DataObject,
) -> None:
    tokens = st.lists(st.integers(0, int(np.iinfo(dtype).max)), max_size=6)
    names = st.text(st.characters(codec="utf-8"), max_size=6)
    records = data.draw(st.lists(st.tuples(names, tokens), min_size=1, max_size=8))
    store = write(tmp_path_factory.mktemp("store") / "s", records, dtype, block=3)
    assert len(store) == len(records)
    assert [store[i].tolist() for i in range(len(store))] == [list(part) for _, part in records]
    assert store.names() == [name for name, _ in records]
    assert store.lengths.tolist() == [len(part) for _, part in records]
    assert store.tokens.dtype == dtype


def test_metadata_says_what_the_store_was_made_from(tmp_path: Path) -> None:
    store = write(tmp_path / "s", [("a", [1, 2]), ("b", [3])])
    assert store.metadata["made_from"] == {"x": 1}
    assert store.metadata["seqmlm_version"] == "1.2.3"
    assert (store.metadata["records"], store.metadata["tokens"]) == (2, 3)
    assert store.report.read == 2


RECORDS = [("a", [1, 2]), ("b", [3]), ("c", [])]


@pytest.mark.parametrize(
    "changed",
    [
        [("a", [1, 2]), ("b", [4]), ("c", [])],
        [("b", [3]), ("a", [1, 2]), ("c", [])],
        [("a", [1]), ("b", [2, 3]), ("c", [])],
        [("a", [1, 2]), ("c", []), ("b", [3])],
        [("a", [1, 2]), ("b", [3])],
    ],
    ids=["token", "order", "boundary", "order of an empty one", "fewer"],
)
def test_fingerprint_changes_with_content_and_order(
    tmp_path: Path, changed: list[tuple[str, list[int]]]
) -> None:
    original = write(tmp_path / "original", RECORDS)
    assert write(tmp_path / "changed", changed).fingerprint != original.fingerprint


def test_fingerprint_does_not_depend_on_blocks_or_names(tmp_path: Path) -> None:
    stores = [
        write(tmp_path / "one", RECORDS, block=1),
        write(tmp_path / "all", RECORDS, block=9),
        write(tmp_path / "renamed", [(name * 2, tokens) for name, tokens in RECORDS]),
    ]
    assert len({store.fingerprint for store in stores}) == 1


def test_identical_records_share_a_group(tmp_path: Path) -> None:
    store = write(tmp_path / "s", [("a", [1, 2]), ("b", [1]), ("c", [1, 2]), ("d", []), ("e", [])])
    groups = store.identical_groups()
    assert groups.dtype == np.int64
    assert groups[0] == groups[2]
    assert groups[3] == groups[4]
    assert len(set(groups.tolist())) == 3


def truncate(path: Path, missing_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:-missing_bytes])


@pytest.mark.parametrize("missing_bytes", [1, 2, 8, 24])
@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "content_hashes.bin"])
def test_shortened_files_are_noticed(tmp_path: Path, name: str, missing_bytes: int) -> None:
    """An empty offsets.bin ended in an IndexError once, a short content_hashes.bin in silence."""
    store = write(tmp_path / "s", [("a", [1, 2]), ("b", [3])], np.uint16)
    path = store.folder / name
    truncate(path, min(missing_bytes, path.stat().st_size))
    with pytest.raises(DataError, match=r"prepare it again"):
        TokenStore(store.folder)


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "content_hashes.bin"])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    store = write(tmp_path / "s", RECORDS)
    (store.folder / name).unlink()
    with pytest.raises(DataError, match=f"{name}: cannot be read"):
        TokenStore(store.folder)


@pytest.mark.parametrize("content", [None, "", "{", "[]"], ids=["absent", "empty", "cut", "list"])
def test_folders_that_are_no_store_are_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "store.json").write_text(content)
    with pytest.raises(DataError, match=r"is not a token store .*seqmlm prepare"):
        TokenStore(tmp_path)


def test_incomplete_metadata_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"format_version": 1}')
    with pytest.raises(DataError, match=r"store\.json: made_from, records, token_dtype missing"):
        TokenStore(tmp_path)


def test_stores_of_a_later_format_are_refused(tmp_path: Path) -> None:
    store = write(tmp_path / "s", RECORDS)
    path = store.folder / "store.json"
    path.write_text(json.dumps(store.metadata | {"format_version": 2}))
    with pytest.raises(DataError, match=r"format 2 was written by seqmlm 1\.2\.3; this one reads"):
        TokenStore(store.folder)


def test_records_are_not_read_when_a_store_is_opened(tmp_path: Path) -> None:
    store = write(tmp_path / "s", RECORDS)
    assert isinstance(store.tokens.base, np.memmap)
    assert not store.tokens.flags.writeable
