"""What files are called where they are imported, and what imports call them."""

from __future__ import annotations

import pytest

from seqmlm_domains.code.modules import imported_module, is_package_file, module_words


@pytest.mark.parametrize(
    ("name", "others", "words"),
    [
        ("depot.py", [], ("depot",)),
        ("src/shop/stock.py", ["src/shop/__init__.py"], ("shop", "stock")),
        ("src/shop/__init__.py", [], ("shop",)),
        (
            "shop/cold/stock.pyi",
            ["shop/__init__.py", "shop/cold/__init__.py"],
            ("shop", "cold", "stock"),
        ),
        ("scripts/run.py", [], ("run",)),
        ("__init__.py", [], ()),
        ("src/ship.ts", [], ("ship",)),
        ("src/ship.model.ts", [], ("ship",)),
        ("src/addDays/index.ts", [], ("addDays",)),
        ("packages/ships/src/index.ts", [], ("ships",)),
        ("src/index.ts", [], ("src",)),
        ("src/main/java/org/example/Depot.java", [], ("example",)),
        ("Depot.java", [], ()),
        ("README.md", [], ()),
    ],
    ids=str,
)
def test_a_file_is_imported_by_its_packages_and_itself(
    name: str, others: list[str], words: tuple[str, ...]
) -> None:
    assert module_words(name, {name, *others}) == words


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("os", "os"),
        ("os.path", "path"),
        (".ship", "ship"),
        ("..", None),
        ("'./ship'", "ship"),
        ('"../ships/ship.js"', "ship"),
        ("'../addDays/index.js'", "addDays"),
        ("'./ship.model'", "ship"),
        ("'date-fns'", "date-fns"),
        ("'../ships/index'", "ships"),
        ("'node:fs'", "fs"),
        ("'@scope/kit'", "kit"),
        ("'..'", None),
        ("'.'", None),
        ("'a b'", None),
        ("''", None),
    ],
)
def test_a_module_is_known_by_the_last_word_of_its_path(text: str, name: str | None) -> None:
    assert imported_module(text.encode()) == (None if name is None else name.encode())


def test_packages_pass_on_what_they_import() -> None:
    assert is_package_file("a/__init__.py")
    assert is_package_file("index.tsx")
    assert not is_package_file("a/index.py")
    assert not is_package_file("index.md")
