"""Names to classes: built-ins, entry points, module:Class, and what happens when they fail."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from seqmlm import registry
from seqmlm.errors import ConfigError, UnknownNameError
from seqmlm.registry import CORRUPTORS, DOMAINS, OBJECTIVES, SELECTORS, Registry

TREES = Registry(
    noun="tree", builtin={"oak": "a_wood:Oak", "elm": "a_wood:Elm"}, group="test.trees"
)

WOOD = '''
class Oak:
    """Takes one argument of its own, needs another."""
    def __init__(self, soil, *, height, age=3):
        self.soil, self.height, self.age = soil, height, age

class Elm:
    pass
'''


@pytest.fixture(autouse=True)
def wood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of trees that can be imported."""
    (tmp_path / "a_wood.py").write_text(WOOD)
    (tmp_path / "a_broken_wood.py").write_text("import a_module_that_is_not_there\n")
    (tmp_path / "a_wood_with_a_bug.py").write_text("from a_wood import Willow\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("a_wood", "a_broken_wood", "a_wood_with_a_bug"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def install(monkeypatch: pytest.MonkeyPatch, **targets: str) -> None:
    entries = [EntryPoint(name.split("_")[0], value, TREES.group) for name, value in
               targets.items()]  # fmt: skip
    monkeypatch.setattr(
        registry, "entry_points", lambda *, group: entries if group == TREES.group else []
    )


def test_a_refused_value_is_given_its_path(tmp_path: Path) -> None:
    """Only where the message begins with an option: others say themselves where they belong."""
    (tmp_path / "a_nursery.py").write_text(
        "from seqmlm.errors import ConfigError\n"
        "class Sapling:\n"
        "    def __init__(self, height):\n"
        "        raise ConfigError(f'height = {height}: too tall.' if height else 'No tree.')\n"
    )
    settings = {"name": "a_nursery:Sapling", "height": 99}
    with pytest.raises(ConfigError, match=r"^garden\.1\.height = 99: too tall\.$"):
        TREES.build(settings, where="garden.1")
    with pytest.raises(ConfigError, match=r"^No tree\.$"):
        TREES.build(settings | {"height": 0}, where="garden.1")


def test_builtin_names_load_their_class() -> None:
    assert TREES.load("oak").__name__ == "Oak"
    assert TREES.names() == ["elm", "oak"]


def test_module_and_class_load_without_registration() -> None:
    assert TREES.load("a_wood:Oak") is TREES.load("oak")


def test_installed_packages_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, beech="a_wood:Elm")
    assert TREES.names() == ["beech", "elm", "oak"]
    assert TREES.load("beech") is TREES.load("elm")


def test_an_unknown_name_gets_a_suggestion_and_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, beech="a_wood:Elm")
    with pytest.raises(
        UnknownNameError,
        match=r"no tree called 'beach'\. Did you mean 'beech'\? Available: beech, elm, oak\.",
    ):
        TREES.load("beach")


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    with pytest.raises(UnknownNameError, match=r"called 'xyzzy'\. Available: elm, oak\."):
        TREES.load("xyzzy")


def test_a_missing_class_is_named_with_the_closest_one() -> None:
    with pytest.raises(ConfigError, match=r"module 'a_wood' has no 'Oka'\. Did you mean 'Oak'\?"):
        TREES.load("a_wood:Oka")


@pytest.mark.parametrize("name", ["no_such_wood:Oak", "no_such_wood.deep:Oak"])
def test_a_missing_module_is_a_clear_message(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no module named 'no_such_wood'.*PYTHONPATH"):
        TREES.load(name)


@pytest.mark.parametrize("name", [":", "a_wood:", ":Oak", ".a_wood:Oak"])
def test_half_a_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="write it as module:Class"):
        TREES.load(name)


def test_what_is_not_a_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="tree 'os:path': os:path is not a class"):
        TREES.load("os:path")


def test_a_missing_submodule_is_a_clear_message() -> None:
    with pytest.raises(ConfigError, match="no module named"):
        TREES.load("email.no_such_part:Oak")


def test_an_import_that_fails_inside_a_plugin_keeps_its_own_error() -> None:
    with pytest.raises(ModuleNotFoundError) as error:
        TREES.load("a_broken_wood:Oak")
    assert error.value.name == "a_module_that_is_not_there"


def test_a_bug_inside_a_plugin_keeps_its_own_error() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Willow'"):
        TREES.load("a_wood_with_a_bug:Oak")


def test_two_packages_that_claim_a_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, beech_1="a_wood:Elm", beech_2="a_wood:Oak")
    with pytest.raises(ConfigError, match="register the tree 'beech': a_wood:Elm and a_wood:Oak"):
        TREES.load("beech")


def test_a_package_cannot_take_a_builtin_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, oak="a_wood:Elm")
    with pytest.raises(ConfigError, match="register the tree 'oak': a_wood:Oak and a_wood:Elm"):
        TREES.names()


def test_one_package_installed_twice_is_no_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    """An editable install beside a wheel lists the same entry point twice."""
    install(monkeypatch, beech_1="a_wood:Elm", beech_2="a_wood:Elm")
    assert TREES.load("beech") is TREES.load("elm")


def test_build_passes_arguments_and_options() -> None:
    oak = TREES.build({"name": "oak", "height": 20}, "clay", where="trees.0")
    assert (oak.soil, oak.height, oak.age) == ("clay", 20, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "oak"}, r"trees\.0\.height: tree 'oak' needs it"),
        ({"name": "oak", "heigth": 2}, r"trees\.0\.heigth: .* Did you mean 'height'\?"),
        ({"name": "oak", "soil": "clay"}, r"trees\.0\.soil: .* It takes: height, age\."),
        ({"name": "elm", "age": 2}, r"trees\.0\.age: .* It takes: none\."),
        ({"height": 2}, r"trees\.0 = .*must be a table with the name of a tree"),
        ({"name": 3}, r"must be a table with the name of a tree.*Available: elm, oak"),
        ("oak", r"trees\.0 = 'oak': it must be a table .*\{ name = 'elm' \}"),
        (None, r"trees\.0 = None: it must be a table"),
    ],
    ids=["needed", "typing error", "positional", "no options", "no name", "number", "string",
         "nothing"],
)  # fmt: skip
def test_build_refuses_what_does_not_fit(settings: Any, message: str) -> None:
    """A bare string in the place of a table ended in a traceback once."""
    with pytest.raises(ConfigError, match=message):
        TREES.build(settings, "clay", where="trees.0")


@pytest.mark.parametrize(
    "registered", [DOMAINS, OBJECTIVES, SELECTORS, CORRUPTORS], ids=lambda r: r.noun
)
def test_every_builtin_name_can_be_loaded(registered: Registry) -> None:
    for name in registered.builtin:
        assert isinstance(registered.load(name), type)
