"""What the syntax calls for, in small projects whose only answer is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.evidence import FEATURES, Evidence
from seqmlm_domains.code.completion.expected_names import EXCEPTION
from seqmlm_domains.code.completion.mixture import Mixture, sides_of
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.completion.project import count_names, table_key
from seqmlm_domains.code.languages import LANGUAGES, language_of
from seqmlm_domains.code.languages.built_in_names import PYTHON_NAMES
from seqmlm_domains.code.source_tokens import SourceTokens

SHOP = {
    "shop/__init__.py": "from shop.stock import Shelf\n",
    "shop/stock.py": """\
from decimal import Decimal

LIMIT = 3

class Shelf:
    def fill(self, crate):
        weight = crate.weight
        return weight

def restock(shelf, crate):
    shelf.fill(crate)
    return max(shelf, crate)
""",
    "main.py": "import json\nfrom urllib.parse import urlsplit\nfrom datetime import date as day\n",
}
SHIPS = {
    "src/ship.ts": "export interface Ship { port: string }\nexport function launch(s: Ship) {}\n",
    "src/docks/index.ts": "export const berth = 1;\n",
    "src/main.ts": "import { launch } from './ship';\nlaunch(1);\n",
}
DEPOTS = {
    "src/main/java/org/example/depot/Depot.java": (
        "package org.example.depot;\nimport java.util.List;\n"
        "public class Depot { int size; void add(int crate) { crate.go(); } }\n"
    ),
    "src/main/java/org/example/depot/Truck.java": (
        "package org.example.depot;\nimport java.util.Map;\npublic class Truck {}\n"
    ),
}


def evidence_at(
    marked: str,
    language: str = "python",
    project: Mapping[str, str] | None = None,
    types: frozenset[str] | None = None,
) -> Evidence:
    """Look at the place marked ``§`` in a text of a project of files by name."""
    tokens = SourceTokens.of(marked.replace("§", "", 1), language)
    cursor = Cursor.at(tokens, marked.index("§"))
    assert cursor is not None
    places = {}
    for name, text in (project or {"nothing.py": "", "nothing.ts": ""}).items():
        of_file = language_of(name)
        assert of_file is not None
        places[SourceTokens.of(text, of_file.name)] = name
    tables = count_names(places, places=places)
    return Evidence.at(cursor, KnownNames.of(tokens, tables[table_key(language)]), types=types)


def best(evidence: Evidence, count: int) -> list[str]:
    """The best names by typical weights, without a model."""
    scores = Mixture.typical().scores(evidence.features, sides_of(evidence))
    order = np.argsort(-np.where(evidence.is_visible, scores, -np.inf), kind="stable")
    return [evidence.names[number] for number in order[:count].tolist()]


def visible(evidence: Evidence) -> set[str]:
    return {evidence.names[number] for number in np.flatnonzero(evidence.is_visible).tolist()}


USE = "def f(crate, shelf):\n    weight = restock(shelf, crate)\n    §\n"


@pytest.mark.parametrize(
    ("marked", "language", "project", "expected"),
    [
        (
            f"from shop.stock import §\n{USE.replace('§', '')}",
            "python",
            SHOP,
            {"restock", "Shelf", "LIMIT"},
        ),
        (f"{USE[:-2]}from shop.stock import §", "python", SHOP, {"LIMIT", "Shelf", "restock"}),
        ("from shop import §", "python", SHOP, {"Shelf", "stock"}),
        ("from .stock import §", "python", SHOP, {"LIMIT", "Shelf", "restock"}),
        ("import urllib.§", "python", SHOP, {"parse"}),
        ("from datetime import §", "python", SHOP, {"date"}),
        ("from shop import stock\nstock.§", "python", SHOP, {"LIMIT", "Shelf", "restock"}),
        ("import { § } from './ship';\nlet weight = 1;", "typescript", SHIPS, {"Ship", "launch"}),
        ("import { § } from '../ship.js';", "typescript", SHIPS, {"Ship", "launch"}),
        ("import { § } from './docks';", "typescript", SHIPS, {"berth"}),
        (
            "import { § } from './other';\nlet x: Cargo; const weight = sail(x);",
            "typescript",
            SHIPS,
            {"Cargo", "sail"},
        ),
        ("import org.example.depot.§;\nclass A { int size; }", "java", DEPOTS, {"Depot", "Truck"}),
        ("import java.util.§;", "java", DEPOTS, {"List", "Map"}),
        ("import java.util.List;\nimport org.example.§;", "java", DEPOTS, {"depot"}),
        ("import java.util.List;\nimport §;", "java", DEPOTS, {"org", "java"}),
        ("import org.§;", "java", DEPOTS, {"example"}),
        ("import §;", "java", DEPOTS, {"org", "java"}),
    ],
    ids=lambda value: value.split("§")[0][-30:] if isinstance(value, str) else None,
)
def test_in_an_import_what_the_module_holds_comes_first(
    marked: str, language: str, project: Mapping[str, str], expected: set[str]
) -> None:
    assert set(best(evidence_at(marked, language, project), len(expected))) == expected


def test_where_a_module_is_due_stand_modules_and_what_is_used_and_not_bound() -> None:
    known = {"json", "urllib", "datetime", "decimal", "shop", "main"}
    for typed in ("import §", "from §"):
        evidence = evidence_at(USE.replace("§", typed), project=SHOP)
        assert visible(evidence) == {*known, "restock"}


def test_where_no_modules_are_known_any_name_of_an_import_is_proposed() -> None:
    tokens = SourceTokens.of("import ", "python")
    table = ContextTable.of([SourceTokens.of("def f(a): pass", "python")])
    cursor = Cursor.at(tokens, len(tokens.text))
    assert cursor is not None
    assert visible(Evidence.at(cursor, KnownNames.of(tokens, table))) == {"f"}


def test_parameters_variables_and_what_is_merely_called_stand_in_no_import() -> None:
    source = f"from elsewhere import §\n{USE.replace('§', 'len(shelf.place)')}"
    found = visible(evidence_at(source, project=SHOP))
    assert found >= {"Shelf", "restock", "Decimal"}
    assert not found & {"crate", "shelf", "weight", "len", "max", "place", "self", "fill", "f"} - {
        "fill"  # a function of the project all the same
    }


def test_what_is_used_and_not_bound_is_called_for_in_an_import_of_anything_unknown() -> None:
    source = "from elsewhere import §\ndef f(a):\n    return unheard(a, len(a))\n"
    assert best(evidence_at(source, project=SHOP), 1) == ["unheard"]


SHIP_ERRORS = {"errors.py": "class Sunk(Exception): pass\nclass Burnt(Sunk): pass\n"}


@pytest.mark.parametrize(
    ("marked", "language"),
    [
        ("def f(x):\n    y = x\n    try:\n        y()\n    except §\n", "python"),
        (
            "def f(x):\n    y = x\n    try:\n        y()\n    except (KeyError, §):\n        x()\n",
            "python",
        ),
        ("def f(x):\n    y = x\n    raise §\n", "python"),
        ("class A { void f(int x) { int y = x; throw new §; } }", "java"),
        ("class A { void f(int x) { try { f(x); } catch (§ e) { f(x); } } }", "java"),
        ("class A { void f(int x) throws § { f(x); } }", "java"),
        ("function f(x) { const y = x; throw new §; }", "typescript"),
    ],
    ids=lambda value: value[:0] if "\n" in value else None,
)
def test_exceptions_come_first_where_one_is_due_even_in_an_empty_project(
    marked: str, language: str
) -> None:
    project = {"a.py": "", "a.ts": "", "a.java": ""}
    for name in best(evidence_at(marked, language, project), 5):
        assert name in LANGUAGES[language].built_in.exceptions


def test_classes_that_are_derived_from_exceptions_are_some() -> None:
    own = "class Lost(Sunk): pass\nclass Other: pass\n"
    evidence = evidence_at(f"{own}try:\n    f()\nexcept §\n", project=SHIP_ERRORS)
    marked = evidence.features[FEATURES.index(EXCEPTION)]
    found = {evidence.names[number] for number in np.flatnonzero(marked).tolist()}
    assert found == {"Sunk", "Burnt", "Lost", *PYTHON_NAMES.exceptions}


@pytest.mark.parametrize(
    ("marked", "language", "names", "is_proposed"),
    [
        ("x = §", "python", {"isinstance", "ValueError", "NotImplemented"}, True),
        ("def f(x: §", "python", {"int", "ValueError"}, True),
        ("def f(x: §", "python", {"isinstance"}, False),
        ("x.§", "python", {"isinstance", "int"}, False),
        ("import §", "python", {"isinstance", "int"}, False),
        ("def §(): pass", "python", {"isinstance", "int"}, False),
        ("f(§=1)", "python", {"isinstance", "int"}, False),
        ("class A { void f() { § } }", "java", {"String", "IllegalStateException"}, True),
        ("class A { void f(A x) { x.§(); } }", "java", {"String"}, False),
        ("const x = §", "typescript", {"Math", "parseInt", "Map", "TypeError"}, True),
        ("const x = §", "tsx", {"div"}, False),
        ("const x: §", "typescript", {"Map", "Partial"}, True),
        ("const x: §", "typescript", {"parseInt"}, False),
    ],
)
def test_names_of_the_language_are_proposed_where_they_may_stand(
    marked: str, language: str, names: set[str], is_proposed: bool
) -> None:
    found = visible(evidence_at(marked, language, {"a.py": "", "a.ts": "", "a.java": ""}))
    assert found >= names if is_proposed else not found & names


def test_names_of_the_language_do_not_hide_that_the_project_uses_them() -> None:
    evidence = evidence_at("x = §", project={"a.py": "print(1)\n"})
    assert evidence.names.table.names == ("print", "a")
    assert "print" not in evidence.names.built_in


CARD = """\
import { Button } from './button';
interface CardProps { title: string }
function Card({ title }: CardProps) {
  const selected = 1;
  return (
    <section>
      <h1>{title}</h1>
      %s
    </section>
  );
}
"""


@pytest.mark.parametrize(
    ("typed", "only"),
    [
        ("<Card></§", {"Card"}),
        ("<Card><b>x</b></§>", {"Card"}),
        ("<Card><Button /><img src='a' /></§", {"Card"}),
        ("<Card a={b > c}></§", {"Card"}),
        ("</§", {"section"}),
        ("<Card.Head></Card.§", {"Head"}),
        ("<Card.Head></§", {"Card"}),
        ("<></§", set()),
    ],
)
def test_a_closing_tag_is_that_of_the_element_which_is_open(typed: str, only: set[str]) -> None:
    assert visible(evidence_at(CARD % typed, "tsx", {"a.ts": "let a = 1;"})) == only


def test_a_tag_holds_components_and_elements_and_no_types_or_variables() -> None:
    project = {"a.ts": "class Ship {}\nfunction sail(ship: Ship) {}\n"}
    for typed in ("<§", "<§ />", "<Card><§"):
        evidence = evidence_at(CARD % typed, "tsx", project)
        assert set(best(evidence, 4)) == {"section", "h1", "Card", "Button"}
        found = visible(evidence)
        assert found >= {"div", "Card"}
        assert not found & {"CardProps", "Ship", "selected", "sail", "parseInt", "string"}


def test_behind_a_component_and_a_dot_stand_no_attributes() -> None:
    text = CARD.replace("<section>", "<Card.Head className='a' />\n<section>", 1)
    assert visible(evidence_at(text % "<Card.§", "tsx", {"a.ts": ""})) == {"Head"}


def test_a_sign_of_comparison_begins_no_tag() -> None:
    found = visible(evidence_at("const a = 1; const b = a <§", "tsx", {"a.ts": "let limit = 1;"}))
    assert {"limit", "a"} <= found


def test_names_in_scope_with_an_asked_type_come_before_those_of_other_classes() -> None:
    source = """class Depot {
  static class Crate { Crate next; Crate follow() { return next; } }
  void add(Crate incoming) { Crate held = incoming.next; next(next, next); return §; }
}"""
    evidence = evidence_at(source, "java", DEPOTS, frozenset({"Crate"}))
    assert set(best(evidence, 2)) == {"incoming", "held"}
    assert visible(evidence) == {"incoming", "held", "next", "follow"}
