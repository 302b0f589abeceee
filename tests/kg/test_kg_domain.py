from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmlm.data.report import ReadReport
from seqmlm.data.store import StoreWriter, TokenStore
from seqmlm.domain import Record, build_domain
from seqmlm.errors import CheckpointError, ConfigError, DataError
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.linearisation import Part

BuildDomain = Any
FAMILY = (
    ("ann", "parent_of", "bob"),
    ("ann", "parent_of", "cy"),
    ("bob", "child_of", "ann"),
    ("cy", "sibling_of", "bob"),
    ("new_york_city", "part_of", "new_york"),
)


def record(part: str, *fields: str, number: int = 1) -> Record:
    return Record(part, "\t".join(fields), "graph.tsv", number)


def store_of(domain: KnowledgeGraphDomain, records: Sequence[Record], folder: Path) -> TokenStore:
    report = ReadReport(read=len(records))
    block = domain.tokenize(records, report)
    with StoreWriter(folder, token_dtype=domain.token_dtype) as writer:
        writer.append([item.name for item in records], block.tokens, block.lengths)
        writer.finish(report=report, made_from={}, version="0")
    return TokenStore(folder)


@pytest.mark.parametrize("triple", FAMILY, ids=" ".join)
@pytest.mark.parametrize(
    ("entities", "end"),
    list(itertools.product(("tokens", "id", "both"), ("ignore", "eos", "pad"))),
)
def test_a_triple_survives_encoding_and_decoding(
    triple: tuple[str, str, str], entities: str, end: str, build_domain: BuildDomain
) -> None:
    domain = build_domain(entities=entities, end=end)
    numbers = tuple(domain.number(triple[part], part) for part in Part)
    for missing in Part:
        encoding = domain.linearisation.encode(numbers, missing, max_length=512)
        assert domain.decode(encoding.ids.tolist()) == "\t".join(triple)


@pytest.mark.parametrize("missing", list(Part))
@pytest.mark.parametrize("entities", ["tokens", "id", "both"])
def test_a_query_is_typed_with_a_mask_for_the_missing_part(
    missing: Part, entities: str, build_domain: BuildDomain
) -> None:
    domain = build_domain(entities=entities)
    fields = ["ann", "parent_of", "bob"]
    fields[missing] = "[MASK]"
    encoding = domain.parse("\t".join(fields))
    slots = domain.linearisation.slots
    number = 1 if missing == Part.RELATION else len(slots.of_wording(slots.wordings[0]))
    assert (encoding.ids == domain.vocabulary.special.mask).sum() == number
    assert (encoding.unit_ids == -1).all()
    assert domain.decode(encoding.ids.tolist()) == "\t".join(fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann\tparent_of", "head TAB relation TAB tail"),
        ("[MASK]\tparent_of\t[MASK]", "at most one part may be"),
        ("anne\tparent_of\tbob", "no entity 'anne'.* Did you mean 'ann'"),
        ("ann\tparent_off\tbob", "no relation 'parent_off'.* Did you mean 'parent_of'"),
    ],
)
def test_a_query_that_cannot_be_asked_is_refused(
    text: str, message: str, build_domain: BuildDomain
) -> None:
    with pytest.raises(DataError, match=message):
        build_domain().parse(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entities": "names"}, "domain.entities = 'names': it is one of tokens, id, both"),
        ({"end": "stop"}, "domain.end = 'stop'"),
        ({"collisions": "drop"}, "domain.collisions = 'drop'"),
        ({"id_dropout": 1.0}, r"domain.id_dropout = 1.0: it is a share in \[0, 1\)"),
        ({"text_share": -0.1}, r"domain.text_share = -0.1: it is a share in \[0, 1\]"),
        ({"relation_share": 1.5}, "domain.relation_share = 1.5"),
        ({"max_name_tokens": 1}, "domain.max_name_tokens = 1"),
        ({"max_description_tokens": -1}, "domain.max_description_tokens = -1"),
    ],
)
def test_an_option_outside_its_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_domain({"name": "kg"} | options)


def test_triples_become_three_numbers_and_texts_none(build_domain: BuildDomain) -> None:
    domain = build_domain()
    report = ReadReport(read=3)
    block = domain.tokenize(
        [
            record("entity", "ann", "Ann", ""),
            record("train", "ann", "parent_of", "bob"),
            record("validation", "ann", "aunt_of", "bob"),
            record("validation", "zoe", "parent_of", "bob", number=9),
        ],
        report,
    )
    assert block.lengths.tolist() == [0, 3, 0, 0]
    relations = len(domain.graph.relations)
    numbers = domain.graph.entities.numbers
    expected = [
        relations + numbers["ann"],
        domain.graph.relation_numbers["parent_of"],
        relations + numbers["bob"],
    ]
    assert block.tokens.tolist() == expected
    assert report.dropped == {
        "relation without a training triple": 1,
        "entity without a triple": 1,
    }
    assert report.examples["entity without a triple"] == ["graph.tsv, record 9 (validation)"]


def test_the_missing_part_and_the_dropped_ids_are_drawn_as_often_as_set(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(relation_share=0.2, id_dropout=0.3)
    tokens = domain.tokenize([record("train", *FAMILY[0])], ReadReport(read=1)).tokens
    generator = np.random.default_rng(0)
    drawn = [domain.assemble(tokens, max_length=64, generator=generator) for _ in range(4000)]
    parts = np.bincount([int(encoding.unit_types[0]) for encoding in drawn], minlength=3) / 4000
    assert parts == pytest.approx([0.4, 0.2, 0.4], abs=0.03)
    unknown = domain.vocabulary.special.unknown
    tails = [encoding for encoding in drawn if encoding.unit_types[0] == Part.TAIL]
    assert np.mean([encoding.ids[1] == unknown for encoding in tails]) == pytest.approx(
        0.3, abs=0.04
    )


def test_the_text_of_a_missing_entity_is_asked_for_as_often_as_set(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(entities="both", relation_share=0.0, text_share=0.25)
    tokens = domain.tokenize([record("train", *FAMILY[0])], ReadReport(read=1)).tokens
    generator = np.random.default_rng(0)
    drawn = [domain.assemble(tokens, max_length=64, generator=generator) for _ in range(2000)]
    graph = domain.graph
    asked = [encoding.ids[encoding.unit_ids == 0].tolist() for encoding in drawn]
    own = [graph.first_entity <= ids[0] < graph.first_subword for ids in asked]
    assert np.mean(own) == pytest.approx(0.75, abs=0.03)
    assert all(len(ids) == 1 for ids, is_own in zip(asked, own, strict=True) if is_own)
    names = {
        (*graph.entities.name_tokens[graph.entities.numbers[entity]].tolist(), graph.end_token)
        for entity in (FAMILY[0][0], FAMILY[0][2])
    }
    assert {tuple(ids) for ids, is_own in zip(asked, own, strict=True) if not is_own} == names


def test_a_validation_answer_without_an_own_token_is_asked_for_by_its_text(
    build_domain: BuildDomain,
) -> None:
    domain = build_domain(entities="both", texts={"dee": ("Dee", "")}, text_share=0.0)
    tokens = domain.tokenize([record("validation", "ann", "parent_of", "dee")], ReadReport(read=1))
    encoding = domain.assemble(tokens.tokens, max_length=64)
    name = domain.graph.entities.name_tokens[domain.graph.entities.numbers["dee"]].tolist()
    assert encoding.ids[encoding.unit_ids == 0].tolist() == [*name, domain.graph.end_token]


@pytest.mark.parametrize("entities", ["tokens", "id", "both"])
def test_no_sequence_is_longer_than_announced(entities: str, build_domain: BuildDomain) -> None:
    texts = {"ann": ("Ann", "who has a long description of many words, and two sons")}
    domain = build_domain(entities=entities, texts=texts, max_description_tokens=30)
    generator = np.random.default_rng(0)
    for triple in FAMILY:
        tokens = domain.tokenize([record("train", *triple)], ReadReport(read=1)).tokens
        limit = 3 + domain.special_tokens_per_sequence
        for _ in range(20):
            encoding = domain.assemble(tokens, max_length=limit, generator=generator)
            assert len(encoding) <= limit
            assert (encoding.unit_ids >= 0).any()


DESCRIBED = (
    record("entity", "ann", "Ann", "a woman of thirty years who has two sons"),
    record("relation", "parent_of", "parent of", "whose child somebody is"),
    *(record("train", *triple) for triple in FAMILY),
)


@pytest.mark.parametrize("context", ["own", "both"])
@pytest.mark.parametrize("entities", ["tokens", "id", "both"])
def test_a_record_is_as_long_as_its_longest_question(
    entities: Any, context: Any, tmp_path: Path
) -> None:
    """Every triple was reported as cut where descriptions might have been shown but were not."""
    domain = KnowledgeGraphDomain(
        entities=entities, context=context, max_description_tokens=6, vocabulary_size=300
    )
    domain.fit_tokenizer(DESCRIBED)
    store = store_of(domain, DESCRIBED, tmp_path)
    written: Any = domain.linearisation
    longest = [
        max(
            len(written.encode(triple, part, max_length=512, drop_ids=drop, wording=wording))
            for part, wording, drop in itertools.product(
                Part, written.slots.wordings, itertools.product((False, True), repeat=2)
            )
        )
        for triple in (
            tuple(domain.number(triple[part], part) for part in Part) for triple in FAMILY
        )
    ]
    assert domain.uncut_lengths(store).tolist() == [0, 0, *longest]


@pytest.mark.parametrize("most", [0, 3])
def test_the_description_of_a_relation_follows_its_name(most: int) -> None:
    """It was read and never used."""
    domain = KnowledgeGraphDomain(max_description_tokens=most, vocabulary_size=300)
    domain.fit_tokenizer(DESCRIBED)
    encoding = domain.parse("bob\tparent_of\tcy")
    graph = domain.graph
    name, words = (
        [token + graph.first_subword for token in graph.tokenizer.encode([text])[0]]
        for text in ("parent of", "whose child somebody is")
    )
    own = graph.first_relation + graph.relation_numbers["parent_of"]
    described = [domain.vocabulary.special.end, *words[:most]] if most else []
    written = encoding.ids[encoding.segment_ids == Part.RELATION].tolist()
    assert written == [own, *name, *described]
    assert domain.decode(encoding.ids.tolist()) == "bob\tparent_of\tcy"


def test_the_validation_file_is_what_is_held_out(build_domain: BuildDomain, tmp_path: Path) -> None:
    domain = build_domain()
    records = [
        record("entity", "ann", "Ann", ""),
        *(record("train", *triple) for triple in FAMILY),
        record("validation", "bob", "sibling_of", "cy"),
    ]
    held_out = domain.held_out(store_of(domain, records, tmp_path))
    assert held_out is not None
    assert held_out.tolist() == [False] * 6 + [True]


def test_without_a_validation_file_the_data_leaves_the_split_open(
    build_domain: BuildDomain, tmp_path: Path
) -> None:
    domain = build_domain()
    records = [record("train", *triple) for triple in FAMILY]
    assert domain.held_out(store_of(domain, records, tmp_path)) is None


def test_triples_between_two_entities_stay_together(
    build_domain: BuildDomain, tmp_path: Path
) -> None:
    domain = build_domain()
    records = [record("entity", "ann", "Ann", "")]
    records += [record("train", *triple) for triple in FAMILY]
    groups = domain.similarity_groups(store_of(domain, records, tmp_path))
    assert groups[0] == -1
    assert groups[1] == groups[3]  # ann parent_of bob, bob child_of ann
    assert len(set(groups[1:].tolist())) == 4


@pytest.mark.parametrize(
    "triples",
    [[("a", "r", "a")], [("a", "r", "b")], [("a", "r", "b"), ("a", "s", "a")]],
    ids=["one entity", "one triple", "two relations"],
)
@pytest.mark.parametrize("entities", ["tokens", "id", "both"])
def test_the_smallest_graphs_can_be_written(
    triples: list[tuple[str, str, str]], entities: str, build_domain: BuildDomain
) -> None:
    domain = build_domain(triples, entities=entities)
    for triple in triples:
        assert domain.decode(domain.parse("\t".join(triple)).ids.tolist()) == "\t".join(triple)


@pytest.mark.parametrize("content", [None, "{", '{"name": "kg"}', "[]"])
def test_a_damaged_graph_file_is_refused(
    content: str | None, build_domain: BuildDomain, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "graph.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"graph\.json cannot be read"):
        build_domain().load_tokenizer(tmp_path)


def test_a_tail_whose_name_begins_with_the_relation_is_decoded_whole(
    build_domain: BuildDomain,
) -> None:
    """Its first words were taken for the relation's, which is not written while it is hidden."""
    triples = [("x", "part", "part_of_speech"), ("of_speech", "part", "x")]
    domain = build_domain(triples, entities="tokens")
    numbers = tuple(domain.number(triples[0][part], part) for part in Part)
    encoding = domain.linearisation.encode(numbers, Part.RELATION, max_length=64)
    assert domain.decode(encoding.ids.tolist()) == "x\tpart\tpart_of_speech"
