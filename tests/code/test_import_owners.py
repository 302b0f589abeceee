"""Which module each imported name belongs to, and what a module declares for others."""

from __future__ import annotations

import numpy as np
import pytest

from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.project import count_names
from seqmlm_domains.code.languages import language_of
from seqmlm_domains.code.source_tokens import SourceTokens

MODULES = "typeof *"


def table_of(**files: str) -> ContextTable:
    """Count files that are named with ``__`` in place of slashes and ``_dot_`` of dots."""
    places = {}
    for name, text in files.items():
        path = name.replace("_in_", "/").replace("_dot_", ".")
        language = language_of(path)
        assert language is not None
        places[SourceTokens.of(text, language.name)] = path
    (table,) = count_names(places, places=places).values()
    return table


def members(table: ContextTable, owner: str) -> set[str]:
    found = table.members.of_owner(owner)
    return set() if found is None else {table.names[number] for number in found[0].tolist()}


@pytest.mark.parametrize(
    ("text", "owner", "names"),
    [
        ("import os, re", MODULES, {"os", "re", "a"}),
        ("import os.path", "typeof os", {"path"}),
        ("import numpy as np", MODULES, {"numpy", "a"}),
        ("from os.path import join, split as cut", "typeof path", {"join", "split"}),
        ("from .shop import Ship", "typeof shop", {"Ship"}),
        ("from . import Ship", MODULES, {"Ship", "a"}),
        ("from __future__ import annotations", "typeof __future__", {"annotations"}),
        (
            "x = 1\ndef f(a): b = 2\nclass C:\n    d = 1\n    def g(self): pass",
            "typeof a",
            {"x", "f", "C"},
        ),
        ("if x:\n    y = 1\nelse:\n    def z(): pass", "typeof a", {"y", "z"}),
    ],
)
def test_python(text: str, owner: str, names: set[str]) -> None:
    assert members(table_of(a_dot_py=text), owner) == names


@pytest.mark.parametrize(
    ("text", "owner", "names"),
    [
        ("import A, { b, c as d } from './ship'", "typeof ship", {"A", "b", "c"}),
        ("import * as ship from './ship'", "typeof ship", set()),
        (
            "const x = 1; function f<T>(a: T) { let b = 2 }\ninterface I { c: number }",
            "typeof a",
            {"x", "f", "I"},
        ),
    ],
)
def test_typescript(text: str, owner: str, names: set[str]) -> None:
    assert members(table_of(a_dot_ts=text), owner) == names


def test_java() -> None:
    text = "package a.b;\nimport c.d.E;\nclass F { int g; void h() { class I {} } }\n"
    table = table_of(src_in_b_in_F_dot_java=text)
    assert members(table, MODULES) == {"a", "c"}
    assert members(table, "typeof a") == {"b"}
    assert members(table, "typeof d") == {"E"}
    assert members(table, "typeof b") == {"F"}
    assert table.members.modules == {"typeof b"}


def test_a_package_holds_its_modules_and_what_it_imports_and_no_modules_that_it_uses() -> None:
    table = table_of(
        shop_in___init___dot_py="import os\nfrom shop.stock import Shelf\nfrom m import n\n",
        shop_in_stock_dot_py="class Shelf: pass\n",
    )
    assert members(table, "typeof shop") == {"stock", "Shelf", "n"}
    assert table.members.modules == {"typeof shop", "typeof stock"}
    found = {table.names[number] for number in table.members.of_modules.tolist()}
    assert found == {"stock", "Shelf", "n"}


def test_a_module_that_no_file_names_is_a_name_all_the_same() -> None:
    table = table_of(lonely_dot_py="x = 1\n")
    assert table.names == ("x", "lonely")
    assert table.is_identifier.all()
    assert np.array_equal(table.counts["left"].level(np.uint64(0))[0], [0])  # type: ignore[index]
