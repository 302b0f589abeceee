from __future__ import annotations

import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.errors import DataError
from seqmlm_domains.kg.n_triples import Statement, parse_n_triple

PLACE = "graph.nt, line 7"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("<http://a> <http://r> <http://b> .", Statement("http://a", "http://r", "http://b")),
        ("<a><r><b>.", Statement("a", "r", "b")),
        ("<a>\t<r>  <b> . # said <by> \"me\" .", Statement("a", "r", "b")),
        (
            "<http://a.b/c.d.> <http://r.s> <http://e.f.g> .",
            Statement("http://a.b/c.d.", "http://r.s", "http://e.f.g"),
        ),
        (r"<a\u00e9> <r> <\U0001F600b> .", Statement("a\u00e9", "r", "\U0001f600b")),
        ("_:b1 <r> _:x.y .", Statement("_:b1", "r", "_:x.y")),
        ("_:b1 <r> _:x.y.", Statement("_:b1", "r", "_:x.y")),
        ('<a> <r> "" .', Statement("a", "r", "", True)),
        ('<a> <r> "New York"@en-US .', Statement("a", "r", "New York", True, "en-us")),
        ('<a> <r> "1. <b> ."^^<http://int> .', Statement("a", "r", "1. <b> .", True)),
        (r'<a> <r> "\"hi\"\n\t\\ \u00e9" .', Statement("a", "r", '"hi"\n\t\\ \u00e9', True)),
    ],
    ids=[
        "plain", "no blanks", "comment", "dots in IRIs", "escapes in IRIs", "blank nodes",
        "blank node before the stop", "empty literal", "language", "datatype, stop in the text",
        "escapes in a literal",
    ],
)  # fmt: skip
def test_a_statement_is_read(line: str, expected: Statement) -> None:
    assert parse_n_triple(line, PLACE) == expected


@pytest.mark.parametrize(
    "line",
    [
        "<a> <r> <b>", "<a> <r> .", "<a> <r> <b> <c> .", "a r b .", "<a b> <r> <c> .",
        "<> <r> <b> .",
        '"a" <r> <b> .', "<a> _:r <b> .", "<a> <r> 'b' .", "<a> <r> \"b .", '<a> <r> "b"@ .',
        r"<a\n> <r> <b> .", r"<a\u00g0> <r> <b> .", "<< <a> <r> <b> >> <s> <c> .", "_: <r> <b> .",
        "<a> <r> <b> . <c> <r> <d> .", "@prefix a: <b> .",
    ],
)  # fmt: skip
def test_what_is_no_statement_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(DataError, match=r"^graph\.nt, line 7: not an N-Triples statement"):
        parse_n_triple(line, PLACE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (r"<a\uD800> <r> <b> .", "no Unicode character"),
        (r"<a\U00110000> <r> <b> .", "no Unicode character"),
        (r"<a\u0009b> <r> <b> .", r"may not hold '\\t'"),
        (r"<a\u003Eb> <r> <b> .", "may not hold '>'"),
        (r'<a> <r> "\q" .', r"'\\\\q' is no escape"),
    ],
)
def test_an_escape_of_what_may_not_stand_there_is_refused(line: str, message: str) -> None:
    r"""A ``\u0009`` in an IRI made a fourth field of the record and failed far from the line."""
    with pytest.raises(DataError, match=message):
        parse_n_triple(line, PLACE)


def test_a_huge_line_is_shown_in_part() -> None:
    with pytest.raises(DataError) as caught:
        parse_n_triple("<a> <r> " + "x" * 2_000_000, PLACE)
    assert len(str(caught.value)) < 300


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "line",
    [
        "<" + r"\u0041AAAAAAAA" * 5_000,
        "<" + "a" * 1_000_000,
        '<a> <r> "' + "\\\\" * 300_000,
        '<a> <r> "' + "a" * 1_000_000,
        "_:" + "a." * 300_000,
        "<a>" + " " * 300_000 + "x",
    ],
    ids=["escapes", "IRI", "escaped quotes", "literal", "blank node", "blanks"],
)
def test_a_malformed_line_of_any_length_is_refused_in_linear_time(line: str) -> None:
    """Hexadecimal digits after an escape could be parted in exponentially many ways."""
    with pytest.raises(DataError):
        parse_n_triple(line, PLACE)


@given(st.text(alphabet=string.printable + "\u00e9\U0001f600", max_size=60))
def test_any_line_is_a_statement_or_a_data_error(line: str) -> None:
    with contextlib.suppress(DataError):
        assert parse_n_triple(line, PLACE).head


@given(st.text(max_size=30), st.sampled_from(["", "en", "zh-hant"]))
def test_a_literal_that_is_escaped_comes_back(text: str, language: str) -> None:
    escaped = "".join(
        character if character.isalnum() else f"\\U{ord(character):08X}" for character in text
    )
    tag = f"@{language}" if language else ""
    assert parse_n_triple(f'<a> <r> "{escaped}"{tag} .', PLACE) == Statement(
        "a", "r", text, True, language
    )
