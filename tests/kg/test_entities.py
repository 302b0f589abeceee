from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seqmlm.errors import DataError
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.entities import NO_TOKEN
from seqmlm_domains.kg.graph import spoken
from seqmlm_domains.kg.names import NameTokenizer, RaggedTokens
from seqmlm_domains.kg.triples import NameAndDescription

BuildDomain = Any

HOMONYMS = {
    "run.n.01": ("run", "a score in baseball made by a runner"),
    "run.v.01": ("run", "move fast by using one's feet"),
    "run.v.02": ("run", ""),
    "run.v.03": ("run", ""),
    "walk.v.01": ("walk", "use one's feet to advance"),
}
TRIPLES = [(left, "related", right) for left in HOMONYMS for right in HOMONYMS if left < right]


def names(domain: KnowledgeGraphDomain) -> list[tuple[int, ...]]:
    table = domain.graph.entities
    return [tuple(table.name_tokens[i].tolist()) for i in range(len(table))]


def test_equal_names_are_told_apart_by_description_and_else_by_identifier(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(TRIPLES, texts=HOMONYMS, max_name_tokens=40)
    table = domain.graph.entities
    assert len(set(names(domain))) == 5
    assert (table.num_collisions, table.num_ties) == (4, 0)
    expected = ["run (a score in baseball)", "run (run.v.02)", "walk"]
    numbers = [table.numbers[key] for key in ("run.n.01", "run.v.02", "walk.v.01")]
    encoded = domain.graph.tokenizer.encode(expected)
    for number, ids in zip(numbers, encoded, strict=True):
        assert [t - domain.graph.first_subword for t in table.name_tokens[number]] == ids


def test_equal_names_tie_where_the_paper_is_followed(build_domain: BuildDomain) -> None:
    domain = build_domain(TRIPLES, texts=HOMONYMS, collisions="tie")
    assert len(set(names(domain))) == 2
    table = domain.graph.entities
    assert (table.num_collisions, table.num_ties) == (4, 4)


@pytest.mark.parametrize("limit", [2, 3, 5, 8])
def test_names_cut_alike_are_told_apart_by_the_end_of_the_identifier(
    limit: int, build_domain: BuildDomain
) -> None:
    keys = [f"a_very_long_name_indeed_{letter}" for letter in "xyz"]
    domain = build_domain([(keys[0], "r", keys[1]), (keys[1], "r", keys[2])], max_name_tokens=limit)
    assert len(set(names(domain))) == 3
    assert all(len(name) <= limit for name in names(domain))


def test_an_entity_without_a_name_goes_by_its_identifier(build_domain: BuildDomain) -> None:
    domain = build_domain([("http://x.org/New_York#", "r", "b")], texts={"b": ("", "a town")})
    assert domain.graph.entities.names == ("b", "New York")


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("new_york_city", "new york city"), ("http://x.org/a/New_York", "New York"),
        ("http://x.org/voc#label", "label"), ("/m/06rf7", "06rf7"), ("__", "__"), ("/", "/"),
    ],
)  # fmt: skip
def test_an_identifier_is_spoken_as(identifier: str, name: str) -> None:
    assert spoken(identifier) == name


def test_entities_of_training_come_first_and_have_a_token_of_their_own(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain([("c", "r", "b")], texts={"a": ("Ann", ""), "b": ("Bob", "")})
    table = domain.graph.entities
    assert table.identifiers == ("b", "c", "a")
    first = domain.graph.first_entity
    assert table.id_tokens.tolist() == [first, first + 1, NO_TOKEN]
    assert domain.vocabulary.tokens[first] == "entity:b"


def test_validation_triples_name_candidates_but_teach_no_token_and_no_relation() -> None:
    from seqmlm.domain import Record

    domain = KnowledgeGraphDomain(vocabulary_size=256)
    rows = [("train", "a\tr\tb"), ("validation", "a\ts\tz"), ("entity", "y\tYves\t")]
    domain.fit_tokenizer([Record(part, row, "test", 1) for part, row in rows])
    assert domain.graph.entities.identifiers == ("a", "b", "z", "y")
    assert domain.graph.entities.id_tokens[2] == NO_TOKEN
    assert domain.graph.relations == ("r",)


def test_an_added_entity_of_a_known_name_is_told_apart(build_domain: BuildDomain) -> None:
    domain = build_domain([("a", "r", "b")], texts={"a": ("Ann", ""), "x": ("Ann", "a queen")})
    table = domain.graph.entities
    assert table.name_tokens[0].tolist() != table.name_tokens[2].tolist()
    assert table.num_collisions == 2
    assert table.num_ties == 0


def test_added_entities_change_nothing_that_existed(build_domain: BuildDomain) -> None:
    domain = build_domain(TRIPLES, texts=HOMONYMS)
    before = domain.graph
    after = before.with_entities({"hop": NameAndDescription("hop", "jump on one foot")})
    assert after.vocabulary.fingerprint() == before.vocabulary.fingerprint()
    size = len(before.entities)
    assert after.entities.identifiers == (*before.entities.identifiers, "hop")
    assert after.entities.id_tokens.tolist() == [*before.entities.id_tokens.tolist(), NO_TOKEN]
    for number in range(size):
        for kind in ("name_tokens", "description_tokens"):
            old, new = getattr(before.entities, kind), getattr(after.entities, kind)
            assert np.array_equal(old[number], new[number])


def test_an_entity_cannot_be_added_twice(build_domain: BuildDomain) -> None:
    domain = build_domain()
    with pytest.raises(DataError, match="'ann' exists already"):
        domain.graph.with_entities({"ann": NameAndDescription("Ann")})


@pytest.mark.parametrize("representation", ["tokens", "id", "both"])
def test_a_graph_survives_json(representation: str, build_domain: BuildDomain) -> None:
    domain = build_domain(TRIPLES, texts=HOMONYMS, entities=representation)
    graph = domain.graph.with_entities({"hop": NameAndDescription("hop", "jump")})
    again = type(graph).from_json(graph.to_json())
    assert again.to_json() == graph.to_json()
    assert again.vocabulary.fingerprint() == graph.vocabulary.fingerprint()
    assert np.array_equal(again.first_tokens(), graph.first_tokens())
    for number in range(len(graph.entities)):
        for kind in ("name_tokens", "description_tokens"):
            old, new = getattr(graph.entities, kind), getattr(again.entities, kind)
            assert np.array_equal(old[number], new[number])


def test_a_tokenizer_has_a_piece_for_every_string() -> None:
    tokenizer = NameTokenizer.train(["ab"], vocabulary_size=256, lowercase=True)
    text = "\u4f60\u597d \U0001f600 \u200b"
    assert all(ids for ids in tokenizer.encode([*text, "Ab"]))
    assert tokenizer.encode(["AB"]) == tokenizer.encode(["ab"])


def test_ragged_lists_are_joined() -> None:
    ragged = RaggedTokens.of([[1, 2], [], [3]]).joined(RaggedTokens.of([[], [4, 5]]))
    assert [ragged[i].tolist() for i in range(len(ragged))] == [[1, 2], [], [3], [], [4, 5]]
    assert ragged.lengths.tolist() == [2, 0, 1, 0, 2]


@pytest.mark.parametrize(
    "names", [["ANN"], ["Ann", "aNN"], ["ann", "Ann", "ANN"]], ids=lambda names: "-".join(names)
)
def test_added_names_that_differ_in_case_alone_are_told_apart(
    names: list[str], build_domain: BuildDomain
) -> None:
    """They were compared as strings, though case is dropped: such entities tied for ever."""
    domain = build_domain([("a", "r", "b")], texts={"a": ("Ann", "")})
    added = {f"x{number}": NameAndDescription(name) for number, name in enumerate(names)}
    table = domain.graph.with_entities(added).entities
    assert table.num_ties == 0
    assert table.num_collisions == 1 + len(names)


def test_added_names_that_are_cut_alike_are_told_apart(build_domain: BuildDomain) -> None:
    keys = [f"a_very_long_name_indeed_{letter}" for letter in "xyz"]
    domain = build_domain([(keys[0], "r", "b")], max_name_tokens=4)
    graph = domain.graph
    for key in keys[1:]:
        graph = graph.with_entities({key: NameAndDescription("")})
    assert graph.entities.num_ties == 0


def test_identifiers_that_read_alike_are_told_apart_by_a_number(build_domain: BuildDomain) -> None:
    graph = build_domain([("ann", "r", "b")]).graph
    for key in ("ANN", "Ann", "aNN"):
        graph = graph.with_entities({key: NameAndDescription("")})
    assert graph.entities.num_ties == 0
    assert build_domain([("ann", "r", "ANN"), ("Ann", "r", "aNN")]).graph.entities.num_ties == 0


def test_added_entities_that_tie_are_told(
    build_domain: BuildDomain, caplog: pytest.LogCaptureFixture
) -> None:
    graph = build_domain([("ann", "r", "b")], collisions="tie").graph
    assert graph.with_entities({"x": NameAndDescription("Ann")}).entities.num_ties == 2
    assert "2 entities have the same name as another to the model" in caplog.text
