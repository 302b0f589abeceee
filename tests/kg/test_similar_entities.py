"""Entities replaced by entities that fill the same side of the same relation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from seqmlm.config import configure
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.policy import MaskingPolicy
from seqmlm.masking.same_type import same_type_units
from seqmlm.training.distributed import processes
from seqmlm.training.workload import prepare_workload
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.linearisation import Part

BuildDomain = Callable[..., KnowledgeGraphDomain]
ChiSquare = Callable[[npt.ArrayLike, npt.ArrayLike], float]
TRIPLES = (
    ("ann", "owns", "cat"),
    ("bob", "owns", "dog"),
    ("cy", "owns", "hen"),
    ("ann", "owns", "owl"),
    ("ann", "likes", "bob"),
    ("owl", "eats", "mouse"),
)
POLICY: dict[str, Any] = {
    "rate": 1.0,
    "selector": {"name": "group", "types": [int(part) for part in Part]},
    "corruptor": {"name": "similar", "table": "type", "similar": 1.0, "random": 0.0, "keep": 0.0},
}


def numbers_of(domain: KnowledgeGraphDomain, triple: tuple[str, str, str]) -> tuple[int, int, int]:
    head, relation, tail = (domain.number(triple[part], part) for part in Part)
    return head, relation, tail


def stored(domain: KnowledgeGraphDomain) -> list[npt.NDArray[np.uint32]]:
    first = len(domain.graph.relations)
    triples = (numbers_of(domain, triple) for triple in TRIPLES)
    return [
        np.array([first + head, relation, first + tail], np.uint32)
        for head, relation, tail in triples
    ]


def replaced(
    domain: KnowledgeGraphDomain, triple: tuple[str, str, str], missing: Part
) -> tuple[Counter[str], int]:
    """Triples after hiding a part 300 times, and the tokens that had no candidate."""
    policy = MaskingPolicy.from_settings(POLICY, where="policy")
    policy.fit(domain, stored(domain))
    encoding = domain.linearisation.encode(numbers_of(domain, triple), missing, max_length=64)
    found: Counter[str] = Counter()
    without = 0
    for seed in range(300):
        masked = policy.apply(
            encoding,
            vocabulary=domain.vocabulary,
            token_range=domain.vocabulary.ranges[domain.name],
            generator=np.random.default_rng(seed),
        )
        without += masked.counts.without_candidate
        if not masked.counts.without_candidate:
            found[domain.decode(masked.ids.tolist()).split("\t")[missing]] += 1
    return found, without


@pytest.mark.parametrize(
    ("triple", "missing", "expected"),
    [
        (("ann", "owns", "cat"), Part.TAIL, {"dog", "hen", "owl"}),
        (("ann", "owns", "cat"), Part.HEAD, {"bob", "cy"}),
        (("owl", "eats", "mouse"), Part.RELATION, {"owns", "likes"}),
    ],
    ids=["tail", "head", "relation"],
)
def test_an_entity_becomes_one_that_fills_the_same_slot(
    build_domain: BuildDomain,
    chi_square_p: ChiSquare,
    triple: tuple[str, str, str],
    missing: Part,
    expected: set[str],
) -> None:
    found, without = replaced(build_domain(TRIPLES, entities="id"), triple, missing)
    assert without == 0
    assert found.keys() == expected
    assert chi_square_p(list(found.values()), [300 / len(expected)] * len(expected)) > 1e-3


def test_an_entity_alone_in_its_slot_is_counted(build_domain: BuildDomain) -> None:
    domain = build_domain(TRIPLES, entities="id")
    found, without = replaced(domain, ("owl", "eats", "mouse"), Part.TAIL)
    assert not found
    assert without == 300


@pytest.mark.parametrize("entities", ["tokens", "id", "both"])
def test_entities_are_known_as_they_are_written_when_missing(
    build_domain: BuildDomain, entities: str
) -> None:
    """In every wording, the unit of a missing entity is one of those of its type."""
    domain = build_domain(TRIPLES, entities=entities)
    units = same_type_units(domain, stored(domain))
    for triple in TRIPLES:
        numbers = numbers_of(domain, triple)
        for missing in Part:
            for wording in domain.linearisation.slots.wordings:
                encoding = domain.linearisation.encode(
                    numbers, missing, max_length=64, wording=wording
                )
                unit = tuple(encoding.ids[encoding.unit_ids == 0].tolist())
                (unit_type,) = domain.types_of_units().of(encoding)
                assert unit in units.members[unit_type, len(unit)]


def test_same_type_entities_are_chosen_from_the_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    corruptor = '{name = "similar", table = "type", similar = 0.5, random = 0.0, keep = 0.5}'
    listed = f'[{{name = "mlm", policy = {{rate = 1.0, corruptor = {corruptor}}}}}]'
    config = configure(domain="kg", overrides=[f"objectives={listed}", "training.device=cpu"])
    with processes("cpu") as group:
        made = prepare_workload(config, group).batches(epoch=0, batch=0, step=0)
        masking = [batch.micro_batches[0].targets["mlm"].masking for batch in islice(made, 2)]
        made.close()
    for counts in masking:
        assert counts is not None
        assert counts.masked == 0
        assert counts.replaced > 0


@pytest.mark.parametrize("entities", ["tokens", "id", "both"])
def test_a_lexicon_swaps_entities_and_relations(
    build_domain: BuildDomain, entities: str, tmp_path: Path
) -> None:
    """By identifier, in every wording of an entity."""
    domain = build_domain(TRIPLES, entities=entities)
    lexicon = tmp_path / "lexicon.tsv"
    lexicon.write_text("cat\tdog\nowns\tlikes\n")
    corruptor = {"name": "counterfactual", "lexicon": str(lexicon)}
    policy = MaskingPolicy.from_settings(POLICY | {"corruptor": corruptor}, where="policy")
    policy.fit(domain, stored(domain))
    line = domain.linearisation

    def seen(part: Part, *triples: tuple[str, str, str], wording: Any = None) -> list[list[int]]:
        encodings = [
            line.encode(numbers_of(domain, triple), part, max_length=64, wording=wording)
            for triple in triples
        ]
        masked = policy.apply(
            encodings[0],
            vocabulary=domain.vocabulary,
            token_range=domain.vocabulary.ranges[domain.name],
            generator=np.random.default_rng(0),
        )
        return [masked.ids.tolist(), *(each.ids.tolist() for each in encodings)]

    cat, dog = ("ann", "owns", "cat"), ("ann", "owns", "dog")
    for wording in line.slots.wordings:
        found, given, partner = seen(Part.TAIL, cat, dog, wording=wording)
        mask = domain.vocabulary.special.mask  # in the slots left over
        assert found == (partner if given.count(mask) == partner.count(mask) else given)
    found, _, partner = seen(Part.RELATION, cat, ("ann", "likes", "cat"))
    assert found == partner


def test_a_lexicon_with_an_unknown_entity_is_explained(
    build_domain: BuildDomain, tmp_path: Path
) -> None:
    lexicon = tmp_path / "lexicon.tsv"
    lexicon.write_text("cat\tdoog\n")
    corruptor = {"name": "counterfactual", "lexicon": str(lexicon)}
    policy = MaskingPolicy.from_settings(POLICY | {"corruptor": corruptor}, where="policy")
    with pytest.raises(DataError, match=r"tsv:1: There is no entity or relation 'doog' .*'dog'"):
        policy.fit(build_domain(TRIPLES), [])


def test_the_default_table_names_what_works_in_a_graph(build_domain: BuildDomain) -> None:
    policy = MaskingPolicy.from_settings(
        POLICY | {"corruptor": {"name": "similar"}}, where="policy"
    )
    with pytest.raises(ConfigError, match=r"table = 'type' \(units of the same type, in graphs"):
        policy.fit(build_domain(TRIPLES), [])
