"""Documents stay equal to the client's, edit by edit."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types

from seqmlm_domains.code.serving.documents import Document, Documents
from tests.code.serving.reference_document import ReferenceDocument, random_edit

SMILE = "\N{GRINNING FACE}"


def document(text: str) -> Document:
    return Document(text, language="python", encoding="utf-16")


def span(*numbers: int) -> types.Range:
    first_line, first, last_line, last = numbers
    return types.Range(types.Position(first_line, first), types.Position(last_line, last))


def test_ten_thousand_random_edits_leave_the_text_of_the_reference() -> None:
    generator = random.Random(5)
    ours, reference = document(""), ReferenceDocument("")
    for number in range(10_000):
        edit = random_edit(reference, generator)
        ours.replace(span(*edit.start, *edit.end), edit.text)
        reference.apply(edit)
        if number % 10 == 0:  # a difference stays, or is of no consequence
            assert ours.text == reference.text
            assert ours.characters == len(reference.text)
    assert ours.text == reference.text
    assert len(reference.text) > 200


@given(
    st.text(st.sampled_from(["a", "\n", "\r", SMILE, "\ud83d", "\ude00", "\x0c"])),
    st.lists(
        st.tuples(
            st.tuples(*[st.integers(0, 6)] * 4),
            st.text(st.sampled_from(["b", "\n", "\r", SMILE, "\ud83d", "\ude00"]), max_size=4),
        )
    ),
)
def test_line_ends_and_surrogates_may_be_made_and_parted(
    text: str, edits: list[tuple[tuple[int, ...], str]]
) -> None:
    ours = document(text)
    for numbers, new in edits:
        ours.replace(span(*numbers), new)
    again = document(ours.text)
    assert again.text == ours.text
    for line in range(8):
        for character in range(8):
            position = types.Position(line, character)
            assert again.place(position) == ours.place(position)


def test_halves_of_a_character_that_come_one_by_one_are_joined() -> None:
    ours = document("a")
    ours.replace(span(0, 1, 0, 1), "\ud83d")
    ours.replace(span(0, 2, 0, 2), "\ude00")
    assert ours.text == f"a{SMILE}"


def test_lines_end_at_line_feeds_and_carriage_returns_alone() -> None:
    ours = document("a\x0cb\u2028c\x85\rd\r\ne\n")
    ours.replace(span(1, 0, 1, 1), "D")
    ours.replace(span(3, 0, 3, 0), "f")
    assert ours.text == "a\x0cb\u2028c\x85\rD\r\ne\nf"


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0, 99, 0, 99), "abX\r\ncd"),
        ((9, 0, 9, 9), "ab\r\ncdX"),
        ((0, 1, 99, 99), "aX"),
        ((1, 1, 0, 1), "aXd"),
    ],
    ids=["past the end of a line", "past the last line", "over the end", "end before start"],
)
def test_ranges_are_clamped(numbers: tuple[int, ...], expected: str) -> None:
    ours = document("ab\r\ncd")
    ours.replace(span(*numbers), "X")
    assert ours.text == expected


def test_a_completer_sees_plain_line_ends_and_no_surrogates() -> None:
    place = document(f"a\r\n\ud800b\rc{SMILE}de\n").place(types.Position(2, 5))
    assert place is not None
    assert place.source == f"a\n\ufffdb\nc{SMILE}de\n"
    assert place.source[: place.offset] == f"a\n\ufffdb\nc{SMILE}de"
    assert place.range_around(before=2) == span(2, 3, 2, 5)
    assert place.range_around(before=99) == span(2, 0, 2, 5)


def test_a_range_may_go_on_behind_the_cursor() -> None:
    place = document(f"a\n{SMILE}b{SMILE}c").place(types.Position(1, 3))
    assert place is not None
    assert place.range_around(before=1, behind=1) == span(1, 2, 1, 5)


@pytest.mark.parametrize(
    ("language_id", "uri", "language"),
    [
        ("python", "file:///a", "python"),
        ("js", "file:///a", "javascript"),
        ("typescriptreact", "file:///a.txt", "tsx"),
        ("javascriptreact", "untitled:1", "javascript"),
        ("", "file:///a/b.java", "java"),
        ("plaintext", "file:///a.md", None),
    ],
)
def test_the_language_is_the_editors_or_that_of_the_name(
    language_id: str, uri: str, language: str | None
) -> None:
    documents = Documents()
    documents.open(types.TextDocumentItem(uri, language_id, 1, ""))
    opened = documents.get(uri)
    assert opened is not None
    assert opened.language == language


def test_a_document_that_is_not_open_is_not_read_from_the_disk() -> None:
    documents = Documents()
    uri = Path(__file__).as_uri()
    documents.change(uri, [types.TextDocumentContentChangeWholeDocument("x")])
    documents.close(uri)
    assert documents.get(uri) is None


def test_the_reference_counts_code_units() -> None:
    """The reference of the random edits, held against units by hand."""
    reference = ReferenceDocument(f"{SMILE}a\r\nb")
    assert reference.units == list(struct.unpack("<6H", f"{SMILE}a\r\nb".encode("utf-16-le")))
    assert [reference.length(line) for line in range(2)] == [3, 1]
