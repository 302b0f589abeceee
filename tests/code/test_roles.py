"""Every identifier of a snippet, in order, with its role; the roles are assigned by hand."""

from __future__ import annotations

import pytest

from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.syntax import find_identifiers

READ, ATTRIBUTE, CALL, VARIABLE = Role.READ, Role.ATTRIBUTE, Role.CALL, Role.VARIABLE
PARAMETER, FUNCTION, CLASS, TYPE = Role.PARAMETER, Role.FUNCTION, Role.CLASS, Role.TYPE
IMPORT, KEYWORD = Role.IMPORT, Role.KEYWORD


def named_roles(text: str, language: str) -> list[tuple[str, Role]]:
    found = find_identifiers(text, language).tolist()
    return [(text[start:end], Role(role)) for start, end, role in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import a.b as c, d", [("a", IMPORT), ("b", IMPORT), ("c", IMPORT), ("d", IMPORT)]),
        ("from ..a import b as c", [("a", IMPORT), ("b", IMPORT), ("c", IMPORT)]),
        ("class A(B, metaclass=M): x: int = y", [
            *(("A", CLASS), ("B", READ), ("metaclass", KEYWORD), ("M", READ)),
            *(("x", VARIABLE), ("int", TYPE), ("y", READ)),
        ]),
        ("def f(a, b=c, *d: E, g: h = i, **j) -> K[l | None]: pass", [
            *(("f", FUNCTION), ("a", PARAMETER), ("b", PARAMETER), ("c", READ)),
            *(("d", PARAMETER), ("E", TYPE), ("g", PARAMETER), ("h", TYPE), ("i", READ)),
            *(("j", PARAMETER), ("K", TYPE), ("l", TYPE)),
        ]),
        ("a.b.c = d[e] = f, (g, *h) = i(j.k(l=m))", [
            *(("a", READ), ("b", ATTRIBUTE), ("c", ATTRIBUTE), ("d", READ), ("e", READ)),
            *(("f", VARIABLE), ("g", VARIABLE), ("h", VARIABLE), ("i", CALL), ("j", READ)),
            *(("k", ATTRIBUTE), ("l", KEYWORD), ("m", READ)),
        ]),
        ("for a, b in c: d += a", [
            *(("a", VARIABLE), ("b", VARIABLE), ("c", READ), ("d", VARIABLE), ("a", READ)),
        ]),
        ("with a() as b: lambda c, d=e: c", [
            *(("a", CALL), ("b", VARIABLE), ("c", PARAMETER), ("d", PARAMETER), ("e", READ)),
            ("c", READ),
        ]),
        ("[a for b in c if (d := b)]", [
            *(("a", READ), ("b", VARIABLE), ("c", READ), ("d", VARIABLE), ("b", READ)),
        ]),
        ("f'{a.b}' # c", [("a", READ), ("b", ATTRIBUTE)]),
    ],
    ids=[
        *("import", "from-import", "class", "parameters", "assignment", "for", "with-lambda"),
        *("comprehension", "f-string"),
    ],
)  # fmt: skip
def test_roles_in_python(text: str, expected: list[tuple[str, Role]]) -> None:
    assert named_roles(text, "python") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("package a.b; import java.util.List;", [
            *(("a", IMPORT), ("b", IMPORT), ("java", IMPORT), ("util", IMPORT), ("List", IMPORT)),
        ]),
        ("@Ann(key=V) class A<T extends B> extends C { D<E> f = new G(), h; }", [
            *(("Ann", TYPE), ("key", KEYWORD), ("V", READ), ("A", CLASS), ("T", CLASS)),
            *(("B", TYPE), ("C", TYPE), ("D", TYPE), ("E", TYPE), ("f", VARIABLE), ("G", TYPE)),
            ("h", VARIABLE),
        ]),
        ("class A { A(int a, B... b) { this.c = a; } D e() { return f(g).h(i).j; } }", [
            *(("A", CLASS), ("A", FUNCTION), ("a", PARAMETER), ("B", TYPE), ("b", PARAMETER)),
            *(("c", ATTRIBUTE), ("a", READ), ("D", TYPE), ("e", FUNCTION), ("f", CALL)),
            *(("g", READ), ("h", ATTRIBUTE), ("i", READ), ("j", ATTRIBUTE)),
        ]),
        ("class A { void b() { for (C d : e) { (f, g) -> h; i -> A::j; } } }", [
            *(("A", CLASS), ("b", FUNCTION), ("C", TYPE), ("d", VARIABLE), ("e", READ)),
            *(("f", PARAMETER), ("g", PARAMETER), ("h", READ), ("i", PARAMETER), ("A", READ)),
            ("j", ATTRIBUTE),
        ]),
        ("class A { void b() { try (C d = e()) {} catch (F g) { if (h instanceof I j) {} } } }", [
            *(("A", CLASS), ("b", FUNCTION), ("C", TYPE), ("d", VARIABLE), ("e", CALL)),
            *(("F", TYPE), ("g", PARAMETER), ("h", READ), ("I", TYPE), ("j", VARIABLE)),
        ]),
    ],
    ids=["import", "class", "methods", "loops-lambdas", "try-catch"],
)  # fmt: skip
def test_roles_in_java(text: str, expected: list[tuple[str, Role]]) -> None:
    assert named_roles(text, "java") == expected


SCRIPT = [
    ("import a, {b as c} from 'x'; import * as d from 'y'", [
        *(("a", IMPORT), ("b", IMPORT), ("c", IMPORT), ("d", IMPORT)),
    ]),
    ("class A extends B { #c = 1; d(e) { return this.#c.f(e) } }", [
        *(("A", CLASS), ("B", READ), ("c", VARIABLE), ("d", FUNCTION), ("e", PARAMETER)),
        *(("c", ATTRIBUTE), ("f", ATTRIBUTE), ("e", READ)),
    ]),
    ("const {a, b: c, ...d} = e, [f = g] = h(i)", [
        *(("a", VARIABLE), ("b", KEYWORD), ("c", VARIABLE), ("d", VARIABLE), ("e", READ)),
        *(("f", VARIABLE), ("g", READ), ("h", CALL), ("i", READ)),
    ]),
    ("function f(a = b, {c}) { return {a, d: c, [e]: 1, g() {}} }", [
        *(("f", FUNCTION), ("a", PARAMETER), ("b", READ), ("c", PARAMETER), ("a", READ)),
        *(("d", KEYWORD), ("c", READ), ("e", READ), ("g", KEYWORD)),
    ]),
    ("for (const a of b) try { c?.d() } catch (e) { new F(g => g) }", [
        *(("a", VARIABLE), ("b", READ), ("c", READ), ("d", ATTRIBUTE), ("e", PARAMETER)),
        *(("F", CALL), ("g", PARAMETER), ("g", READ)),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"), SCRIPT, ids=["import", "class", "patterns", "function", "loop"]
)
@pytest.mark.parametrize("language", ["javascript", "typescript", "tsx"])
def test_roles_in_javascript_hold_in_typescript_too(
    text: str, expected: list[tuple[str, Role]], language: str
) -> None:
    assert named_roles(text, language) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interface A { b: C; d?(e: F): void; [g: string]: any }", [
            *(("A", CLASS), ("b", VARIABLE), ("C", TYPE), ("d", FUNCTION), ("e", PARAMETER)),
            *(("F", TYPE), ("g", PARAMETER)),
        ]),
        ("type A<T> = B | c.D; enum E { F, G = 1 }", [
            *(("A", CLASS), ("T", CLASS), ("B", TYPE), ("c", READ), ("D", TYPE), ("E", CLASS)),
            *(("F", VARIABLE), ("G", VARIABLE)),
        ]),
        ("class A implements B { private c?: D; constructor(public e: F, g?: H) { super() } }", [
            *(("A", CLASS), ("B", TYPE), ("c", VARIABLE), ("D", TYPE), ("constructor", FUNCTION)),
            *(("e", PARAMETER), ("F", TYPE), ("g", PARAMETER), ("H", TYPE)),
        ]),
        ("namespace A.B { type C = D } import E = F.G; import h = require('i')", [
            *(("A", CLASS), ("B", CLASS), ("C", CLASS), ("D", TYPE), ("E", IMPORT)),
            *(("F", IMPORT), ("G", IMPORT), ("h", IMPORT)),
        ]),
        ("const a = <T, U = V>(b: T): b is U => b as T; declare module c { }", [
            *(("a", VARIABLE), ("T", CLASS), ("U", CLASS), ("V", TYPE), ("b", PARAMETER)),
            *(("T", TYPE), ("b", READ), ("U", TYPE), ("b", READ), ("T", TYPE), ("c", CLASS)),
        ]),
    ],
    ids=["interface", "alias-enum", "class", "namespace", "generic"],
)  # fmt: skip
@pytest.mark.parametrize("language", ["typescript", "tsx"])
def test_roles_in_typescript(text: str, expected: list[tuple[str, Role]], language: str) -> None:
    assert named_roles(text, language) == expected


@pytest.mark.parametrize("language", ["javascript", "tsx"])
def test_roles_in_elements(language: str) -> None:
    text = "const A = () => <B.C d={e} x:y='z'><p>{f}</p></B.C>"
    assert named_roles(text, language) == [
        *(("A", VARIABLE), ("B", READ), ("C", ATTRIBUTE), ("d", KEYWORD), ("e", READ)),
        *(("x", KEYWORD), ("y", KEYWORD)),
        *(("p", READ), ("f", READ), ("p", READ), ("B", READ), ("C", ATTRIBUTE)),
    ]


def test_positions_count_characters_not_bytes() -> None:
    text = "\u952e = '\U0001f600' + caf\u00e9"
    assert named_roles(text, "python") == [("\u952e", VARIABLE), ("caf\u00e9", READ)]


def test_broken_code_keeps_the_roles_away_from_the_fault() -> None:
    text = "def f(a):\n    return a\n\ndef g(:\n    x = self.\n\ndef h(b):\n    b.c()\n"
    found = named_roles(text, "python")
    assert found[:3] == [("f", FUNCTION), ("a", PARAMETER), ("a", READ)]
    assert ("c", ATTRIBUTE) in found


@pytest.mark.parametrize("language", ["python", "java", "typescript", "javascript"])
@pytest.mark.parametrize("text", ["(" * 100_000 + "x", "[" * 20_000 + "x" + "]" * 20_000])
def test_deep_nesting_is_walked_without_recursion(text: str, language: str) -> None:
    assert "x" in [name for name, _ in named_roles(text, language)]
