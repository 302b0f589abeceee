"""``seqmlm code complete``: which place of a file is meant, and what is printed there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqmlm.errors import ConfigError, DataError
from seqmlm.model.model import Model
from seqmlm_domains.code.commands import complete
from seqmlm_domains.code.commands.place import offset_at, read_text
from seqmlm_domains.code.completion.mixture import Mixture
from seqmlm_domains.code.completion.project import Project, count_names
from seqmlm_domains.code.source_tokens import SourceTokens

PLAIN = "counter = 1\nprint(coun\nlast"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=ascii)
@pytest.mark.parametrize("mark", [b"", BYTE_ORDER_MARK], ids=["plain", "byte-order mark"])
def test_a_place_is_the_same_by_offset_and_by_line_whatever_ends_lines(
    tmp_path: Path, line_end: str, mark: bytes
) -> None:
    file = tmp_path / "module.py"
    file.write_bytes(mark + PLAIN.replace("\n", line_end).encode())
    text = read_text(file)
    behind_the_word = len("counter = 1") + len(line_end) + len("print(coun")
    assert text[:behind_the_word].endswith("coun")
    assert offset_at(text, offset=behind_the_word, line=None, column=None) == behind_the_word
    assert offset_at(text, offset=None, line=2, column=11) == behind_the_word
    assert offset_at(text, offset=None, line=3, column=1) == behind_the_word + len(line_end)
    assert offset_at(text, offset=None, line=3, column=5) == len(text)


def test_an_astral_character_is_one_and_a_form_feed_ends_no_line() -> None:
    assert offset_at("\N{GRINNING FACE}\f\nx", offset=None, line=2, column=2) == 4


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"offset": 30}, "--offset 30: the file has 29 characters"),
        ({"line": 4, "column": 1}, "--line 4: the file has 3 lines"),
        ({"line": 2, "column": 12}, "line 2 has 10 characters, so the last place is column 11"),
        ({"line": 2}, "--line together with --column"),
        ({}, "--line together with --column"),
        ({"offset": 1, "line": 1, "column": 1}, "--line together with --column"),
    ],
    ids=str,
)
def test_a_place_outside_the_file_or_said_twice_is_refused(
    place: dict[str, int], message: str
) -> None:
    asked = {"offset": None, "line": None, "column": None} | place
    with pytest.raises(ConfigError, match=message):
        offset_at(PLAIN.replace("\n", "\r\n"), **asked)


def test_a_file_that_is_no_text_is_refused_with_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_bytes(b"abc\xff")
    with pytest.raises(DataError, match="byte offset 3"):
        read_text(file)


@pytest.mark.slow
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=ascii)
def test_the_word_before_an_offset_is_completed(
    code_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line_end: str
) -> None:
    file = tmp_path / "module.py"
    before = f"counter = 1{line_end}print(coun"
    file.write_bytes(BYTE_ORDER_MARK + f"{before}{line_end}".encode())
    complete.run(code_run, file=file, offset=len(before), device="cpu", as_json=True)
    by_offset = json.loads(capsys.readouterr().out)
    complete.run(code_run, file=file, line=2, column=11, device="cpu", as_json=True)
    assert json.loads(capsys.readouterr().out) == by_offset
    assert by_offset[0]["text"] == "counter"
    assert by_offset[0]["role"] == "variable"
    assert (by_offset[0]["start"], by_offset[0]["end"]) == (len(before) - 4, len(before))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "written"),
    [
        pytest.param("coun", "counter", id="a name of the text"),
        pytest.param("zzz", "none is in this text that begins as typed", id="none"),
    ],
)
def test_that_a_run_knows_nothing_of_the_language_is_said(
    code_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    typed: str,
    written: str,
) -> None:
    Model.load(code_run).save(tmp_path / "model")
    java = count_names([SourceTokens.of("class Ledger { int total; }\n", "java")])
    Project(java, {"java": Mixture.typical()}, {}).save(tmp_path)
    file = tmp_path / "module.py"
    file.write_text(f"counter = 1\nprint({typed}")
    complete.run(tmp_path, file=file, offset=len(file.read_text()), device="cpu")
    assert written in capsys.readouterr().out
    assert "fitted to no file in python, only to java" in caplog.text
