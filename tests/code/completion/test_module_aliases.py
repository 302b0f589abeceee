"""What modules hold behind the names that imports give them, in small projects."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.evidence import FEATURES, Evidence
from seqmlm_domains.code.completion.expected_names import DECLARED_BY_MODULE, SEEN_IN_MODULE
from seqmlm_domains.code.completion.members import KnownMembers
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.completion.project import count_names
from seqmlm_domains.code.languages import language_of
from seqmlm_domains.code.source_tokens import SourceTokens

SHOP = {
    "shop/__init__.py": "from .stock import *\nfrom .crates import Crate as Box\n",
    "shop/stock.py": "LIMIT = 3\n\nclass Shelf:\n    width: int\n",
    "shop/crates.py": "class Crate:\n    height: int\n\ndef pack() -> Crate: ...\n",
    "one.py": "import numpy as np\nnp.zeros(3)\n",
    "two.py": "import numpy\nnumpy.ones(3)\nfrom numpy import pi\n",
}
SHIPS = {
    "ships/ship.ts": "export interface Ship { port: string }\nexport function launch() {}\n",
    "ships/index.ts": "export * from './ship';\nexport * as docks from './docks';\n",
    "ships/docks.ts": "export const berth = 1;\nexport { chart as map, pilot } from './charts';\n",
    "packages/harbour/src/index.ts": "export function open() {}\n",
    "one.ts": "import * as files from 'fs';\nfiles.readFile();\nimport React from 'react';\n",
    "two.ts": "import { writeFile } from 'fs';\nimport R from 'react';\nR.useState();\n",
}
CARTS = {
    "carts.js": "exports.load = function () {};\nmodule.exports.tip = 1;\nfunction pull() {}\n",
    "one.js": "const files = require('fs');\nfiles.readFile();\n",
    "two.js": "const { writeFile, open: begin } = require('fs');\n",
}


def evidence_at(marked: str, name: str, project: Mapping[str, str]) -> Evidence:
    """Look at the place marked ``§`` in a file of a project."""
    language = language_of(name)
    assert language is not None
    places = {SourceTokens.of(text, language.name): path for path, text in project.items()}
    (table,) = count_names(places, places=places).values()
    tokens = SourceTokens.of(marked.replace("§", "", 1), language.name)
    cursor = Cursor.at(tokens, marked.index("§"))
    assert cursor is not None
    return Evidence.at(cursor, KnownNames.of(tokens, table))


def expected(evidence: Evidence, *kinds: str) -> set[str]:
    """What the syntax calls for, of some kinds."""
    found = np.any([evidence.features[FEATURES.index(kind)] > 0 for kind in kinds], axis=0)
    return {evidence.names[number] for number in np.flatnonzero(found).tolist()}


@pytest.mark.parametrize(
    ("marked", "names"),
    [
        ("import shop.stock as s\ns.§", {"LIMIT", "Shelf"}),
        ("from shop import stock as s\ns.§", {"LIMIT", "Shelf"}),
        ("def f():\n    from . import stock as s\n    s.§", {"LIMIT", "Shelf"}),
        ("import shop as s\ns.§", {"LIMIT", "Shelf", "Crate", "Box", "stock", "crates"}),
        ("from shop import §", {"LIMIT", "Shelf", "Crate", "Box", "stock", "crates"}),
        ("import shop as s\ns.crates.§", {"Crate", "pack"}),
    ],
)
def test_in_python_what_the_file_declares(marked: str, names: set[str]) -> None:
    assert expected(evidence_at(marked, "a.py", SHOP), DECLARED_BY_MODULE) == names


@pytest.mark.parametrize("statement", ["import numpy as n", "import numpy as n, os"])
def test_of_a_module_outside_the_project_what_is_used_by_whatever_name(statement: str) -> None:
    evidence = evidence_at(f"{statement}\nn.§", "a.py", SHOP)
    assert expected(evidence, SEEN_IN_MODULE) == {"zeros", "ones", "pi"}


@pytest.mark.parametrize(
    ("marked", "names"),
    [
        ("import * as s from './ships/ship';\ns.§", {"Ship", "launch"}),
        ("import s = require('./ships/ship');\ns.§", {"Ship", "launch"}),
        ("const s = require('./ships/ship.js');\ns.§", {"Ship", "launch"}),
        ("const s = await import('./ships/ship');\ns.§", {"Ship", "launch"}),
        ("import * as s from './ships';\ns.§", {"Ship", "launch", "docks"}),
        ("import { § } from './ships/index';", {"Ship", "launch", "docks"}),
        ("import { docks } from './ships';\ndocks.§", {"berth", "pilot", "map"}),
        ("import { docks as d } from './ships';\nd.§", {"berth", "pilot", "map"}),
        ("import * as h from 'harbour';\nh.§", {"open"}),
        ("export { § } from './ships/ship';", {"Ship", "launch"}),
    ],
)
def test_in_typescript_what_the_file_declares_and_passes_on(marked: str, names: set[str]) -> None:
    assert expected(evidence_at(marked, "a.ts", SHIPS), DECLARED_BY_MODULE) == names


@pytest.mark.parametrize(
    ("marked", "names"),
    [
        ("import * as f from 'fs';\nf.§", {"readFile", "writeFile"}),
        ("import f from 'node:fs';\nf.§", {"readFile", "writeFile"}),
        ("import React from 'react';\nReact.§", {"useState"}),
    ],
)
def test_in_typescript_what_is_used_of_other_modules(marked: str, names: set[str]) -> None:
    assert expected(evidence_at(marked, "a.ts", SHIPS), SEEN_IN_MODULE) >= names


def test_in_javascript_what_is_required() -> None:
    evidence = evidence_at("const f = require('fs');\nf.§", "a.js", CARTS)
    assert expected(evidence, SEEN_IN_MODULE) == {"readFile", "writeFile", "open"}
    evidence = evidence_at("const c = require('./carts');\nc.§", "a.js", CARTS)
    assert expected(evidence, DECLARED_BY_MODULE) == {"load", "tip", "pull"}


def test_the_alias_counts_where_its_import_is_far_above() -> None:
    far = "x = 1\n" * 3000
    for lines in ("import numpy as n", "import (\n    os,\n)\nimport numpy as n"):
        evidence = evidence_at(f"{lines}\n{far}n.§", "a.py", SHOP)
        assert expected(evidence, SEEN_IN_MODULE) == {"zeros", "ones", "pi"}
    evidence = evidence_at(f"import shop.stock as s\n{far}s.§", "a.py", SHOP)
    assert expected(evidence, DECLARED_BY_MODULE) == {"LIMIT", "Shelf"}


@pytest.mark.parametrize(
    "text",
    [
        "import shop.stock as s\ndef f(s):\n    s.§",
        "import shop.stock as s\ndef f():\n    s = g()\n    s.§",
        "try:\n    import shop.stock as s\nexcept ImportError:\n    from other import s\ns.§",
    ],
)
def test_what_hides_an_alias_is_no_module(text: str) -> None:
    assert expected(evidence_at(text, "a.py", SHOP), DECLARED_BY_MODULE) == set()


@pytest.mark.parametrize(
    ("language", "project", "marked"),
    [
        ("python", "class Ship:\n    port: str\n", "from m import Ship as S\nS().§"),
        ("python", "class Ship:\n    port: str\n", "from m import Ship as S\ndef f(s: S): s.§"),
        ("typescript", "class Ship { port: string }", "import { Ship as S } from 'm'; new S().§"),
        ("typescript", SHIPS["ships/ship.ts"], "import { Ship as S } from 'm'; let s: S; s.§"),
        (
            "java",
            "class Ship { int port; } class Docks { static Ship first() {} static Ship flag; }",
            "import static a.Docks.first; class A { void f() { first().§; } }",
        ),
        (
            "java",
            "class Ship { int port; } class Docks { static Ship first() {} static Ship flag; }",
            "import static a.Docks.flag; class A { void f() { flag.§; } }",
        ),
    ],
)
def test_classes_and_members_are_known_by_other_names_too(
    language: str, project: str, marked: str
) -> None:
    tokens = SourceTokens.of(marked.replace("§", ""), language)
    cursor = Cursor.at(tokens, marked.index("§"))
    assert cursor is not None
    names = KnownNames.of(tokens, ContextTable.of([SourceTokens.of(project, language)]))
    found = KnownMembers.at(cursor, names, Evidence.at(cursor, names).syntax)
    assert {names[number] for number in np.flatnonzero(found.of_class).tolist()} == {"port"}
