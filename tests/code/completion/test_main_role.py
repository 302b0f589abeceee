"""What a name is said to be, from what it does in a project and around the cursor."""

from __future__ import annotations

import pytest

from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.cursor_syntax import CursorSyntax
from seqmlm_domains.code.completion.main_role import main_role, main_type
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.completion.project import count_names
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_tokens import SourceTokens

PROJECT = """import machine
from typing import Sequence

class Shop:
    def sell(self, product):
        self.sold = product

def total(items: Sequence):
    return Shop().sell(items)

total(1)
total(2)
"""


@pytest.mark.parametrize(
    ("source", "name", "role"),
    [
        ("|", "total", Role.FUNCTION),
        ("|", "Shop", Role.CLASS),
        ("|", "machine", Role.IMPORT),
        ("|", "product", Role.PARAMETER),
        ("|", "sold", Role.ATTRIBUTE),
        ("shop.|", "sell", Role.FUNCTION),
        ("shop.|", "product", Role.ATTRIBUTE),
        ("total = 1\ntotal = 2\ntotal = 3\n|", "total", Role.VARIABLE),
        ("mine = 1\nprint(|)", "mine", Role.VARIABLE),
        ("def mine(): pass\nmine(), mine(), |", "mine", Role.FUNCTION),
        ("print(mine, |)", "mine", Role.READ),
        ("|", "isinstance", Role.FUNCTION),
        ("|", "ValueError", Role.CLASS),
        ("|", "NotImplemented", Role.VARIABLE),
    ],
    ids=str,
)
def test_a_name_is_what_it_is_mostly_bound_as_or_else_used_as(
    source: str, name: str, role: Role
) -> None:
    tokens = SourceTokens.of(source.replace("|", ""), "python")
    cursor = Cursor.at(tokens, source.index("|"))
    assert cursor is not None
    (table,) = count_names([SourceTokens.of(PROJECT, "python")]).values()
    names = KnownNames.of(tokens, table)
    number = next(number for number in range(len(names)) if names[number] == name)
    assert main_role(number, names, CursorSyntax.at(cursor)) == role


TYPED_PROJECT = """class Shop:
    def __init__(self):
        self.stock: Stock = None
        self.size: int = 0

def data(path: Path, size: str) -> int:
    return path
"""


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        ("|", "path", "Path"),
        ("path = a.b()\n|", "path", None),
        ("def f():\n    path = 1\n|", "path", None),
        ("def f(path: Folder): |", "path", "Folder"),
        ("def f(path: Folder): pass\n|", "path", "Folder"),
        ("import path\n|", "path", None),
        ("|", "data", None),
        ("def own() -> int: pass\n|", "own", None),
        ("x.|", "path", None),
        ("def f(shop: Shop): shop.|", "stock", "Stock"),
        ("def f(shop: Shop): shop.|", "size", None),
        ("class A:\n    b: B\n    def f(self): self.|", "b", "B"),
        ("def f(own: |): return own", "own", None),
        ("def f(path: |): return path", "path", None),
        ("class A:\n    own: Lis|t[int]\n    def f(self): pass", "own", None),
    ],
    ids=str,
)
def test_the_type_of_a_name_is_that_of_no_namesake(
    source: str, name: str, expected: str | None
) -> None:
    tokens = SourceTokens.of(source.replace("|", ""), "python")
    cursor = Cursor.at(tokens, source.index("|"))
    assert cursor is not None
    (table,) = count_names([SourceTokens.of(TYPED_PROJECT, "python")]).values()
    names = KnownNames.of(tokens, table)
    number = next(number for number in range(len(names)) if names[number] == name)
    assert main_type(number, names, CursorSyntax.at(cursor)) == expected
