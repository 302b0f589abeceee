from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmlm.data.report import ReadReport
from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.graph_folder import GraphFolder, entity_texts, relation_texts
from seqmlm_domains.kg.reader import read_graph
from seqmlm_domains.kg.triples import NameAndDescription, read_texts, read_triples

Written = Any
RDFS = "http://www.w3.org/2000/01/rdf-schema#"
SKOS = "http://www.w3.org/2004/02/skos/core#"


def keys(path: Path, report: ReadReport | None = None) -> list[tuple[str, str, str]]:
    return [triple.key for triple in read_triples(path, report or ReadReport())]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("g.tsv", "a\tr\tb\nc d\tr\te, f\n"),
        ("g.txt", "\ufeffa\tr\tb\r\n\r\n c d \tr\te, f"),
        ("g.tsv.gz", gzip.compress(b"a\tr\tb\nc d\tr\te, f\n", mtime=0)),
        ("g.csv", 'a,r,b\nc d,r,"e, f"\n'),
    ],
)
def test_triples_are_read_from(name: str, content: str | bytes, written: Written) -> None:
    assert keys(written({name: content}) / name) == [("a", "r", "b"), ("c d", "r", "e, f")]


def test_a_header_is_left_out_and_noted(written: Written) -> None:
    """Single letters may be names: what is left out silently could have been a triple."""
    report = ReadReport()
    path = written({"g.tsv": "h\tr\tt\na\tr\tb\nh\tr\tt\n"}) / "g.tsv"
    assert keys(path, report) == [("a", "r", "b"), ("h", "r", "t")]
    assert report.notes == {"first line is a header, not a triple": 1}


def test_duplicates_and_empty_fields_are_counted_with_their_lines(written: Written) -> None:
    """A line of tabs alone was taken for an empty one and not counted."""
    path = written({"g.tsv": "a\tr\tb\na\t\tb\na\tr\tb\n\tr\tb\n\t\t\n"}) / "g.tsv"
    report = ReadReport()
    assert keys(path, report) == [("a", "r", "b")]
    assert (report.read, report.used) == (5, 1)
    assert report.dropped == {"empty field": 3, "duplicate triple": 1}
    assert report.examples["duplicate triple"] == [f"{path}, line 3"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("g.tsv", b"a\tr\tb\na\tr\n", "line 2: 2 columns; a triple has 3"),
        ("g.tsv", b"a r b\n", "line 1: 1 column; a triple has 3"),
        ("g.tsv", b"a\tr\tb\tc\n", "line 1: 4 columns"),
        ("g.csv", b"a,r\n", "line 1: 2 columns"),
        ("g.csv", b'a,r,"b\n', "line 1: not valid CSV"),
        ("g.csv", b'a,r,"b\tc"\n', r"line 1: 'b\\tc' holds a tab or line break"),
        ("g.csv", b'a,r,"b\nc"\n', "holds a tab or line break"),
        ("g.tsv", b"a\tr\t\xff\n", "line 1: not UTF-8 at byte offset 4"),
        ("g.tsv", b"a\tr\tb\n\xc3\xa9\tr\t\xff\n", "line 2: not UTF-8 at byte offset 11"),
        ("g.tsv", b"a\tr\tb\n\t\n", "line 2: 2 columns"),
        ("g.tsv", "a\tr\tb\n".encode("utf-16"), "UTF-16"),
        ("g.nt", b"<a> <r> <b> .\n<a> <r>\n", "line 2: not an N-Triples statement"),
        ("g.ttl", b"@prefix x: <urn:x> .\nx:a x:r\n", r"line \d: not valid Turtle"),
        ("g.ttl", b"<a\\u0009> <r> <b> .", "holds a tab or line break"),
        ("g.ttl", b"@base <urn:x> . <a> <r> <b> .", "not valid RDF"),
        ("g.rdf", b"<rdf><unclosed></rdf>", "line 1: not valid XML"),
        ("g.rdf", b'<!DOCTYPE r [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><r>&b;</r>', "Expand them"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    name: str, content: bytes, message: str, written: Written
) -> None:
    path = written({name: content}) / name
    with pytest.raises(DataError, match=message) as caught:
        keys(path)
    assert str(path) in str(caught.value)


def test_relative_iris_stay_as_written_without_a_base(written: Written) -> None:
    path = written({"g.ttl": "<ann> <likes> <bob> ."}) / "g.ttl"
    assert keys(path) == [("ann", "likes", "bob")]


def test_namespaces_may_be_entities_of_the_dtd(written: Written) -> None:
    """As ontology editors write them."""
    xml = """<!DOCTYPE rdf:RDF [<!ENTITY x "http://x/">]>
      <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:x="http://x/">
      <rdf:Description rdf:about="&x;a"><x:r rdf:resource="&x;b"/></rdf:Description></rdf:RDF>"""
    path = written({"g.owl": xml}) / "g.owl"
    assert keys(path) == [("http://x/a", "http://x/r", "http://x/b")]


def test_turtle_without_rdflib_says_what_to_install(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rdflib", None)
    path = written({"g.ttl": "<a> <r> <b> ."}) / "g.ttl"
    with pytest.raises(ConfigError, match=r"need rdflib: pip install 'seqmlm\[kg\]'"):
        keys(path)


def test_literals_of_n_triples_are_counted_but_for_texts(written: Written) -> None:
    path = (
        written(
            {"g.nt": f'# people\n\n<a> <r> <b> .\n<a> <age> "7" .\n<a> <{RDFS}label> "Ann" .\n'}
        )
        / "g.nt"
    )
    report = ReadReport()
    assert keys(path, report) == [("a", "r", "b")]
    assert report.dropped == {"object is a literal, not an entity": 1}
    assert report.notes == {"label or comment taken as a text": 1}
    assert (report.read, report.used) == (2, 1)


LABELLED = f"""<a> <r> <b> .
<a> <{RDFS}label> "Anna"@de .
<a> <{RDFS}label> "Ann"@en .
<a> <{SKOS}prefLabel> "Ann Lee"@en .
<a> <{RDFS}comment> "a person" .
<r> <{RDFS}label> "likes" .
<c> <{RDFS}label> "alone" .
"""


def test_labels_are_texts_of_entities_and_relations(written: Written) -> None:
    folder = GraphFolder.find(written({"train.nt": LABELLED}))
    assert entity_texts(folder) == {
        "a": NameAndDescription("Ann Lee", "a person"),
        "c": NameAndDescription("alone"),
    }
    assert relation_texts(folder) == {"r": NameAndDescription("likes")}


def test_turtle_and_xml_say_the_same_as_n_triples(written: Written) -> None:
    turtle = f"""@prefix rdfs: <{RDFS}> . @prefix skos: <{SKOS}> . @base <http://x/> .
    <a> <r> <b> ; rdfs:label "Anna"@de, "Ann"@en ; skos:prefLabel "Ann Lee"@en .
    <b> <r> [ <r> <a> ] ."""
    xml = f"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
      xmlns:rdfs="{RDFS}" xmlns:x="http://x/"><rdf:Description rdf:about="http://x/a">
      <x:r rdf:resource="http://x/b"/><rdfs:label>Ann Lee</rdfs:label></rdf:Description>
      </rdf:RDF>"""
    folder = written({"g.ttl": turtle, "g.rdf": xml})
    expected = ("http://x/a", "http://x/r", "http://x/b")
    found = keys(folder / "g.ttl")
    blank = min(head for head, _, _ in found)
    assert re.fullmatch(r"_:g-[0-9a-f]{8}-b0", blank)
    assert sorted(found) == [
        (blank, "http://x/r", "http://x/a"), expected, ("http://x/b", "http://x/r", blank),
    ]  # fmt: skip
    assert found == keys(folder / "g.ttl")
    assert keys(folder / "g.rdf") == [expected]
    for name in ("g.ttl", "g.rdf"):
        assert read_texts(folder / name)["http://x/a"] == NameAndDescription("Ann Lee")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.tsv", "id\tlabel\tdescription\na\tAnn\ta person\nb\t\t\n"),
        ("e.csv", 'definition,entity,name\na person,a,Ann\n"",b,\n'),
        ("e.txt", "a\tAnn\ta person\nb\t\n"),
        ("e.json", '{"a": {"label": "Ann", "description": "a person"}, "b": {"label": null}}'),
        ("e.nt", f'<a> <{RDFS}label> "Ann" .\n<a> <{RDFS}comment> "a person" .\n'),
    ],
)
def test_texts_are_read_from(name: str, content: str, written: Written) -> None:
    """JSON was read in a way that the opened file does not have, and always refused."""
    texts = read_texts(written({name: content}) / name)
    assert texts["a"] == NameAndDescription("Ann", "a person")
    assert texts.get("b", NameAndDescription("")) == NameAndDescription("")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.tsv", "a\n", "line 1: 1 column"),
        ("e.tsv", "a\tAnn\n\tBob\n", "line 2: no identifier"),
        ("e.tsv", "a\tAnn\na\tAnne\n", "line 2: 'a' has a text already"),
        ("e.json", "{", "not valid JSON"),
        ("e.json", '{"a": "Ann"}', "must map identifiers to objects"),
        ("e.json", '{"a\\tb": {"label": "x"}}', "holds a tab"),
    ],
)
def test_malformed_texts_are_refused(
    name: str, content: str, message: str, written: Written
) -> None:
    with pytest.raises(DataError, match=message):
        read_texts(written({name: content}) / name)


def test_a_folder_as_kg_bert_lays_it_out_is_understood(written: Written) -> None:
    folder = GraphFolder.find(
        written(
            {
                "train.tsv": "a\tr\tb\n", "dev.tsv": "b\tr\ta\n", "test.tsv": "a\tr\ta\n",
                "entities.txt": "a\nb\n", "entity2text.txt": "a\tAnn\nb\tBob\n",
                "entity2textlong.txt": "a\tAnn is a person.\n", "relation2text.txt": "r\tlikes\n",
                "valid_negatives.txt": "b\tr\tb\n",
            }
        )
    )  # fmt: skip
    assert {part: path.name for part, path in folder.parts.items()} == {
        "train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv",
    }  # fmt: skip
    assert entity_texts(folder) == {
        "a": NameAndDescription("Ann", "Ann is a person."),
        "b": NameAndDescription("Bob"),
    }
    assert relation_texts(folder) == {"r": NameAndDescription("likes")}


def test_a_table_of_entities_goes_before_the_texts_of_kg_bert(written: Written) -> None:
    """WN18RR has both, and could not be read."""
    folder = written(
        {
            "train.tsv": "a\tr\tb\n",
            "entities.tsv": "id\tname\na\tAnn\n",
            "entity2text.txt": "a\tX\n",
        }
    )
    report = ReadReport()
    records = list(read_graph([folder], report))
    assert [record.content for record in records] == ["a\tAnn\t", "a\tr\tb"]
    unused = "file of texts not used, another one has their place"
    assert report.examples[unused] == [str(folder / "entity2text.txt")]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"trian.tsv": "a\tr\tb\n"}, "no training triples.* Did you mean 'trian.tsv'"),
        ({"train.tsv": "a\tr\tb\n", "train.nt": ""}, "train.nt and train.tsv are two files"),
        ({"train.tsv": "a\tr\tb\n", "valid.tsv": "", "dev.tsv": ""}, "two files for one purpose"),
        ({"train.tsv": "a\t\tb\n"}, "no usable triple .*empty field"),
        ({"train.tsv": ""}, "no usable triple"),
    ],
    ids=["misspelt", "two formats", "two names", "nothing usable", "empty"],
)
def test_a_folder_that_cannot_be_used_is_refused(
    files: dict[str, str], message: str, written: Written
) -> None:
    with pytest.raises(DataError, match=message):
        list(read_graph([written(files)], ReadReport()))


def test_records_carry_the_line_of_their_triple(written: Written) -> None:
    folder = written({"train.tsv": "a\tr\tb\na\tr\tb\n\nc\tr\td\n"})
    records = list(read_graph([folder], ReadReport()))
    assert [record.number for record in records] == [1, 4]


def test_test_triples_are_not_read_for_training(written: Written) -> None:
    folder = written({"train.tsv": "a\tr\tb\n", "test.nt": "nonsense"})
    assert [record.content for record in read_graph([folder], ReadReport())] == ["a\tr\tb"]


def test_a_validation_triple_of_training_is_kept_and_noted(written: Written) -> None:
    folder = written({"train.tsv": "a\tr\tb\n", "valid.tsv": "a\tr\tb\nb\tr\ta\n"})
    report = ReadReport()
    parts = [record.name for record in read_graph([folder], report)]
    assert parts == ["train", "validation", "validation"]
    assert report.notes == {"validation triple that is in training too": 1}


def test_a_triple_of_two_files_is_read_once(written: Written) -> None:
    folder = written({"one.tsv": "a\tr\tb\n", "two.nt": "<a> <r> <b> .\n<b> <r> <a> .\n"})
    report = ReadReport()
    records = list(read_graph([folder / "one.tsv", str(folder / "two.*")], report))
    assert [record.content for record in records] == ["a\tr\tb", "b\tr\ta"]
    assert report.dropped == {"duplicate triple": 1}


@pytest.mark.parametrize("suffix", ["ttl", "nt"])
def test_blank_nodes_of_two_files_are_different_entities(suffix: str, written: Written) -> None:
    """Both were _:b0, and stood for one entity."""
    statements = "<urn:%s> <urn:p> _:b0 . _:b0 <urn:q> <urn:%s> ."
    files = {name: statements % pair for name, pair in {"a": ("a", "c"), "b": ("z", "y")}.items()}
    lines = {f"{name}.{suffix}": text.replace(" . ", " .\n") for name, text in files.items()}
    folder = written(lines)
    found = [triple for name in lines for triple in keys(folder / name)]
    assert len({end for head, _, tail in found for end in (head, tail)}) == 6
    for first, second in (found[:2], found[2:]):
        assert first[2] == second[0], "within a file they are one"


def test_a_graph_that_is_moved_keeps_its_blank_nodes(written: Written) -> None:
    content = "_:x <urn:r> <urn:a> ."
    here, there = (written({"g.nt": content}, folder=name) / "g.nt" for name in ("here", "there"))
    assert keys(here) == keys(there)


def test_texts_after_a_line_of_one_column_are_not_ignored(written: Written) -> None:
    """The whole file was, without a word."""
    folder = written({"train.tsv": "a\tr\tb\n", "entities.tsv": "a\nb\tBob\n"})
    with pytest.raises(DataError, match="line 1: 1 column"):
        list(read_graph([folder], ReadReport()))


def test_a_file_of_identifiers_alone_is_noted(written: Written) -> None:
    folder = written({"train.tsv": "a\tr\tb\n", "entities.txt": "a\nb\n"})
    report = ReadReport()
    list(read_graph([folder], report))
    note = "file of identifiers alone, not used: it holds no texts"
    assert report.examples[note] == [str(folder / "entities.txt")]


TEXTS = {
    "train.tsv": "a\tr\tb\n",
    "entities.tsv": "a\tAnn\ta person\nb\t\na2\tAnn\n",
    "relations.tsv": "r\tlikes\tis fond of\n",
}


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        (
            {"entities": "both"},
            {
                "entity in no triple: a candidate, known by its text": ["'a2'"],
                "entity without a name: called by its identifier": ["'b'"],
                "entity description used to tell equal names apart only: "
                "domain.max_description_tokens = 0": ["'a'"],
                "relation description not used: domain.max_description_tokens = 0": ["'r'"],
            },
        ),
        (
            {"entities": "tokens", "max_description_tokens": 4},
            {
                "entity in no triple: a candidate, known by its text": ["'a2'"],
                "entity without a name: called by its identifier": ["'b'"],
            },
        ),
        (
            {"entities": "id"},
            {
                "entity text not used: domain.entities = 'id'": ["'a', 'a2', 'b'"],
                "relation text not used: domain.entities = 'id'": ["'r'"],
            },
        ),
    ],
    ids=["both", "descriptions shown", "id"],
)
def test_the_report_says_what_becomes_of_texts(
    options: dict[str, Any], notes: dict[str, list[str]], written: Written
) -> None:
    report = ReadReport()
    list(KnowledgeGraphDomain(**options).read([written(TEXTS)], report))
    read = {"entity text read", "relation text read"}
    assert {note: report.examples[note] for note in report.notes if note not in read} == notes


@pytest.mark.parametrize(("entities", "known"), [("both", True), ("tokens", True), ("id", False)])
def test_an_entity_that_only_a_text_mentions_is_known_by_it(
    entities: Any, known: bool, written: Written
) -> None:
    """It was dropped without a word, whatever fit promised."""
    domain = KnowledgeGraphDomain(entities=entities, vocabulary_size=300)
    domain.fit_tokenizer(list(domain.read([written(TEXTS)], ReadReport())))
    table = domain.graph.entities
    assert ("a2" in table.numbers) == known
    if known:
        assert table.id_tokens[table.numbers["a2"]] == -1
        assert not np.array_equal(table.name_tokens[0], table.name_tokens[table.numbers["a2"]])
