"""Which members are known behind a dot, in small texts whose only answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.evidence import Evidence
from seqmlm_domains.code.completion.members import KnownMembers
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.source_tokens import SourceTokens

JAVA = """\
class Ship { String title; Ship next; Ship overtake() { return next; } }
class Depot {
  Ship first; Ship[] docked; List<Ship> ships; Map<String, Ship> byName;
  Ship heaviest() { return first; }
}
"""
TYPESCRIPT = """\
interface Ship { title: string; next: Ship; overtake(): Ship }
class Depot {
  first: Ship; docked: Ship[]; ships: Array<Ship>; byName: Record<string, Ship>;
  heaviest(): Ship { return this.first }
  async load(): Promise<Ship> { return this.first }
}
"""
PYTHON = """\
class Ship:
    title: str
    next: "Ship"
    def overtake(self) -> "Ship": ...

class Depot:
    first: Ship
    ships: list[Ship]
    by_name: dict[str, Ship]
    def heaviest(self) -> Ship: ...
    async def load(self) -> Ship: ...

"""
OF_A_SHIP = {"title", "next", "overtake"}


def members_at(marked: str, language: str, project: str = "") -> set[str]:
    """The members that a class is known to have, where a text has its last bar."""
    place = marked.rindex("|")
    source = SourceTokens.of(marked[:place] + marked[place + 1 :], language)
    cursor = Cursor.at(source, place)
    assert cursor is not None
    table = ContextTable.of([SourceTokens.of(project, language)] if project else [])
    names = KnownNames.of(source, table)
    found = KnownMembers.at(cursor, names, Evidence.at(cursor, names).syntax)
    return {names[number] for number in np.flatnonzero(found.of_class).tolist()}


@pytest.mark.parametrize(
    "expression",
    [
        *("ship.next", "ship.next.next", "depot.first.next", "depot.heaviest()", "(ship)"),
        *("depot.heaviest().next.overtake()", "((Ship) null)", "((Ship) depot.other())"),
        *("new Depot().first", "depot.docked[0]", "(depot.heaviest()).next", "new Ship()"),
    ],
)
@pytest.mark.parametrize("behind", [";", "\n    other.call();", "\n    Ship other = null;", ""])
def test_in_java(expression: str, behind: str) -> None:
    method = f"class A {{ void f(Ship ship, Depot depot) {{\n    {expression}.|{behind} }} }}"
    assert members_at(JAVA + method, "java") == OF_A_SHIP


@pytest.mark.parametrize(
    "statements",
    [
        "var x = depot.heaviest(); x.|;",
        "var x = (Ship) depot.other(); x.|;",
        "for (Ship s : depot.ships) s.|;",
        "for (var s : depot.ships) { s.|; }",
        "for (var s : depot.docked) { s.| }",
        "for (final var s : depot.docked) { s.next.| }",
        "depot.ships.forEach(s -> s.|);",
        "depot.ships.forEach(s -> { s.|; });",
        "depot.ships.removeIf((s) -> s.|);",
        "var x = depot.first != null ? depot.first : null; x.|;",
        "var x = depot.other() ? new Ship() : depot.first; x.|;",
        "(depot.other() ? new Ship() : depot.unknown()).|;",
    ],
)
def test_of_variables_in_java(statements: str) -> None:
    method = f"class A {{ void f(Depot depot) {{ {statements} }} }}"
    assert members_at(JAVA + method, "java") == OF_A_SHIP


@pytest.mark.parametrize(
    "expression",
    [
        *("ship.next", "ship.next.next", "depot.first.next", "depot.heaviest()", "(ship)", "ship!"),
        *("depot.heaviest().next.overtake()", "(depot as Ship)", "(<Ship>depot)", "ship.next?"),
        *("new Depot().first", "depot.docked[0]", "(await depot.load())", "depot.byName['a']"),
    ],
)
@pytest.mark.parametrize("behind", [";", "\n  other.call()", "\n  let other: Ship", ""])
def test_in_typescript(expression: str, behind: str) -> None:
    function = f"async function f(ship: Ship, depot: Depot) {{\n  {expression}.|{behind}\n}}"
    assert members_at(TYPESCRIPT + function, "typescript") == OF_A_SHIP


@pytest.mark.parametrize(
    "statements",
    [
        "const x = depot.heaviest(); x.|",
        "const x = depot.other() as Ship; x.|",
        "const x = await depot.load(); x.|",
        "for (const s of depot.ships) s.|",
        "for (const s of depot.docked) { s.|; }",
        "depot.ships.forEach(s => s.|)",
        "depot.ships.map((s) => { return s.| })",
        "depot.ships.map(s => s.next.|)",
        "depot.docked.map((s, index) => s.|)",
        "const x = depot.first || new Ship(); x.|",
        "const x = depot.first ?? undefined; x.|",
        "const x = depot && depot.first; x.|",
        "const x = depot.other() ? depot.unknown() : (new Ship()); x.|",
        "(depot.unknown() ?? new Ship()).|",
    ],
)
def test_of_variables_in_typescript(statements: str) -> None:
    function = f"async function f(depot: Depot) {{ {statements} }}"
    assert members_at(TYPESCRIPT + function, "typescript") == OF_A_SHIP


def test_in_javascript_what_is_made_tells() -> None:
    text = "class Ship { go() {} } class Depot { constructor() { this.ships = [new Ship()]; "
    text += "this.first = new Ship() } } const depot = new Depot(); "
    assert members_at(f"{text} depot.first.|", "javascript") == {"go"}
    assert members_at(f"{text} (depot).|", "javascript") == {"constructor", "ships", "first"}


@pytest.mark.parametrize(
    "expression",
    [
        *("ship.next", "ship.next.next", "depot.first.next", "depot.heaviest()", "(ship)"),
        *("depot.heaviest().next.overtake()", "Depot().first", "depot.ships[0]", "Ship()"),
        *("depot.by_name['a']", "(await depot.load())"),
    ],
)
@pytest.mark.parametrize("behind", ["\n", "\n    other.call()\n", "\n    other: Ship\n", ""])
def test_in_python(expression: str, behind: str) -> None:
    function = f"async def f(ship: Ship, depot: Depot):\n    {expression}.|{behind}"
    assert members_at(PYTHON + function, "python") == OF_A_SHIP


@pytest.mark.parametrize(
    "statements",
    [
        "x = depot.heaviest()\n    x.|",
        "x = await depot.load()\n    x.|",
        "for s in depot.ships:\n        s.|",
        "for s in depot.ships: s.next.|",
        "[s.| for s in depot.ships]",
        "return {s.title for s in depot.ships if s.|}",
        "x = depot.first or Ship()\n    x.|",
        "x = depot and depot.first\n    x.|",
        "x = depot.first if depot.other() else None\n    x.|",
        "x = None if depot.other() else (depot.first)\n    x.|",
        "(depot.unknown() or depot.first).|",
        "(x := depot.heaviest()).|",
        "while x := depot.heaviest():\n        x.|",
        "if (x := depot.first or depot.heaviest()).next: x.|",
    ],
)
def test_of_variables_in_python(statements: str) -> None:
    function = f"async def f(depot: Depot):\n    {statements}\n"
    assert members_at(PYTHON + function, "python") == OF_A_SHIP


@pytest.mark.parametrize(
    ("language", "project", "marked"),
    [
        ("java", JAVA, "class A { void f(Depot d) { d.first.|; } }"),
        ("java", JAVA, "class A { void f(Depot d) { d.heaviest().next.|; } }"),
        ("java", JAVA, "class A { void f(Depot d) { for (var s : d.ships) s.|; } }"),
        ("java", JAVA, "class A extends Depot { void f() { first.|; } }"),
        ("java", JAVA, "class A extends Depot { void f() { this.heaviest().|; } }"),
        ("typescript", TYPESCRIPT, "function f(d: Depot) { d.heaviest().next.| }"),
        ("typescript", TYPESCRIPT, "async function f(d: Depot) { const s = await d.load(); s.| }"),
        ("typescript", TYPESCRIPT, "function f(d: Depot) { d.ships.map(s => s.|) }"),
        ("python", PYTHON, "def f(d: Depot): d.heaviest().next.|"),
        ("python", PYTHON, "def f(d: Depot): return [s.| for s in d.ships]"),
        ("python", PYTHON, "d = Depot()\nd.first.|"),
        ("python", f"{PYTHON}def make() -> Ship: ...\n", "make().|"),
        ("python", f"{PYTHON}class A:\n  def __init__(self): self.d = Depot()\n", "A().d.first.|"),
    ],
)
def test_the_project_tells_the_types_of_members(language: str, project: str, marked: str) -> None:
    if "extends" in marked:
        project += "class A extends Depot {}"
    assert members_at(marked, language, project) == OF_A_SHIP


def test_a_class_far_away_in_the_text_tells_the_types_of_its_members() -> None:
    far = "x = 1\n" * 3000
    assert members_at(f"{PYTHON}{far}def f(d: Depot): d.first.next.|", "python") == OF_A_SHIP


@pytest.mark.parametrize(
    ("language", "known", "statements"),
    [
        ("java", JAVA, "var x = true ? new Ship() : new Depot(); x.|;"),
        ("java", JAVA, "var x = 1 < 2; x.|;"),
        ("typescript", TYPESCRIPT, "const x = new Ship() || new Depot(); x.|"),
        ("typescript", TYPESCRIPT, "const x = new Ship() + new Ship(); x.|"),
        ("python", PYTHON, "x = Ship() or Depot()\nx.|"),
        ("python", PYTHON, "x = Ship() if y else Depot()\nx.|"),
    ],
)
def test_of_a_choice_between_different_classes_none_is_told(
    language: str, known: str, statements: str
) -> None:
    wrapped = f"class A {{ void f() {{ {statements} }} }}" if language == "java" else statements
    assert members_at(known + wrapped, language) == set()


def test_a_choice_of_any_depth_is_read() -> None:
    text = f"{PYTHON}x = {'(' * 3000}Ship(){' or y)' * 3000}\nx.|"
    assert members_at(text, "python") == set()


def test_objects_of_which_nothing_is_known_have_no_members() -> None:
    assert members_at(f"{PYTHON}def f(d: Depot): d.unknown.|", "python") == set()
    assert members_at(f"{PYTHON}def f(d: Depot): [s.| for s in d.unknown]", "python") == set()
    assert members_at(f"{JAVA}class A {{ void f() {{ g().h()[0].|; }} }}", "java") == set()


def test_of_a_class_whose_head_is_far_away_the_own_members_are_known() -> None:
    far = "    def f(self):\n        pass\n\n" * 500
    head = "class Base: pass\n\nclass Fleet(\n    Base,\n):\n    flag: Ship\n\n"
    text = f"{head}{far}    def g(self):\n"
    found = members_at(f"{PYTHON}{text}        self.|\n", "python")
    assert found == {"f", "flag"}
    assert members_at(f"{PYTHON}{text}        self.flag.|\n", "python") == OF_A_SHIP
    assert members_at(f"{PYTHON}{text}\ndef g(self):\n    self.|\n", "python") == set()


def test_of_a_class_in_braces_too() -> None:
    far = "  void f() {\n    g();\n  }\n\n" * 500
    text = f"public class Fleet extends Base\n{{\n  Ship flag;\n{far}  void h() {{\n"
    assert members_at(f"{JAVA}{text}    this.|;\n  }}\n}}\n", "java") >= {"f", "flag"}
    assert members_at(f"{JAVA}{text}    flag.|;\n  }}\n}}\n", "java") == OF_A_SHIP
