"""In which class each member is looked up, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from seqmlm_domains.code.declared_types import NO_TYPE
from seqmlm_domains.code.syntax import parse_text

DEPOT = (
    "class Ship { Ship next; Ship next() {} } "
    "class Depot { Ship first; Ship heaviest() {} List<Ship> all() {} } "
)


def owner_at(text: str, start: int, language: str) -> str | None:
    """The owner of the identifier that begins at a character."""
    parsed = parse_text(text, language)
    assert parsed.owners is not None
    (place,) = np.flatnonzero(parsed.identifiers[:, 0] == start)
    number = parsed.owners.members.numbers[place]
    return None if number == NO_TYPE else parsed.owners.members.names[number]


@pytest.mark.parametrize(
    ("language", "marked", "owner"),
    [
        ("python", "def f(ship: Ship): ship.§go()", "Ship"),
        ("python", "def f(ship: Ship | None): ship.§go()", "Ship"),
        ("python", "ship = Ship()\nship.§go()", "Ship()"),
        ("python", "class Ship:\n  def go(self): pass\nship = Ship()\nship.§go()", "Ship"),
        ("python", "class Ship:\n  def go(self): pass\nShip().§go()", "Ship"),
        ("python", "class Ship:\n  def go(self): pass\nShip.§go()", "Ship"),
        ("python", "class Ship:\n  def go(self): self.§x", "Ship"),
        ("python", "class Ship:\n  def go(self): super().§go()", "Ship"),
        ("python", "class Ship:\n  def §go(self): pass", "Ship"),
        ("python", "class A:\n  def f(self):\n    self.b = B()\n    self.b.§c", "B()"),
        ("python", "class A:\n  b: B\ndef f(a: A): a.b.§c", "B"),
        ("python", "x = Ship()\ny = x\ny.§go()", "Ship()"),
        ("python", "def make() -> Ship: ...\nmake().§go()", "Ship"),
        ("python", "def make() -> Ship: ...\nx = make()\nx.§go()", "Ship"),
        ("python", "ship = Ship()\ndef f(ship): ship.§go()", "typeof ship"),
        ("python", "import os\nos.§getcwd()", "typeof os"),
        ("python", "from os.path import §join", "typeof path"),
        ("python", "x = (a or b).§c", None),
        ("typescript", "interface P { title: string }\nfunction f(p?: P) { p?.§title }", "P"),
        ("typescript", "interface P { title: string }\nlet p: P; p!.§title", "P"),
        ("typescript", "type P = { §title: string }", "P"),
        ("typescript", "enum Color { Red }\nColor.§Red", "Color"),
        ("typescript", "const m = new Map<string, P>(); m.§get(1)", "Map"),
        ("typescript", "class A { #k = new Map(); f() { this.#k.§get(1) } }", "Map"),
        ("typescript", "class A { #k = 1; f() { this.#§k } }", "A"),
        ("typescript", "const w = await new Ship(); w.§go()", "Ship"),
        ("javascript", "class A { go() {} }\nconst a = new A(); a.§go()", "A"),
        ("javascript", "class A { go() { this.§go() } }", "A"),
        ("java", "enum C { RED } class A { C c = C.§RED; }", "C"),
        ("java", "class A { void f(List<String> l) { l.§size(); } }", "List"),
        ("java", "class A { void f() { var a = new B(); a.§g(); } }", "B"),
        ("java", "class A { void f(B b) { b.§g } }", "B"),
        ("java", "class B { C c; } class A { void f(B b) { b.c.§g(); } }", "C"),
        ("java", "class B { C c() { } } class A { void f(B b) { b.c().§g(); } }", "C"),
        ("java", "class A { void f() { new B().§g(); } }", "B"),
        ("java", "class A { void f(B b) { run(b::§g); } }", "B"),
        ("java", f"{DEPOT} class A {{ void f(Depot d) {{ d.heaviest().next.§go(); }} }}", "Ship"),
        (
            "java",
            f"{DEPOT} class A {{ void f(Depot d) {{ d.all().get(0).§go(); }} }}",
            "List.get()",
        ),
        (
            "java",
            f"{DEPOT} class A {{ Depot d; void f() {{ d.first.next().next.§go(); }} }}",
            "Ship",
        ),
        (
            "java",
            f"{DEPOT} class A {{ void f(Depot d) {{ var x = d.heaviest(); x.§go(); }} }}",
            "Ship",
        ),
        (
            "java",
            f"{DEPOT} class B extends Depot {{}} class A {{ void f(B b) {{ b.first.§go(); }} }}",
            "Ship",
        ),
        ("java", "class A { void f(Ship s) { (s).§go(); } }", "Ship"),
        ("java", "class A { void f(Object o) { ((Ship) o).§go(); } }", "Ship"),
        ("java", "class A { void f(Object o) { var s = (Ship) o; s.§go(); } }", "Ship"),
        ("java", "class A { void f(Ship[] s) { s[0].§go(); } }", "Ship"),
        ("java", "class A { void f(Ship[][] s) { s[0][1].§go(); } }", "Ship"),
        ("java", "class A { void f(Ship... s) { for (var x : s) x.§go(); } }", "Ship"),
        ("java", "class A { void f(Ship[] s) { s.§length; } }", "[]"),
        (
            "java",
            f"{DEPOT} class A {{ void f(Depot d) {{ for (var x : d.all()) x.§go(); }} }}",
            "Ship",
        ),
        ("java", "class A { void f(List<? extends Ship> l) { l.forEach(x -> x.§go()); } }", "Ship"),
        (
            "java",
            "class A { void f(Map<Key, Ship> m) { m.forEach((k, v) -> v.§go()); } }",
            "typeof v",
        ),
        ("java", "class A { void f() { new Depot().ships.§size(); } }", "Depot.ships"),
        (
            "java",
            "class A { void f(Depot d) { for (var x : d.ships) x.§go(); } }",
            "Depot.ships.[each].[else]x",
        ),
        ("java", 'class A { void f() { "a".§length(); } }', "String"),
        ("typescript", "(d as Depot).§go()", "Depot"),
        ("typescript", "(<Depot>d).§go()", "Depot"),
        ("typescript", "let d: Depot; (d as const).§go()", "Depot"),
        ("typescript", "let d: Depot; (d satisfies X).§go()", "Depot"),
        ("typescript", "let d: Promise<Depot>; (await d).§go()", "Depot"),
        (
            "typescript",
            "async function f(): Promise<Depot> {}\nconst d = await f(); d.§go()",
            "Depot",
        ),
        ("typescript", "let d: Depot[]; d[0].§go()", "Depot"),
        ("typescript", "let d: Depot[]; d.§map", "Array"),
        ("typescript", "let d: Map<string, Depot[]>; d['a'][0].§go()", "Depot"),
        ("typescript", "let d: Map<string, () => void>; d['a'].§go()", None),
        (
            "typescript",
            "interface A { d: Depot[] }\nfunction f(a: A) { for (const x of a.d) x.§go() }",
            "Depot",
        ),
        ("typescript", "let d: Depot[]; for (const k in d) k.§length", "typeof k"),
        ("typescript", "function f(d: Array<Depot>) { d.map(x => x.§go()) }", "Depot"),
        ("typescript", "function f(d: readonly Depot[]) { d.map((x, i) => x.§go()) }", "Depot"),
        ("typescript", "function f(d: Depot[]) { d.reduce((x, y) => x.§go(), 0) }", "typeof x"),
        ("typescript", "class A { b(): A { return this.b().§b() } }", "A"),
        ("typescript", "class A { b(): A { const me = this; return me.§b() } }", "A"),
        ("typescript", "const x = a.b; const y = b; const b = y; y.§c", "typeof y"),
        ("python", "def f(d: list[Depot]): d[0].§go()", "Depot"),
        ("python", "def f(d: dict[str, t.Sequence[Depot]]): d['a'][0].§go()", "Depot"),
        ("python", "def f(d: Optional[list[Depot]]):\n  for x in d: x.§go()", "Depot"),
        ("python", "def f(d: 'Depot'): (d).§go()", "Depot"),
        (
            "python",
            "class A:\n  d: list[Depot]\n  def f(self): return [x.§go() for x in self.d]",
            "Depot",
        ),
        (
            "python",
            "class A:\n  def f(self): self.d.§go()\n  def g(self): self.d = Depot()",
            "Depot()",
        ),
        ("python", "def f(d: tuple[Depot, ...]): d[0].§go()", "Depot"),
        ("python", "def f(d: tuple[int, Depot]): d[0].§go()", None),
        ("python", "async def f(d: Awaitable[Depot]): (await d).§go()", "Depot"),
        ("python", "class A:\n  def g(self) -> 'A': ...\ndef f(a: A): a.g().g().§g()", "A"),
        ("python", "', '.§join(x)", "str"),
        ("python", "def f(a: Depot): a.ship.next().§go()", "Depot.ship.next()"),
    ],
    ids=str,
)
def test_a_member_belongs_to_the_class_of_what_is_before_its_dot(
    language: str, marked: str, owner: str | None
) -> None:
    assert owner_at(marked.replace("§", ""), marked.index("§"), language) == owner


@pytest.mark.parametrize(
    ("language", "text", "bases"),
    [
        ("python", "class A(B, m.C): pass", "B m C"),
        ("typescript", "class A<T> extends B<T> implements C {}", "B T C"),
        ("typescript", "interface A extends B { x: C }", "B"),
        ("javascript", "class A extends B { x() {} }", "B"),
        ("java", "class A extends B implements C { D d; }", "B C"),
    ],
    ids=["python", "typescript", "interface", "javascript", "java"],
)
def test_names_in_the_head_of_a_class_are_its_bases(language: str, text: str, bases: str) -> None:
    owners = parse_text(text, language).owners
    assert owners is not None
    is_base = owners.heirs.where_any({"A"})
    found = parse_text(text, language).identifiers[is_base].tolist()
    assert [text[start:end] for start, end, _ in found] == bases.split()
