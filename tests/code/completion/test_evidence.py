"""What text and project say of the names at a cursor, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.evidence import FEATURES, Evidence
from seqmlm_domains.code.completion.hidden_names import HiddenName
from seqmlm_domains.code.completion.mixture import Mixture, sides_of
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.source_tokens import SourceTokens

INVENTORY = """\
class Inventory:
    def __init__(self, warehouse):
        self.warehouse = warehouse
        self.quantities = {}

    def add(self, product, quantity):
        known_quantity = self.quantities.get(product, 0)
        self.quantities[product] = known_quantity + quantity

    def remove(self, product, quantity):
        known_quantity = self.|
"""


def evidence_at(marked: str, language: str = "python", project: str = "") -> Evidence:
    """Look at the place marked ``|`` in a text of a project of one other file."""
    tokens = SourceTokens.of(marked.replace("|", "", 1), language)
    cursor = Cursor.at(tokens, marked.index("|"))
    assert cursor is not None
    table = ContextTable.of([SourceTokens.of(project, language)] if project else [])
    return Evidence.at(cursor, KnownNames.of(tokens, table))


def feature(evidence: Evidence, name: str) -> dict[str, float]:
    """One feature of each name."""
    values = evidence.features[FEATURES.index(name)].tolist()
    return {evidence.names[number]: value for number, value in enumerate(values)}


def test_behind_a_dot_a_name_is_judged_by_its_share_as_a_member() -> None:
    found = feature(evidence_at("a.b\nb = c.b\nx = a.|"), "member or not")
    # Nothing is believed either way before looking, which weighs .2 occurrences.
    assert np.exp(found["b"]) == pytest.approx((2 + 0.2 * 0.5) / (3 + 0.2))
    assert np.exp(found["a"]) == pytest.approx(0.2 * 0.5 / (2 + 0.2))


def test_elsewhere_a_name_is_judged_by_its_share_without_an_object() -> None:
    found = feature(evidence_at("a.b\nb = c.b\nx = |"), "member or not")
    assert np.exp(found["b"]) == pytest.approx((1 + 0.2 * 0.5) / (3 + 0.2))
    assert np.exp(found["a"]) == pytest.approx((1 + 0.2 * 0.5) / (1 + 0.2))


def test_the_share_in_the_project_is_what_is_believed_of_a_name() -> None:
    found = feature(evidence_at("x = a.|", project="b.c\nb.c\n"), "member or not")
    of_any = (2 + 1) / (4 + 2)
    assert np.exp(found["c"]) == pytest.approx((2 + 0.2 * of_any) / (2 + 0.2))
    assert np.exp(found["b"]) == pytest.approx((0.2 * of_any) / (2 + 0.2))


def test_a_declaration_in_a_class_is_of_a_member_and_in_java_of_a_plain_name_too() -> None:
    source = "class A { int size; void f(A other) { %s| } }"
    for before in ("f(other.", "int x = "):
        found = feature(evidence_at(source % before, "java"), "member or not")
        assert np.exp(found["size"]) == pytest.approx((1 + 0.2 * 0.5) / (1 + 0.2))


@pytest.mark.parametrize(
    ("marked", "language", "names"),
    [
        ("self.a = self.b\nother.c\nself.|", "python", {"a", "b"}),
        ("this.a = 1; this.b(); that.c; x = this.|", "typescript", {"a", "b"}),
        ("x?.a; y?.b; x?.|", "typescript", {"a"}),
        ("a = b\na = |", "python", set()),
    ],
    ids=["python", "typescript", "optional", "no receiver"],
)
def test_what_stood_behind_the_same_receiver_is_marked(
    marked: str, language: str, names: set[str]
) -> None:
    found = feature(evidence_at(marked, language), "same receiver")
    assert {name for name, value in found.items() if value} == names


@pytest.mark.parametrize(("marked", "bound"), [("x = 1\ny = |", {"x", "y"}), ("x = 1\nx.|", set())])
def test_no_scope_binds_what_is_behind_a_dot(marked: str, bound: set[str]) -> None:
    found = feature(evidence_at(marked), "in scope")
    assert {name for name, value in found.items() if value} == bound


@pytest.mark.parametrize(
    ("marked", "language", "members"),
    [
        pytest.param(INVENTORY, "python", {"quantities", "warehouse"}, id="python"),
        pytest.param(
            "interface P { String title(); }\nclass A { void f(P p) { p.| } }",
            "java",
            {"title", "f"},
            id="java",
        ),
        pytest.param(
            "interface P { title: string; price: number }\nfunction f(p: P) { return p.| }",
            "typescript",
            {"title", "price"},
            id="typescript",
        ),
    ],
)
def test_members_come_before_variables_behind_a_dot(
    marked: str, language: str, members: set[str]
) -> None:
    found = evidence_at(marked, language)
    scores = Mixture.typical().scores(found.features, sides_of(found))
    best = np.argsort(-scores)[: len(members)].tolist()
    assert {found.names[number] for number in best} == members


def test_words_that_no_parser_took_for_identifiers_are_not_proposed() -> None:
    project = "const a = <B>plain words</B>; c.match(/regular/)"
    found = evidence_at("const x = |; const words = 1", "tsx", project=project)
    visible = {found.names[number] for number in np.flatnonzero(found.is_visible).tolist()}
    assert visible - {*found.names.built_in} == {"a", "B", "c", "match", "x", "words"}


def members(evidence: Evidence, name: str = "member of its type") -> set[str]:
    """The names for which a feature is 1."""
    return {name for name, value in feature(evidence, name).items() if value == 1}


SHIP = "class Ship(Vessel):\n    def go(self): self.port\n\n"


def test_members_of_the_class_of_an_object_are_told_from_others() -> None:
    assert members(evidence_at(f"{SHIP}def f(ship: Ship): ship.|")) == {"go", "port"}
    assert members(evidence_at(f"{SHIP}ship = Ship()\nship.|")) == {"go", "port"}
    assert members(evidence_at(f"{SHIP}other = ship()\nother.|")) == set()


def test_a_class_far_away_in_the_text_is_found_too() -> None:
    far = "x = 1\n" * 3000
    assert members(evidence_at(f"{SHIP}{far}ship = Ship()\nship.|")) == {"go", "port"}


def test_the_project_tells_the_members_of_its_classes_and_of_their_bases() -> None:
    project = f"{SHIP}class Vessel:\n    def stop(self): pass\n\ndef f(v: Vessel): v.sink()\n"
    found = evidence_at("def f(ship: Ship): ship.|", project=project)
    assert members(found) == {"go", "port", "stop", "sink"}
    assert members(evidence_at("ship = Ship()\nship.|", project=project)) == members(found)


def test_the_members_of_the_own_object_are_another_feature() -> None:
    found = evidence_at(f"{SHIP}class Boat(Ship):\n    def f(self):\n        self.|")
    assert members(found) == set()
    assert members(found, "member of own type") == {"go", "port", "f"}


def test_what_is_defined_is_not_looked_up_in_its_class() -> None:
    found = evidence_at(f"{SHIP}class Boat(Ship):\n    def |(self): pass\n")
    assert members(found) == set()


def test_names_seen_in_a_module_are_more_probable_where_it_is_imported_from() -> None:
    project = "import shop\nshop.sell()\nshop.sell()\nbuy()\n"
    found = feature(evidence_at("from shop import |", project=project), "seen with its type")
    assert found["sell"] > 0 > found["buy"]


def test_the_name_at_the_cursor_is_no_member_that_is_known() -> None:
    tokens = SourceTokens.of(f"{SHIP}class Boat:\n    def f(self): self.hidden\n", "python")
    piece = tokens.words.index("hidden")
    piece = int(np.flatnonzero(tokens.numbers == piece)[0])
    cursor = HiddenName(tokens, piece).cursor("both")
    found = Evidence.at(cursor, KnownNames.of(tokens, ContextTable.of([])))
    assert members(found, "member of own type") == {"f"}


def test_a_name_however_far_away_is_in_the_file() -> None:
    """Beyond 100,000 tokens it once was not."""
    evidence = evidence_at("abc = 1\n" + "(" * 100_001 + "|")
    assert members(evidence, "in file") == {"abc"}
    is_new = evidence.is_new_on_the_left.tolist()
    assert [evidence.names[n] for n in range(len(is_new)) if not is_new[n]] == ["abc"]


@pytest.mark.parametrize(
    ("marked", "language", "name"),
    [
        ("a.catch(b); a.ca|", "javascript", "catch"),
        ("import {from} from 'c'; fr|", "javascript", "from"),
        ("class A { set(k: B) {} } new A().se|", "typescript", "set"),
        ("const a = {type: 1}; a.ty|", "typescript", "type"),
        ("<input type='a' />; <input ty|", "tsx", "type"),
        ("z.string(); z.str|", "typescript", "string"),
    ],
)
def test_a_keyword_of_other_places_is_proposed_where_it_is_a_name(
    marked: str, language: str, name: str
) -> None:
    evidence = evidence_at(marked, language)
    visible = [evidence.names[number] for number in np.flatnonzero(evidence.is_visible).tolist()]
    assert name in visible
    elsewhere = evidence_at(marked, language, project=marked.replace("|", ""))
    assert feature(elsewhere, "in file")[name] == 1


@pytest.mark.parametrize(
    ("marked", "language", "project", "is_proposed"),
    [
        pytest.param("def f(date: |): return date", "python", "", False, id="python"),
        pytest.param("x = date\ndate: |[] = 3", "python", "", False, id="used before"),
        pytest.param("let date: |", "typescript", "", False, id="typescript"),
        pytest.param("class A { | date; }", "java", "", False, id="java"),
        pytest.param("from d import date\ndate: |", "python", "", True, id="also imported"),
        pytest.param("date: |", "python", "class date: pass", True, id="also a class"),
        pytest.param("def f(date): x: |", "python", "", True, id="another's type"),
        pytest.param("def f(date: |, x: date): pass", "python", "", True, id="also a type"),
    ],
)
def test_what_is_being_declared_is_not_proposed_as_its_own_type(
    marked: str, language: str, project: str, is_proposed: bool
) -> None:
    found = evidence_at(marked, language, project)
    visible = {found.names[number] for number in np.flatnonzero(found.is_visible).tolist()}
    assert ("date" in visible) == is_proposed
