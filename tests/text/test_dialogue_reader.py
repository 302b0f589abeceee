"""Dialogues from JSON Lines and scripts; what cannot be used is counted with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.report import ReadReport
from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.text.dialogue_reader import MOST_SPEAKERS, DialogueReader, Turn, turns_of

HELLO = [{"speaker": "A", "text": "Hello."}, {"speaker": "B", "text": "Hi!"}]


def read(path: Path, **options: Any) -> tuple[dict[str, list[Turn]], ReadReport]:
    report = ReadReport()
    records = list(DialogueReader(**options).read([str(path)], report))
    return {record.name: turns_of(record.content) for record in records}, report


def written(folder: Path, *dialogues: Any, field: str = "turns") -> Path:
    path = folder / "talk.jsonl"
    path.write_text("".join(json.dumps({field: turns}) + "\n" for turns in dialogues))
    return path


def test_turns_keep_their_speakers_and_order(tmp_path: Path) -> None:
    more = [*HELLO, {"speaker": 7, "text": " What \n is\tit? "}]
    found, report = read(written(tmp_path, HELLO, more))
    assert found == {
        "talk.jsonl:1": [("A", "Hello."), ("B", "Hi!")],
        "talk.jsonl:2": [("A", "Hello."), ("B", "Hi!"), ("7", "What is it?")],
    }
    assert (report.read, report.used) == (2, 2)


def test_the_field_of_the_turns_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, HELLO, field="messages")
    assert read(path, turns_field="messages")[0] == {
        "talk.jsonl:1": [("A", "Hello."), ("B", "Hi!")]
    }
    with pytest.raises(DataError, match=r"line 1: no field 'turns'.*domain\.turns_field"):
        read(path)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ("A: Hello.", "turns that are not a list"),
        (None, "turns that are not a list"),
        ([], "dialogue of fewer than two turns with text"),
        (HELLO[:1], "dialogue of fewer than two turns with text"),
        ([*HELLO[:1], {"speaker": "B", "text": " "}], "dialogue of fewer than two turns with text"),
        ([*HELLO, "Bye."], "turn that is not an object with 'speaker' and 'text'"),
        ([*HELLO, {"text": "Bye."}], "turn without a speaker"),
        ([*HELLO, {"speaker": " ", "text": "Bye."}], "turn without a speaker"),
        ([*HELLO, {"speaker": 1.5, "text": "Bye."}],
         "speaker that is neither a string nor a whole number"),
        ([*HELLO, {"speaker": "A"}], "turn whose text is not a string"),
        ([*HELLO, {"speaker": "A", "text": 3}], "turn whose text is not a string"),
        ([*HELLO, {"speaker": "A", "text": "\0"}], "NUL character in the text of a turn"),
        ([*HELLO, {"speaker": "A", "text": "\ud800"}],
         "half a surrogate pair, which no Unicode text holds"),
        ([{"speaker": n, "text": "I"} for n in range(MOST_SPEAKERS + 1)],
         "dialogue of more than 256 speakers"),
    ],
)  # fmt: skip
def test_an_unusable_dialogue_is_dropped_with_its_reason_and_line(
    turns: Any, reason: str, tmp_path: Path
) -> None:
    path = written(tmp_path, HELLO, turns)
    found, report = read(path, turns_per_record=1000)
    assert list(found) == ["talk.jsonl:1"]
    assert report.dropped == {reason: 1}
    assert report.examples[reason] == [f"{path}, record 2 (talk.jsonl:2)"]
    assert (report.read, report.used) == (2, 1)


def test_turns_without_text_are_left_out_and_counted(tmp_path: Path) -> None:
    silent = {"speaker": "B", "text": ""}
    found, report = read(written(tmp_path, [silent, *HELLO, silent]))
    assert found["talk.jsonl:1"] == [("A", "Hello."), ("B", "Hi!")]
    assert report.notes == {"turn without text, left out": 2}


@given(turns=st.integers(2, 40), limit=st.integers(2, 10))
def test_long_dialogues_become_records_that_lose_no_turn(turns: int, limit: int) -> None:
    reader = DialogueReader(turns_per_record=limit)
    said = [{"speaker": "A", "text": str(number)} for number in range(turns)]
    parts = list(reader._parts("talk", said))
    assert [turn for _, part in parts for turn in part] == said
    assert [name for name, _ in parts[:2]] == ["talk", "talk \N{SECTION SIGN}2"][: len(parts)]
    assert all(len(part) == limit for _, part in parts[:-1])
    assert 2 <= len(parts[-1][1]) <= limit + 1


PLAY = """Act 1

First Citizen:
We are poor:
But honest.

MENENIUS:
Why, masters, my good friends: hear me!

First Citizen:
Speak.
"""


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_name_that_stands_alone_above_a_paragraph_speaks_in_a_play(
    compressed: bool, tmp_path: Path
) -> None:
    path = tmp_path / ("play.txt.gz" if compressed else "play.txt")
    path.write_bytes(gzip.compress(PLAY.encode()) if compressed else PLAY.encode())
    assert read(path)[0] == {
        path.name: [
            ("First Citizen", "We are poor: But honest."),
            ("MENENIUS", "Why, masters, my good friends: hear me!"),
            ("First Citizen", "Speak."),
        ]
    }


def test_a_pattern_with_two_groups_reads_a_chat(tmp_path: Path) -> None:
    path = tmp_path / "chat.txt"
    path.write_text("<ann> hello\n<bob> who\nis there?\n<ann> me\n")
    found, _ = read(path, speaker_line=r"<(\w+)> (.*)")
    assert found == {"chat.txt": [("ann", "hello"), ("bob", "who is there?"), ("ann", "me")]}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", "No one speaks.\n", r"no dialogue in the file.*domain\.speaker_line"),
        ("a.jsonl", "", "no dialogue in the file"),
        ("a.jsonl", "[1]\n", "line 1: list instead of an object"),
        ("a.jsonl", '{"turns": [}\n', "line 1, column 12: not valid JSON"),
    ],
)
def test_a_file_without_dialogues_is_refused(
    name: str, content: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"file_format": "csv"}, "domain.file_format is 'csv'"),
        ({"turns_field": 3}, "domain.turns_field is 3"),
        ({"turns_per_record": 1}, "at least 2"),
        ({"speaker_line": "("}, "not a regular expression"),
        ({"speaker_line": "[A-Z]+:"}, "it has one group, the speaker, or two"),
    ],
)
def test_an_option_outside_its_range_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        DialogueReader(**options)
