"""The role of the name at a cursor and the names in scope there, in code that is being typed."""

from __future__ import annotations

import pytest

from seqmlm_domains.code.completion import cursor_syntax
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.cursor_syntax import CursorSyntax
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import find_identifiers


def look(marked: str, language: str = "python") -> tuple[Role | None, set[str], list[str]]:
    """Role, names in scope and names around the place marked ``|``."""
    tokens = SourceTokens.of(marked.replace("|", "", 1), language)
    cursor = Cursor.at(tokens, marked.index("|"))
    assert cursor is not None
    found = CursorSyntax.at(cursor)
    bound = {tokens.words[number] for number in found.bound.tolist()}
    return found.role, bound, [tokens.words[number] for number in found.words.tolist()]


@pytest.mark.parametrize(
    ("marked", "language", "role"),
    [
        pytest.param("x = self.|", "python", Role.ATTRIBUTE, id="behind a dot at the end"),
        pytest.param("x = self.|\nreturn 1", "python", Role.ATTRIBUTE, id="behind a dot"),
        pytest.param("def f(a, na|", "python", Role.PARAMETER, id="an open parameter list"),
        pytest.param("def na|", "python", Role.FUNCTION, id="a definition without its parameters"),
        pytest.param("def na|(x): pass", "python", Role.FUNCTION, id="a definition"),
        pytest.param("def f(x: |", "python", Role.TYPE, id="an open annotation"),
        pytest.param("from a import |", "python", Role.IMPORT, id="an import"),
        pytest.param("f(a, [b, |", "python", Role.READ, id="open brackets"),
        pytest.param("a = va|lue", "python", Role.READ, id="inside a word"),
        pytest.param("class A { void f() { x.|; } }", "java", Role.ATTRIBUTE, id="java"),
        pytest.param(
            "class A { void f(P p) { p.| } }", "java", Role.ATTRIBUTE, id="java, a statement begins"
        ),
        pytest.param(
            "class A { void f(P p) { p.|\n int y; } }",
            "java",
            Role.ATTRIBUTE,
            id="java, a type behind",
        ),
        pytest.param("class A { java.| x; }", "java", Role.TYPE, id="java, a qualified type"),
        pytest.param("const x: |", "typescript", Role.TYPE, id="typescript"),
        pytest.param("const x = <A b={y.|} />", "tsx", Role.ATTRIBUTE, id="tsx"),
        pytest.param("import { a, |", "typescript", Role.IMPORT, id="an open import"),
        pytest.param("import |", "typescript", Role.IMPORT, id="an import that begins"),
        pytest.param("export function |", "typescript", Role.FUNCTION, id="a function that begins"),
        pytest.param("import |", "java", Role.IMPORT, id="java, an import that begins"),
        pytest.param("const { a, | } = b", "typescript", Role.VARIABLE, id="destructuring"),
        pytest.param("function f({ a, |", "typescript", Role.PARAMETER, id="a parameter's parts"),
        pytest.param("const o = { a, | }", "typescript", Role.READ, id="object shorthand"),
        pytest.param("a?.b?.|", "typescript", Role.ATTRIBUTE, id="optional chaining"),
        pytest.param("a!.|", "typescript", Role.ATTRIBUTE, id="not null"),
        pytest.param("class A<T> { private | }", "typescript", Role.VARIABLE, id="a class member"),
        pytest.param("class A { m() { this.#| } }", "typescript", Role.ATTRIBUTE, id="private"),
        pytest.param("const x = <A b={y} | />", "tsx", Role.KEYWORD, id="an attribute"),
        pytest.param("f = () => (\n<p>\n<A |\n</p>\n)", "tsx", Role.KEYWORD, id="an open element"),
    ],
)
def test_the_role_is_that_of_a_name_at_the_cursor(marked: str, language: str, role: Role) -> None:
    assert look(marked, language)[0] == role


@pytest.mark.parametrize(
    ("marked", "language", "bound"),
    [
        pytest.param(
            "import os\nclass A:\n  x = 1\n  def f(self, b):\n    c = 2\n    return |\n"
            "  def g(d): e\n",
            "python",
            {"os", "A", "self", "b", "c"},
            id="python: no members, no other function's names",
        ),
        pytest.param(
            "class A { int x; int f(int b) { String c = y; return |; } int g(int d) {} }",
            "java",
            {"A", "x", "f", "b", "c"},
            id="java: members too",
        ),
        pytest.param(
            "function f(a) { const c = (d) => |; } function g(e) {}",
            "javascript",
            {"f", "a", "c", "d"},
            id="javascript",
        ),
        pytest.param("import { a } from 'b'\nlet c: T = |", "typescript", {"a", "c"}, id="ts"),
        pytest.param(
            "class A { b = 1; c() { return | } d() {} }", "typescript", {"A"}, id="ts: no members"
        ),
        pytest.param(
            "function g<V>(b) {} function f<T, U>(a: T): | { }",
            "typescript",
            {"f", "T", "U", "a", "g"},
            id="ts: parameters of types",
        ),
        pytest.param(
            "enum E { A } const o = { b() {}, c: d => | }",
            "typescript",
            {"E", "o", "d"},
            id="ts: no members of enumerations and objects",
        ),
        pytest.param(
            "xs.map(({ a, b: c }, [d, ...e]) => { return | })",
            "typescript",
            {"a", "c", "d", "e"},
            id="ts: parts of parameters",
        ),
    ],
)
def test_names_of_the_scopes_around_are_bound(marked: str, language: str, bound: set[str]) -> None:
    assert look(marked, language)[1] == bound


@pytest.mark.parametrize(
    ("marked", "language", "members"),
    [
        pytest.param(
            "class A:\n x = 1\n def f(self):\n  self.y = z = 1\n  def g(): pass\ndef h(): |",
            "python",
            {"x", "f"},
            id="python",
        ),
        pytest.param(
            "class A { int x; B f(int y) { int z; } enum E { P } } |",
            "java",
            {"x", "f", "P"},
            id="java",
        ),
        pytest.param(
            "interface A { a: b; c(d: e): f }\nclass G { private h = 1; i(j) { let k; } } |",
            "typescript",
            {"a", "c", "h", "i"},
            id="typescript",
        ),
    ],
)
def test_what_the_body_of_a_class_binds_declares_a_member(
    marked: str, language: str, members: set[str]
) -> None:
    tokens = SourceTokens.of(marked.replace("|", "", 1), language)
    cursor = Cursor.at(tokens, marked.index("|"))
    assert cursor is not None
    found = CursorSyntax.at(cursor)
    words = found.words[found.declares_member].tolist()
    assert {tokens.words[number] for number in words} == members


def test_what_is_typed_is_none_of_the_names_around() -> None:
    assert look("größe = 1\nprint(grö|ße, x)")[2] == ["größe", "print", "x"]


def test_of_a_long_file_the_lines_around_the_cursor_are_parsed() -> None:
    lines = [f"name{number} = other.value\n" for number in range(4000)]
    role, _, around = look("".join(lines[:2000]) + "x = other.|\n" + "".join(lines[2000:]))
    assert role == Role.ATTRIBUTE
    assert "name1999" in around
    assert "name2000" in around
    assert "name0" not in around
    assert "name3999" not in around
    assert len(around) < 2000


def test_a_comment_without_indentation_does_not_hide_the_class_around_it() -> None:
    members = "".join(f"  int member{number}(int x) {{ return x; }}\n" for number in range(400))
    _, bound, words = look(
        f"class A {{\n{members}//  int old;\n  void go() {{ this.|; }}\n}}\n", "java"
    )
    assert "member399" in words
    assert "member399" in bound
    assert "member0" not in words


def test_a_text_that_takes_too_long_tells_nothing_and_the_next_one_is_parsed_afresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "(a + b)\n" * 1000
    with monkeypatch.context() as patch:
        patch.setattr(cursor_syntax, "PARSE_TIMEOUT_S", -1.0)
        assert look(text + "x.|") == (None, set(), [])
    assert find_identifiers("y", "python").tolist() == [[0, 1, Role.READ]]


def test_nothing_is_told_of_an_empty_text() -> None:
    assert look("|") == (None, set(), [])


@pytest.mark.parametrize(
    ("marked", "language", "due"),
    [
        pytest.param("class A { Foo | }", "java", "Foo", id="declared"),
        pytest.param("class A { void f(Foo |", "java", "Foo", id="declared, a parameter"),
        pytest.param("class A { int x = |; }", "java", "int", id="an initial value"),
        pytest.param("class A { int x = |(y); }", "java", "int", id="of a call"),
        pytest.param("class A { int x = |\n }", "java", None, id="what may go on"),
        pytest.param("class A { int x = |", "java", None, id="with nothing behind"),
        pytest.param("class A { int x = |.y; }", "java", None, id="an object"),
        pytest.param("class A { int x = |()(); }", "java", None, id="of a call of a call"),
        pytest.param("class A { String s; void f() { s = this.|; } }", "java", "String", id="own"),
        pytest.param("class A { String s; void f() { s = p.|; } }", "java", None, id="another's"),
        pytest.param("class A { String s; void f() { s += |; } }", "java", None, id="added"),
        pytest.param("class A { Foo f() { if (x) return |; } }", "java", "Foo", id="returned"),
        pytest.param("class A { Foo f() { g(() -> { return |; }); } }", "java", None, id="lambda"),
        pytest.param("class A { Foo f() { return g(|); } }", "java", None, id="an argument"),
        pytest.param("const x: Foo<Bar> = |;", "typescript", "Foo", id="ts"),
        pytest.param(
            "class A { #x: Foo; f() { this.#x = |; } }", "typescript", "Foo", id="private"
        ),
        pytest.param("const f = (): Foo => { return |; }", "typescript", "Foo", id="an arrow"),
        pytest.param(
            "async function f(): Promise<Foo> { return |; }", "typescript", None, id="async"
        ),
        pytest.param("function f(a: Foo, | = 1) {}", "javascript", None, id="no types"),
        pytest.param("def f(x: int) -> str:\n  y: list = |;\n", "python", "list", id="python"),
        pytest.param("x: \u00e9 = 1\ndef f(a: Foo, |: Bar): pass", "python", "Bar", id="no ascii"),
    ],
)
def test_the_type_due_is_told_where_the_source_gives_it(
    marked: str, language: str, due: str | None
) -> None:
    tokens = SourceTokens.of(marked.replace("|", "", 1), language)
    cursor = Cursor.at(tokens, marked.index("|"))
    assert cursor is not None
    assert CursorSyntax.at(cursor).due_type == due


@pytest.mark.parametrize(
    ("marked", "language", "is_text"),
    [
        pytest.param("const x = <A>te|xt</A>", "tsx", True, id="between tags"),
        pytest.param("const x = <A>{te|}</A>", "tsx", False, id="an expression there"),
        pytest.param("const x = <A>\nf(|)", "tsx", False, id="an element still open"),
        pytest.param("x = a.match(/ab|c/)", "javascript", True, id="a regular expression"),
    ],
)
def test_where_no_name_can_stand_is_told(marked: str, language: str, is_text: bool) -> None:
    tokens = SourceTokens.of(marked.replace("|", "", 1), language)
    cursor = Cursor.at(tokens, marked.index("|"))
    assert (cursor is None or CursorSyntax.at(cursor).is_text) == is_text
