from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.text.reader import TextReader, cut_passages, is_later_passage


def read(*sources: str | Path, **options: Any) -> tuple[list[Record], ReadReport]:
    report = ReadReport()
    return list(TextReader(**options).read(sources, report)), report


def documents(*sources: str | Path, **options: Any) -> list[tuple[str, str]]:
    return [(record.name, record.content) for record in read(*sources, **options)[0]]


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


EQUIVALENT = {
    "LF": b"One line.\nAnother.\n\nA paragraph.\n",
    "CRLF": b"One line.\r\nAnother.\r\n\r\nA paragraph.\r\n",
    "CR": b"One line.\rAnother.\r\rA paragraph.\r",
    "mixed line ends": b"One line.\r\nAnother.\n\rA paragraph.",
    "byte-order mark": b"\xef\xbb\xbfOne line.\nAnother.\n\nA paragraph.\n",
    "many blank lines": b"\n\n \nOne line.\nAnother.\n \t\n\n\nA paragraph.\n\n\n",
}


@pytest.mark.parametrize("content", EQUIVALENT.values(), ids=EQUIVALENT)
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_forms_of_the_same_text_read_the_same(
    tmp_path: Path, content: bytes, compress: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / "x.txt", compress(content))
    assert documents(path) == [("x.txt", "One line.\nAnother.\n\nA paragraph.")]


def test_a_line_can_be_a_document(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", b"one\n\n  two words \nthree")
    assert documents(path, documents="line") == [
        ("x.txt:1", "one"), ("x.txt:2", ""), ("x.txt:3", "two words"), ("x.txt:4", "three"),
    ]  # fmt: skip


WIKITEXT = """\

 = Homarus gammarus =

 A lobster .

 = = Description = =

 Blue .

 = = = = = =
 = A = B =

 Second .
"""


def test_a_heading_begins_a_document(tmp_path: Path) -> None:
    path = write(tmp_path / "wiki.txt", WIKITEXT.encode())
    assert documents(path, documents="heading") == [
        (
            "wiki.txt:2 Homarus gammarus",
            "= Homarus gammarus =\n\n A lobster .\n\n = = Description = =\n\n Blue .\n\n"
            " = = = = = =",
        ),
        ("wiki.txt:11 A = B", "= A = B =\n\n Second ."),
    ]


def test_the_heading_is_an_option_and_what_stands_before_the_first_is_a_document(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "x.txt", b"preface\n# One\na\n## not one\n# Two\nb")
    assert documents(path, documents="heading", heading="# .*") == [
        ("x.txt", "preface"),
        ("x.txt:2 # One", "# One\na\n## not one"),
        ("x.txt:5 # Two", "# Two\nb"),
    ]


def test_json_lines_and_tables_hold_a_document_a_row(tmp_path: Path) -> None:
    rows = [{"text": 'one,\r\n\r\n"two"', "label": 1}, {"label": 2, "text": None}]
    lines = "".join(json.dumps(row) + "\n\n" for row in rows)
    expected = [("x.jsonl:1", 'one,\n\n"two"'), ("x.jsonl:3", "")]
    assert documents(write(tmp_path / "x.jsonl", lines.encode())) == expected
    table = b'label,text\n1,"one,\r\n\r\n""two"""\n2,\n'
    expected = [("x.csv:4", 'one,\n\n"two"'), ("x.csv:5", "")]
    assert documents(write(tmp_path / "x.csv", table)) == expected
    assert documents(write(tmp_path / "x.tsv", b"a\tb\n1\tone, two\n"), text_field="b") == [
        ("x.tsv:2", "one, two")
    ]


def test_a_dash_reads_standard_input_in_the_format_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for content, options in ((b"a text", {}), (b'{"text": "a text"}', {"file_format": "jsonl"})):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        records, _ = read("-", **options)
        assert [(record.content, record.source) for record in records] == [("a text", "<stdin>")]


def test_a_folder_is_searched_for_the_known_formats(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", b"b")
    write(tmp_path / "sub" / "c.jsonl.gz", gzip.compress(b'{"text": "c"}'))
    write(tmp_path / "README.md", b"not read")
    records, report = read(tmp_path)
    assert [record.content for record in records] == ["b", "c"]
    assert report.notes == {"file without a text suffix skipped": 1}
    assert documents(f"{tmp_path}/**/*.gz")[0][1] == "c"


def test_an_empty_document_is_a_record_so_that_it_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", b"")
    write(tmp_path / "b.txt", b" \n\n")
    write(tmp_path / "c.txt", b"c")
    records, report = read(tmp_path)
    assert [record.content for record in records] == ["", "", "c"]
    assert report.read == 3


LINES_64_KB = b'{"text": "a"}\n' * 5000

DAMAGED = {
    "Latin-1": ("x.txt", b"caf\xe9 au lait", "byte offset 3 (byte 0xe9)"),
    "NUL": ("x.txt", b"a\0b", "NUL byte at byte offset 1"),
    "broken JSON": ("x.jsonl", b'{"text": "a"}\n{"text": \n', "line 2, column 9: not valid JSON"),
    "broken JSON late": ("x.jsonl", LINES_64_KB + b"{", "line 5001, column 2"),
    "no object": ("x.jsonl", b'["a"]\n', "line 1: list instead of an object"),
    "missing field": ("x.jsonl", b'{"text": "a"}\n\n{"txt": 1}', "line 3: no field 'text'; it has"),
    "number": ("x.jsonl", b'{"text": 1}', "line 1: 'text' is int, not a string"),
    "NUL in JSON": ("x.jsonl", b'{"text": "a\\u0000"}', "line 1: NUL character"),
    "surrogate": ("x.jsonl", b'{"text": "ab\\ud800"}', "line 1: character 3 of 'text'"),
    "deep JSON": ("x.jsonl", b'{"text": ' + b"[" * 100_000, "line 1: not readable JSON"),
    "huge number": ("x.jsonl", b'{"a": ' + b"1" * 5000 + b"}", "line 1: not readable JSON"),
    "no row": ("x.jsonl", b"\n\n", "0 records"),
    "no table": ("x.csv", b"", "0 records"),
    "header alone": ("x.csv", b"text\n", "0 records"),
    "missing column": ("x.csv", b"body,label\na,1\n", "line 1: no column 'text'; it has 'body'"),
    "ragged": ("x.csv", b"text,label\na,1\nb\n", "line 3: 1 values for 2 columns"),
    "open quote": ("x.csv", b'text\n"a\nb\n', "line 3: not valid CSV"),
    "long value": ("x.csv", b"text\n" + b"a" * 200_000, "need JSON Lines"),
    "JSON": ("x.json", b'{"text": "a"}', "Convert it to JSON Lines"),
}


@pytest.mark.parametrize(("name", "content", "says"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_in_one_line_that_names_file_and_line(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert says in message
    assert "\n" not in message


def test_a_row_of_a_table_has_a_longest_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqmlm_domains.text.reader.LONGEST_ROW", 1000)
    path = write(tmp_path / "x.jsonl", b'{"text": "a"}\n{"text": "' + b"a" * 1000 + b'"}')
    with pytest.raises(DataError, match="line 2: longer than 1,000 characters"):
        read(path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"file_format": "xml"}, "domain.file_format is 'xml'; allowed: auto, text"),
        ({"documents": "page"}, "domain.documents is 'page'"),
        ({"heading": "("}, "not a regular expression"),
        ({"heading": 3}, "not a regular expression"),
        ({"text_field": 3}, "domain.text_field is 3"),
        ({"passage_characters": 99}, "at least 100"),
    ],
)
def test_an_option_outside_its_range_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")):
        TextReader(**options)


def test_a_long_document_becomes_passages_cut_where_it_hurts_least(tmp_path: Path) -> None:
    text = "a" * 60 + "\n\n" + "b" * 60 + "\n" + "c" * 30 + " " + "d" * 60 + "e" * 90
    path = write(tmp_path / "x.txt", text.encode())
    assert documents(path, passage_characters=100) == [
        ("x.txt", "a" * 60),
        ("x.txt \u00a72", "b" * 60),
        ("x.txt \u00a73", "c" * 30 + " " + "d" * 60 + "e" * 9),
        ("x.txt \u00a74", "e" * 81),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("x.txt", False), ("x.txt \u00a72", True), ("x.txt \u00a72 b", False), ("\u00a72", False)],
)
def test_later_passages_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_later_passage(name) is expected


@given(
    st.lists(st.text(st.sampled_from("ab \n"), max_size=80), max_size=20),
    st.integers(100, 300),
)
def test_passages_lose_white_space_alone_and_keep_to_the_limit(
    pieces: list[str], limit: int
) -> None:
    passages = list(cut_passages(pieces, limit))
    assert "".join("".join(passages).split()) == "".join("".join(pieces).split())
    assert all(len(passage) <= limit and passage == passage.strip() for passage in passages)
    assert all(passages) or passages == [""]


def test_a_single_huge_line_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", b"word " * 4_000_000)
    tracemalloc.start()
    try:
        report = ReadReport()
        characters = sum(len(record.content) for record in TextReader().read([path], report))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert characters > 19_900_000
    assert report.read > 9_000
    assert peak < 2 * 2**20
