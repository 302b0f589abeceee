"""Raw files to a store, once: the cache, the report, and what is refused."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from seqmlm.data import prepare as preparation
from seqmlm.data.prepare import cache_folder, describe_sources, open_store, prepare
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain, build_domain
from seqmlm.errors import DataError
from seqmlm_domains.protein.domain import ProteinDomain

LINES = ["first\tabc def", "#\t# a comment", "", "x" * 70, "last\txyz"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SEQMLM_CACHE", str(folder))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES))
    return path


def texts(domain: Domain, store: TokenStore) -> list[str]:
    return [domain.decode(store[i].tolist()) for i in range(len(store))]


def stores(cache: Path) -> list[Path]:
    return sorted((cache / "stores").iterdir())


def test_every_record_read_is_accounted_for(words: Domain, source: Path, tmp_path: Path) -> None:
    store = prepare(words, [str(source)], tmp_path / "store")
    report = store.report
    assert (report.read, report.used, report.truncated) == (5, 2, 1)
    assert dict(report.dropped) == {"comment": 1, "empty line": 1}
    assert report.examples["comment"] == [f"{source}, record 2 (#)"]
    assert report.used + report.truncated + report.dropped.total() == report.read
    assert texts(words, store) == ["abc def", "", "", "x" * 60, "xyz"]
    assert store.names() == ["first", "#", "line 3", "line 4", "last"]


def test_blocks_of_any_size_give_the_same_store(
    words: Domain, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare(words, [str(source)], tmp_path / "whole")
    monkeypatch.setattr(preparation, "CHARACTERS_PER_BLOCK", 1)
    progress: list[tuple[int, int]] = []
    blocks = prepare(
        words, [str(source)], tmp_path / "blocks",
        on_progress=lambda records, tokens: progress.append((records, tokens)),
    )  # fmt: skip
    assert blocks.fingerprint == whole.fingerprint
    assert texts(words, blocks) == texts(words, whole)
    assert progress == [(1, 7), (2, 7), (4, 67), (5, 70)]


def test_a_store_appears_whole_or_not_at_all(words: Domain, tmp_path: Path) -> None:
    source = tmp_path / "lines.txt"
    source.write_text("good\nBAD")
    with pytest.raises(DataError, match=r"lines\.txt, record 2 \(line 2\): 'B' is not"):
        prepare(words, [str(source)], tmp_path / "store")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt"]


def test_existing_folders_are_never_overwritten(
    words: Domain, source: Path, tmp_path: Path
) -> None:
    prepare(words, [str(source)], tmp_path / "store")
    with pytest.raises(DataError, match="exists already"):
        prepare(words, [str(source)], tmp_path / "store")


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n"], ids=["empty", "blank", "comment"])
def test_sources_without_a_usable_record_are_refused_with_the_report(
    words: Domain, tmp_path: Path, content: str
) -> None:
    source = tmp_path / "lines.txt"
    source.write_text(content)
    with pytest.raises(DataError, match=r"lines\.txt: no usable record \(\d records? read, 0 used"):
        prepare(words, [str(source)], tmp_path / "store")


def test_a_second_run_takes_the_tokens_from_the_cache(
    words: Domain, source: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="seqmlm")
    first = open_store(words, [str(source)])
    assert "cache" not in caplog.text
    second = open_store(words, [str(source)])
    assert "taken from the cache" in caplog.text
    assert first.folder == second.folder
    assert stores(cache) == [first.folder]
    assert second.report == first.report


def test_a_changed_file_is_read_anew(words: Domain, source: Path, cache: Path) -> None:
    before = open_store(words, [str(source)])
    source.write_text("other text")
    after = open_store(words, [str(source)])
    assert texts(words, after) == ["other text"]
    assert after.fingerprint != before.fingerprint
    assert len(stores(cache)) == 2


def test_a_file_of_equal_size_but_another_time_is_read_anew(
    words: Domain, source: Path, cache: Path
) -> None:
    before = open_store(words, [str(source)])
    os.utime(source, ns=(0, 1))
    after = open_store(words, [str(source)])
    assert after.folder != before.folder
    assert after.fingerprint == before.fingerprint


def test_options_of_the_domain_have_stores_of_their_own(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "a.fasta"
    source.write_text(">a\nMK-TA\n")
    kept = open_store(build_domain({"name": "protein", "gaps": "keep"}), [str(source)])
    stripped = open_store(build_domain({"name": "protein", "gaps": "strip"}), [str(source)])
    assert (len(kept.tokens), len(stripped.tokens)) == (5, 4)
    assert len(stores(cache)) == 2


def test_new_files_in_a_folder_or_pattern_are_noticed(words: Domain, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "b.txt").write_text("b")
    for source in (str(folder), str(folder / "*.txt")):
        before = describe_sources([source])
        (folder / "a.txt").write_text("a")
        after = describe_sources([source])
        assert [Path(str(entry[0])).name for entry in before] == ["b.txt"]
        assert [Path(str(entry[0])).name for entry in after] == ["a.txt", "b.txt"]
        (folder / "a.txt").unlink()


def test_standard_input_is_never_taken_from_the_cache(
    words: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that read it twice got the first text twice once."""
    read = []
    for text in ("one", "two"):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        read.append(texts(words, open_store(words, ["-"])))
    assert read == [["one"], ["two"]]


def test_a_prepared_store_is_a_source_itself(
    words: Domain, source: Path, tmp_path: Path, cache: Path
) -> None:
    made = prepare(words, [str(source)], tmp_path / "store")
    assert open_store(words, [str(made.folder)]).fingerprint == made.fingerprint
    assert not cache.exists()


def test_a_store_of_another_vocabulary_is_refused(
    words: Domain, source: Path, tmp_path: Path
) -> None:
    made = prepare(words, [str(source)], tmp_path / "store")
    with pytest.raises(
        DataError, match=rf"prepared with vocabulary {words.vocabulary.fingerprint()}.*'protein'"
    ):
        open_store(ProteinDomain(), [str(made.folder)])


def test_damaged_cache_entries_say_what_to_do(words: Domain, source: Path) -> None:
    store = open_store(words, [str(source)])
    (store.folder / "tokens.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="Delete the store and prepare it again"):
        open_store(words, [str(source)])


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SEQMLM_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/seqmlm"),
        ({"HOME": "/c"}, "/c/.cache/seqmlm"),
        ({"SEQMLM_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/seqmlm"),
    ],
    ids=["own variable", "XDG", "home", "empty variables"],
)
def test_the_cache_lies_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("SEQMLM_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
