from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.encoding import Encoding
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.entities import NO_TOKEN
from seqmlm_domains.kg.linearisation import Part, Slots

BuildDomain = Any
ENDS = ("ignore", "eos", "pad")
REPRESENTATIONS = ("tokens", "id", "both")
START, END, MASK, UNKNOWN = 2, 3, 4, 1
END_OF_NAME = 5

TEXTS = {
    "ann": ("Ann", "a woman of thirty years who has two sons"),
    "bob": ("Bob", "her elder son"),
    "dee": ("Dee", "whom no triple mentions"),
}


def encoded(
    domain: KnowledgeGraphDomain,
    head: str,
    relation: str,
    tail: str,
    missing: Part,
    **options: Any,
) -> Encoding:
    triple = (
        domain.number(head, Part.HEAD),
        domain.number(relation, Part.RELATION),
        domain.number(tail, Part.TAIL),
    )
    return domain.linearisation.encode(triple, missing, **{"max_length": 512} | options)


def unit_types(encoding: Encoding) -> list[int]:
    assert encoding.unit_types is not None
    return [int(kind) for kind in encoding.unit_types]


def name_of(domain: KnowledgeGraphDomain, entity: str) -> list[int]:
    """The tokens of a name, from the tokenizer itself."""
    graph = domain.graph
    ids = graph.tokenizer.encode([graph.entities.names[graph.entities.numbers[entity]]])[0]
    return [token + graph.first_subword for token in ids]


def own_token(domain: KnowledgeGraphDomain, entity: str) -> int:
    return domain.graph.first_entity + domain.graph.entities.numbers[entity]


WORDINGS = [("tokens", "text"), ("id", "own"), ("both", "own"), ("both", "text")]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(("representation", "wording"), WORDINGS)
def test_a_missing_tail_is_written_as(
    representation: str, wording: str, end: str, build_domain: BuildDomain
) -> None:
    domain = build_domain(entities=representation, end=end, max_name_tokens=12)
    encoding = encoded(domain, "ann", "parent_of", "bob", Part.TAIL, wording=wording)
    relation = domain.graph.first_relation + domain.graph.relation_numbers["parent_of"]
    spoken = domain.graph.tokenizer.encode(["parent of"])[0]
    spoken = [token + domain.graph.first_subword for token in spoken]
    has_own, has_name = representation != "tokens", representation != "id"
    known = [own_token(domain, "ann")] * has_own + name_of(domain, "ann") * has_name
    if wording == "own":
        num_slots, answer = 1, [own_token(domain, "bob")]
    else:
        num_slots, name = 12 + (end != "ignore"), name_of(domain, "bob")
        ends = {"ignore": 0, "eos": 1, "pad": 13 - len(name)}[end]
        answer = name + [END_OF_NAME] * ends
    slots = answer + [MASK] * (num_slots - len(answer))
    context = [START, *known, relation, *spoken * has_name]
    assert encoding.ids.tolist() == [*context, *slots, END]
    units = [-1] * len(context) + [0] * len(answer) + [-1] * (num_slots - len(answer) + 1)
    assert encoding.unit_ids.tolist() == units
    assert unit_types(encoding) == [Part.TAIL]
    segments = [0] * (1 + len(known)) + [1] * (1 + len(spoken) * has_name)
    assert encoding.segment_ids.tolist() == [*segments, *[2] * (num_slots + 1)]
    assert domain.linearisation.slot_start(encoding, Part.TAIL) == len(context)


def test_known_entities_are_their_own_tokens_alone_if_the_context_is(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(entities="both", context="own", texts=TEXTS, max_description_tokens=9)
    relation = domain.graph.first_relation + domain.graph.relation_numbers["parent_of"]
    encoding = encoded(domain, "ann", "parent_of", "bob", Part.TAIL)
    answer = own_token(domain, "bob")
    assert encoding.ids.tolist() == [START, own_token(domain, "ann"), relation, answer, END]


@pytest.mark.parametrize(("entity", "dropped"), [("ann", True), ("dee", False)])
def test_text_stands_for_an_entity_whose_own_token_is_dropped_or_missing(
    entity: str, dropped: bool, build_domain: BuildDomain
) -> None:
    domain = build_domain(entities="both", context="own", texts=TEXTS, max_description_tokens=2)
    encoding = encoded(domain, entity, "parent_of", "bob", Part.TAIL, drop_ids=(dropped, False))
    name = name_of(domain, entity)
    words = domain.graph.tokenizer.encode([TEXTS[entity][1]])[0][:2]
    described = [END, *(word + domain.graph.first_subword for word in words)]
    known = [UNKNOWN, *name, *described]
    assert encoding.ids[1 : 1 + len(known)].tolist() == known


def test_a_missing_head_has_its_slots_first(build_domain: BuildDomain) -> None:
    domain = build_domain(entities="both", end="eos")
    encoding = encoded(domain, "ann", "parent_of", "bob", Part.HEAD)
    assert domain.linearisation.slot_start(encoding, Part.HEAD) == 1
    assert encoding.ids[encoding.unit_ids == 0].tolist() == [own_token(domain, "ann")]
    encoding = encoded(domain, "ann", "parent_of", "bob", Part.HEAD, wording="text")
    assert domain.linearisation.slot_start(encoding, Part.HEAD) == 1
    answer = [*name_of(domain, "ann"), END_OF_NAME]
    assert encoding.ids[encoding.unit_ids == 0].tolist() == answer
    assert unit_types(encoding) == [Part.HEAD]


def test_a_missing_relation_is_one_token_and_its_name_is_not_written(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(entities="tokens")
    encoding = encoded(domain, "ann", "parent_of", "bob", Part.RELATION)
    relation = domain.graph.first_relation + domain.graph.relation_numbers["parent_of"]
    expected = [START, *name_of(domain, "ann"), relation, *name_of(domain, "bob"), END]
    assert encoding.ids.tolist() == expected
    assert encoding.ids[encoding.unit_ids == 0].tolist() == [relation]
    assert unit_types(encoding) == [Part.RELATION]


@pytest.mark.parametrize(("representation", "wording"), WORDINGS)
@pytest.mark.parametrize("missing", [Part.HEAD, Part.TAIL])
def test_nothing_but_the_hidden_unit_depends_on_the_missing_entity(
    representation: str, wording: str, missing: Part, build_domain: BuildDomain
) -> None:
    """Neither its length, nor its description, nor how many slots are left over."""
    domain = build_domain(
        entities=representation, end="eos", texts=TEXTS, max_description_tokens=20
    )
    seen = set()
    for entity in ("ann", "bob", "cy", "new_york_city", "dee"):
        ends = (entity, "bob") if missing == Part.HEAD else ("bob", entity)
        encoding = encoded(domain, ends[0], "parent_of", ends[1], missing, wording=wording)
        encoding.ids[encoding.unit_ids >= 0] = MASK
        seen.add((tuple(encoding.ids.tolist()), tuple(encoding.segment_ids.tolist())))
    assert len(seen) == 1


def test_a_description_follows_the_name_of_a_known_entity_up_to_its_limit(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(entities="tokens", texts=TEXTS, max_description_tokens=3)
    encoding = encoded(domain, "ann", "parent_of", "bob", Part.TAIL)
    words = domain.graph.tokenizer.encode([TEXTS["ann"][1]])[0][:3]
    described = [*name_of(domain, "ann"), END, *(w + domain.graph.first_subword for w in words)]
    assert encoding.ids[1 : 1 + len(described)].tolist() == described


@pytest.mark.parametrize("missing", list(Part))
@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_the_length_limit_is_kept_while_a_token_of_each_part_is_left(
    representation: str, missing: Part, build_domain: BuildDomain
) -> None:
    domain = build_domain(entities=representation, texts=TEXTS, max_description_tokens=30)
    whole = encoded(domain, "ann", "parent_of", "bob", missing)
    slots = domain.linearisation.slots
    slots = 1 if missing == Part.RELATION else len(slots.of_wording(slots.wordings[0]))
    for limit in range(slots + 4, len(whole) + 2):
        encoding = encoded(domain, "ann", "parent_of", "bob", missing, max_length=limit)
        assert len(encoding) == min(limit, len(whole))
        assert set(encoding.segment_ids.tolist()) == {0, 1, 2}
        hidden = whole.ids[whole.unit_ids == 0]
        assert np.array_equal(encoding.ids[encoding.unit_ids == 0], hidden)


def test_within_an_entity_the_description_gives_way_before_the_name(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(entities="both", texts=TEXTS, max_description_tokens=30)
    whole = encoded(domain, "ann", "parent_of", "bob", Part.TAIL)
    described = min(30, len(domain.graph.tokenizer.encode([TEXTS["ann"][1]])[0]))
    limit = len(whole) - described - 1
    encoding = encoded(domain, "ann", "parent_of", "bob", Part.TAIL, max_length=limit)
    known = [own_token(domain, "ann"), *name_of(domain, "ann")]
    assert encoding.ids[1 : 1 + len(known)].tolist() == known


def test_an_entity_without_a_token_is_the_unknown_one_as_context(build_domain: BuildDomain) -> None:
    domain = build_domain(entities="both", texts=TEXTS)
    assert domain.graph.entities.id_tokens[domain.graph.entities.numbers["dee"]] == NO_TOKEN
    encoding = encoded(domain, "dee", "parent_of", "bob", Part.TAIL)
    assert encoding.ids[1] == UNKNOWN
    assert encoding.ids[2 : 2 + len(name_of(domain, "dee"))].tolist() == name_of(domain, "dee")


def test_an_entity_without_a_token_is_asked_for_by_its_text_alone(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(entities="both", end="ignore", texts=TEXTS)
    encoding = encoded(domain, "bob", "parent_of", "dee", Part.TAIL, wording="text")
    assert encoding.ids[encoding.unit_ids == 0].tolist() == name_of(domain, "dee")
    encoding = encoded(domain, "bob", "parent_of", "dee", Part.TAIL, wording="own")
    assert encoding.ids[domain.linearisation.slot_start(encoding, Part.TAIL)] == MASK
    assert (encoding.unit_ids == -1).all()


def test_dropping_an_id_hides_the_known_entity_and_never_the_answer(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(entities="both")
    encoding = encoded(domain, "ann", "parent_of", "bob", Part.TAIL, drop_ids=(True, True))
    assert encoding.ids[1] == UNKNOWN
    assert own_token(domain, "bob") in encoding.ids[encoding.unit_ids == 0]


@given(
    representation=st.sampled_from(REPRESENTATIONS),
    end=st.sampled_from(ENDS),
    size=st.integers(2, 6),
    id_token=st.sampled_from([NO_TOKEN, 7]),
    data=st.data(),
)
def test_targets_fit_into_the_slots(
    representation: Any, end: Any, size: int, id_token: int, data: st.DataObject
) -> None:
    slots = Slots(representation, end, name=size + (end != "ignore"), end_token=END_OF_NAME)
    length = data.draw(st.integers(1, size))
    name = np.arange(100, 100 + length, dtype=np.int32)
    places, ids = slots.targets(id_token, name)
    assert (np.diff(places) > 0).all()
    assert len(places) == len(ids) <= slots.total
    assert ((places >= 0) & (places < slots.total)).all()
    if end == "pad" and representation != "id":
        assert len(places) == slots.name + (slots.own and id_token != NO_TOKEN)


def test_descriptions_give_way_before_any_name(build_domain: BuildDomain) -> None:
    """The longest part was cut, be it a long name beside a short described one."""
    texts = {"a": ("alpha", "w w w w w w"), "b": ("a name of many long words indeed", "")}
    domain = build_domain(
        [("a", "r", "b")], texts=texts, entities="tokens", max_description_tokens=6,
        max_name_tokens=40,
    )  # fmt: skip
    whole = encoded(domain, "a", "r", "b", Part.RELATION)
    cut = encoded(domain, "a", "r", "b", Part.RELATION, max_length=len(whole) - 7)
    relation = domain.graph.first_relation
    assert cut.ids.tolist() == [
        START, *name_of(domain, "a"), relation, *name_of(domain, "b"), END,
    ]  # fmt: skip
