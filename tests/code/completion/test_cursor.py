"""Where a name can stand, and what is typed of it."""

from __future__ import annotations

import pytest

from seqmlm_domains.code.completion.cursor import MOST_BEFORE, MOST_BEHIND, Cursor, part_around
from seqmlm_domains.code.source_tokens import SourceTokens


def cursor(marked: str, language: str = "python") -> Cursor | None:
    """Look at the place marked ``|``."""
    offset = marked.index("|")
    return Cursor.at(SourceTokens.of(marked.replace("|", "", 1), language), offset)


@pytest.mark.parametrize(
    ("marked", "prefix"),
    [
        pytest.param("|", "", id="empty text"),
        pytest.param("x = va|", "va", id="end of text"),
        pytest.param("x = |", "", id="nothing typed"),
        pytest.param("self.|", "", id="behind a dot"),
        pytest.param("x = va|lue + 1", "va", id="inside a word"),
        pytest.param("for i i| y", "i", id="before a word"),
        pytest.param("print(i|f)", "i", id="a keyword so far"),
        pytest.param('f"a {na|} b"', "na", id="in an interpolated expression"),
        pytest.param('return f"a {na|', "na", id="in an open literal"),
        pytest.param('return f"a {na|"', "na", id="in an open hole of a closed literal"),
        pytest.param('return f"a {|}"', "", id="in an empty hole"),
        pytest.param('return f"a {|', "", id="in a hole that begins"),
        pytest.param('return f"{b!r} {self.na|"', "na", id="in a second, open hole"),
        pytest.param('x = f"""\n{a} {na|\n {b}\n"""', "na", id="in a hole open to the line's end"),
        pytest.param('return f"{ {k: na| for k in b} }"', "na", id="in brackets in a hole"),
        pytest.param("return f\"{'a' if b else f'{na|'}\"", "na", id="in a literal in a hole"),
        pytest.param('return f"{b["a"] + na|}"', "na", id="behind the same quotes in a hole"),
        pytest.param('x = "a" + |', "", id="behind a literal"),
        pytest.param("# a\n|", "", id="below a comment"),
        pytest.param("größe = grö|", "grö", id="letters beyond ASCII"),
        pytest.param("x\U0001f600 = na|", "na", id="behind an astral character"),
    ],
)
def test_a_name_can_stand_here(marked: str, prefix: str) -> None:
    found = cursor(marked)
    assert found is not None
    assert found.prefix == prefix
    assert found.start == marked.index("|") - len(prefix)


@pytest.mark.parametrize(
    ("marked", "word"),
    [
        pytest.param("x = va|lue + 1", "value", id="inside a word"),
        pytest.param("x = value| + 1", "value", id="at its end"),
        pytest.param("x = |value + 1", "", id="before it: it is what follows"),
        pytest.param("x.|", "", id="in none"),
        pytest.param('f"a {na|me} b"', "name", id="in an interpolated expression"),
    ],
)
def test_the_word_at_the_cursor_goes_on_behind_it(marked: str, word: str) -> None:
    found = cursor(marked)
    assert found is not None
    assert found.tokens.text[found.start : found.word_end] == word


@pytest.mark.parametrize(
    ("marked", "language"),
    [
        pytest.param("# a wo|rd", "python", id="comment"),
        pytest.param("# a word|", "python", id="end of a comment"),
        pytest.param("x = 'a wo|rd'", "python", id="string"),
        pytest.param("x = 'a wo|", "python", id="open string"),
        pytest.param('"""a\nwo|', "python", id="open text of several lines"),
        pytest.param('x = "a {na|', "python", id="braces in a literal without holes"),
        pytest.param('x = f"a {{na|', "python", id="doubled braces"),
        pytest.param('x = f"a {b} c|"', "python", id="behind a hole"),
        pytest.param("x = 12|", "python", id="number"),
        pytest.param("x = 0x|ff", "python", id="inside a number"),
        pytest.param("/* a| */", "java", id="block comment"),
        pytest.param("int x; // a|", "java", id="line comment"),
        pytest.param("class A { #b; // a|", "typescript", id="comment behind a private field"),
        pytest.param("x = `a| b`", "typescript", id="template"),
        pytest.param("x = /a|b/g;", "javascript", id="regular expression"),
        pytest.param("x = /ab/g|", "javascript", id="flags of a regular expression"),
        pytest.param("x = <p>It's a|</p>", "tsx", id="text between tags"),
        pytest.param("x = `a ${b} c|", "typescript", id="behind a hole of an open template"),
    ],
)
def test_no_name_can_stand_here(marked: str, language: str) -> None:
    assert cursor(marked, language) is None


def test_the_word_being_typed_is_on_neither_side() -> None:
    found = cursor("total(val|ues, start)")
    assert found is not None
    words = found.tokens.words
    assert [words[n] for n in found.left] == ["total", "("]
    assert [words[n] for n in found.right] == [",", "start", ")"]


def test_comments_and_white_space_are_no_context() -> None:
    found = cursor("a = 1  # one\n\n| # two\nb = 'text'")
    assert found is not None
    words = found.tokens.words
    assert [words[n] for n in found.left] == ["a", "=", "<num>"]
    assert [words[n] for n in found.right] == ["b", "=", "<str>"]


def test_an_offset_outside_the_text_is_refused() -> None:
    with pytest.raises(ValueError, match="offset 3 is outside a text of 2 characters"):
        Cursor.at(SourceTokens.of("ab", "python"), 3)


@pytest.mark.parametrize("marked", ["x = `a ${na|", "x = `a ${na|`;", "x = `a ${na|\nf() { g }\n"])
def test_an_open_hole_of_a_template_is_code(marked: str) -> None:
    found = cursor(marked, "typescript")
    assert found is not None
    assert found.prefix == "na"


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "It's",
        "`npm",
        "src/*.ts",
        "https://a.b",
        '5" disk',
        "{/* ok */}",
        "a < b",
        "<br />",
    ],
)
@pytest.mark.parametrize(
    "behind", ["{na|}", "\n  {na|}\n", "<b title={na|} />", "{f(<i>{na|}</i>)}", "{na|"]
)
def test_between_braces_is_code_whatever_the_text_beside_it(text: str, behind: str) -> None:
    """An apostrophe, two slashes or a backtick once switched completion off behind it."""
    found = cursor(f"function A() {{ return (<p>{text} {behind}</p>); }}\nuse(b);", "tsx")
    assert found is not None
    assert found.prefix == "na"
    assert [found.tokens.words[n] for n in found.right[-5:]] == ["use", "(", "b", ")", ";"]


def test_behind_an_element_that_is_not_closed_is_code() -> None:
    found = cursor(
        "const a = () => { return <div>It is }\nfunction b() { return <p>c's</p>; na| }", "tsx"
    )
    assert found is not None
    assert found.prefix == "na"


def test_what_no_tag_closes_is_no_text() -> None:
    found = cursor(
        "const a = <T,>(b: T) => b < c;\nconst d = <p>e</p>;\nconst g = x <y; na|", "tsx"
    )
    assert found is not None
    assert {found.tokens.words[n] for n in found.left} >= {"T", "b", "c", "d", "g", "x", "y"}


def test_a_text_of_common_size_is_looked_at_as_a_whole() -> None:
    text = "x = 1\n" * 10_000
    assert part_around(text, 600) == (text, 600)


@pytest.mark.parametrize(
    ("line", "begins"), [("def f(): # %d\n  x\n", "def f"), ("  x = %d\n", "  x")]
)
def test_of_a_long_text_whole_lines_around_the_cursor_are_looked_at(line: str, begins: str) -> None:
    text = "".join(line % number for number in range(60_000))
    offset = len(text) // 2
    part, place = part_around(text, offset)
    assert MOST_BEFORE - 100 < place <= MOST_BEFORE
    assert MOST_BEHIND <= len(part) - place < MOST_BEHIND + 100
    assert part[:place] == text[offset - place : offset]
    assert text[offset : offset + len(part) - place] == part[place:]
    assert part.startswith(begins)


def test_a_line_without_indentation_near_the_cursor_does_not_cut_off_what_is_before_it() -> None:
    body = "class A:\n" + "".join(f"    def f{number}(self): pass\n" for number in range(20_000))
    text = f"{body}def helper():\n    return "
    part, place = part_around(text, len(text))
    assert MOST_BEFORE - 100 < place <= MOST_BEFORE
    assert part.startswith("    def f")


def test_a_line_that_begins_a_step_before_the_cursor_does_not_cut_off_what_is_before_it() -> None:
    text = "x = " + "+ y " * 100_000 + "\nz = "
    part, place = part_around(text, len(text))
    assert place == MOST_BEFORE
    assert part.endswith("y \nz = ")


def test_of_a_line_without_end_so_much_is_looked_at() -> None:
    part, place = part_around("x" * 2_000_000, 1_000_000)
    assert (place, len(part)) == (MOST_BEFORE, MOST_BEFORE + 2 * MOST_BEHIND)
