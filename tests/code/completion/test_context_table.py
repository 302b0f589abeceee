"""Counts of names in contexts, in a project and in a file, against a count by hand."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm.errors import CheckpointError
from seqmlm_domains.code.completion.context_table import LONGEST_CONTEXT, ContextTable
from seqmlm_domains.code.completion.file_counts import interpolated, levels_in_file
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.languages.built_in_names import PYTHON_NAMES
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_tokens import SourceTokens

WORDS = st.lists(st.sampled_from(["a", "b", "c", ".", "("]), max_size=25)


def tokens(text: str) -> SourceTokens:
    return SourceTokens.of(text, "python")


def named(table: ContextTable, context: list[str], side: str) -> list[dict[str, float]]:
    return [
        {table.names[n]: count for n, count in zip(names.tolist(), counts.tolist(), strict=True)}
        for names, counts in table.levels(context, side)  # type: ignore[arg-type]
    ]


def test_names_are_counted_after_and_before_each_context() -> None:
    table = ContextTable.of([tokens("self.a = self.b"), tokens("self.a")])
    assert table.names[0] == "self"
    after_a_dot = named(table, [".", "self"], "left")
    assert after_a_dot[0] == {"self": 3, "a": 2, "b": 1}
    assert after_a_dot[1] == after_a_dot[2] == {"a": 2, "b": 1}
    assert named(table, [".", "b"], "right")[1:3] == [{"self": 3}, {"self": 1}]


def test_a_context_that_was_never_seen_ends_the_levels() -> None:
    table = ContextTable.of([tokens("a.b")])
    assert len(table.levels(["?", "."], "left")) == 1


def test_the_edge_of_a_file_is_a_context() -> None:
    table = ContextTable.of([tokens("a = b"), tokens("c")])
    assert named(table, [], "left")[1] == {"a": 1, "c": 1}


def test_counts_survive_saving(tmp_path: Path) -> None:
    table = ContextTable.of([tokens("self.a = self.b")])
    table.save(tmp_path)
    again = ContextTable.load(tmp_path)
    assert again.names == table.names
    assert named(again, [".", "self"], "left") == named(table, [".", "self"], "left")
    np.testing.assert_array_equal(again.role_counts, table.role_counts)
    (tmp_path / "left-counts.npy").write_bytes(b"")
    with pytest.raises(CheckpointError, match="the counts of names cannot be read"):
        ContextTable.load(tmp_path)


def by_hand(words: list[str], gap: int, side: str, length: int) -> Counter[str]:
    """Names in windows of a context and a name that lie wholly on one side of the gap."""
    edge = ["<edge>"] * LONGEST_CONTEXT
    padded = edge + words[:gap] + ["<gap>"] + words[gap:] + edge
    place = LONGEST_CONTEXT + gap
    step = -1 if side == "left" else 1
    wanted = [padded[place + step * distance] for distance in range(1, length + 1)]
    found: Counter[str] = Counter()
    for other in range(LONGEST_CONTEXT, len(padded) - LONGEST_CONTEXT):
        context = [padded[other + step * distance] for distance in range(1, length + 1)]
        if other != place and "<gap>" not in context and context == wanted:
            found[padded[other]] += padded[other].isidentifier()
    return +found


@settings(deadline=None)
@given(words=WORDS, data=st.data())
def test_the_file_is_counted_as_by_hand(words: list[str], data: st.DataObject) -> None:
    gap = data.draw(st.integers(0, len(words)))
    text = tokens(" ".join(words))
    code = text.code(0, len(text.numbers))
    names = KnownNames.of(text, ContextTable.of([]))
    for side in ("left", "right"):
        levels = levels_in_file(code[:gap], code[gap:], names.of_words, side)
        found = [
            {names[int(n)]: int(count) for n, count in zip(*level, strict=True)} for level in levels
        ]
        expected = [dict(by_hand(words, gap, side, n)) for n in range(LONGEST_CONTEXT + 1)]
        assert found == expected[: len(found)]
        assert not any(expected[len(found) :])


def test_witten_and_bell_weigh_a_level_by_its_count_and_its_variety() -> None:
    levels = [(np.array([0, 1], np.int32), np.array([3.0, 1.0]))]
    found = interpolated(np.full(4, 0.25), levels)
    # Four occurrences of two names: 4/6 of the level, 2/6 of the base.
    assert found.tolist() == pytest.approx([3 / 6 + 1 / 12, 1 / 6 + 1 / 12, 1 / 12, 1 / 12])


@given(
    st.lists(
        st.dictionaries(st.integers(0, 9), st.integers(1, 50), min_size=1, max_size=10), max_size=6
    )
)
def test_interpolated_probabilities_add_up_to_one(levels: list[dict[int, int]]) -> None:
    arrays = [
        (np.array(list(level), np.int32), np.array(list(level.values()), np.float64))
        for level in levels
    ]
    assert math.isclose(interpolated(np.full(10, 0.1), arrays).sum(), 1)


@given(st.lists(st.text("ab_", min_size=1, max_size=3), max_size=20), st.text("ab_", max_size=2))
def test_names_are_found_by_how_they_begin(words: list[str], prefix: str) -> None:
    table = ContextTable.of([tokens(" ".join(words[:10]))])
    names = KnownNames.of(tokens(" ".join(words[10:])), table)
    found = sorted(names[number] for number in names.beginning_with(prefix).tolist())
    known = {*words, *PYTHON_NAMES.all}
    assert found == sorted(word for word in known if word.startswith(prefix))


@given(st.lists(st.text("aAbB", min_size=1, max_size=3), max_size=20), st.text("aB", max_size=2))
def test_names_are_found_by_how_they_begin_in_any_case(words: list[str], prefix: str) -> None:
    table = ContextTable.of([tokens(" ".join(words[:10]))])
    names = KnownNames.of(tokens(" ".join(words[10:])), table)
    found = sorted(names[number] for number in names.beginning_in_any_case(prefix).tolist())
    known = {*words, *PYTHON_NAMES.all}
    assert found == sorted(word for word in known if word.lower().startswith(prefix.lower()))


def test_the_roles_of_names_are_counted() -> None:
    table = ContextTable.of([tokens("def f(a):\n    return a.f\n"), tokens("f = 'f'")])
    roles = {
        (name, Role(role)): int(table.role_counts[number, role])
        for number, name in enumerate(table.names)
        for role in np.flatnonzero(table.role_counts[number]).tolist()
    }
    assert roles == {
        ("f", Role.FUNCTION): 1,
        ("f", Role.ATTRIBUTE): 1,
        ("f", Role.VARIABLE): 1,
        ("a", Role.PARAMETER): 1,
        ("a", Role.READ): 1,
    }


def test_declared_types_of_names_are_counted_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = (
        "class A { int size; Foo a; void f() { size = size + a; } }",
        "class B { String size; Bar b = new Bar(c); }",
    )
    table = ContextTable.of([SourceTokens.of(text, "java") for text in texts])
    table.save(tmp_path)
    for types in (table.types, ContextTable.load(tmp_path).types):
        found = {name: types.of_name(number) for name, number in table.number_of.items()}
        assert {name: counts for name, counts in found.items() if counts} == {
            "size": {"int": 3, "String": 1},
            "a": {"Foo": 2},
            "b": {"Bar": 1},
            "f": {"void": 1},
        }
        for chosen, expected in (
            ({"int", "Bar"}, {"size", "b"}),
            ({"Foo"}, {"a"}),
            ({"Unheard"}, set()),
            (set(), set()),
        ):
            numbers = types.names_with(chosen).tolist()
            assert {table.names[number] for number in numbers} == expected
    (tmp_path / "types.json").unlink()
    earlier = ContextTable.load(tmp_path).types
    assert earlier.of_name(0) == {}
    assert not len(earlier.names_with({"int"}))
    assert "was counted before declared types were" in caplog.text


def test_types_of_members_survive_saving_and_say_which_class_others_are_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = (
        "class Depot { Ship[] docked; List<Ship> ships; Ship heaviest() {} }",
        "class A { void f(Depot d) { d.heaviest().sail(); d.ships.size(); d.docked[0].sink(); } }",
    )
    table = ContextTable.of([SourceTokens.of(text, "java") for text in texts])
    table.save(tmp_path)
    for members in (table.members, ContextTable.load(tmp_path).members):
        assert members.types["Depot.docked"] == "Ship[]<Ship>"
        assert members.types["Depot.heaviest()"] == "Ship"
        for owner, expected in (("Ship", {"sail", "sink"}), ("List", {"size"})):
            found = members.of_owner(owner)
            assert found is not None
            assert {table.names[number] for number in found[0].tolist()} == expected
    path = tmp_path / "members.json"
    content = json.loads(path.read_text())
    del content["types"]
    path.write_text(json.dumps(content))
    assert ContextTable.load(tmp_path).members.types == {}
    assert "was counted before the types of members were" in caplog.text
