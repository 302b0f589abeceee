"""In which class each member is looked up, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from seqmlm_domains.code.declared_types import NO_TYPE
from seqmlm_domains.code.syntax import parse_text


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
