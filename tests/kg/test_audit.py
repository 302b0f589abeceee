from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from seqmlm.cli import app
from seqmlm.errors import DataError
from seqmlm_domains.kg.audit import audit_graph, findings
from seqmlm_domains.kg.default_settings import SAMPLES
from seqmlm_domains.kg.relation_overlap import RelationOverlap

NATIONS = SAMPLES / "nations"
Written = Any


def test_nations_has_the_published_facts() -> None:
    """Measured once with another program, before this one was written."""
    audit = audit_graph(NATIONS)
    test = audit.held_out["test"]
    assert (audit.entities, audit.train_entities, audit.relations) == (14, 14, 55)
    assert {part: counts.triples for part, counts in audit.parts.items()} == {
        "train": 1592, "validation": 199, "test": 201,
    }  # fmt: skip
    assert (test.unseen_entity_triples, test.in_training) == (0, 0)
    assert (test.reversed_in_training, test.reversed_pair_in_training) == (106, 201)
    assert (round(test.mean_true_tails, 1), round(test.mean_true_heads, 1)) == (6.8, 7.3)
    assert (test.unique_queries, test.queries) == (288, 402)
    assert audit.parts["train"].duplicates == 0
    assert sum(audit.categories.values()) == 55


GRAPH = {
    # a, b and c are known; a r b is stated twice, c r c is a loop.
    "train.tsv": "a\tr\tb\na\tr\tb\na\tr\tc\nb\ts\tc\nc\tr\tc\na\t\tb\n",
    "test.tsv": "a\tr\tb\n"  # leaked
    "b\tr\ta\n"  # reversed
    "c\tr\tb\n"  # reversed, but under s
    "a\ts\tb\n"  # same pair, under r
    "d\tr\te\n"  # two unseen entities
    "a\tq\tc\n",  # unseen relation, same pair
    "entities.tsv": "id\tname\tdescription\na\tSam\tthe elder\nb\tSam\tthe younger\nz\tZed\t\n",
}


def test_every_kind_of_finding_is_counted(written: Written) -> None:
    audit = audit_graph(written(GRAPH))
    train, test = audit.parts["train"], audit.held_out["test"]
    assert (train.triples, train.duplicates, train.not_triples) == (4, 1, 1)
    assert (audit.entities, audit.train_entities, audit.relations) == (5, 3, 3)
    assert audit.loops == 1
    assert test.in_training == 1
    assert (test.reversed_in_training, test.reversed_pair_in_training) == (1, 2)
    assert test.pair_in_training == 2
    assert (test.unseen_entities, test.unseen_entity_triples) == (2, 1)
    assert test.unseen_relation_triples == 1
    # (a r ?): b c; (b r ?): a; (c r ?): b c; (a s ?): b; (d r ?): e; (a q ?): c.
    assert test.mean_true_tails == pytest.approx((2 + 1 + 2 + 1 + 1 + 1) / 6)
    # (? r b): a c, twice; (? r a): b; (? s b): a; (? r e): d; (? q c): a.
    assert test.mean_true_heads == pytest.approx((2 + 1 + 2 + 1 + 1 + 1) / 6)
    assert (test.queries, test.unique_queries) == (12, 6 + 5)
    names = audit.names
    assert (names.named, names.described, names.text_only) == (2, 2, 1)
    assert (names.sharing, names.sharing_when_disambiguated) == (2, 0)
    assert names.most_shared == [("Sam", 2)]


def test_every_finding_is_told(written: Written) -> None:
    told = " ".join(findings(audit_graph(written(GRAPH))))
    for words in (
        "1 test triples (16.7%) are in training",
        "1 test triples (16.7%) have an entity without a training triple",
        "1 test triples (16.7%) have a relation without a training triple",
        "1 test triples (16.7%) stand in training with head and tail exchanged",
        "1 triples are repeated",
        "1 lines are no triples",
        "2 entities (40.0%) share their name",
        "1 entities have a text but no triple",
    ):
        assert words in told


def test_a_clean_graph_has_no_findings(written: Written) -> None:
    folder = written({"train.tsv": "a\tr\tb\nb\tr\tc\n", "test.tsv": "a\tr\tc\n"})
    assert findings(audit_graph(folder)) == []


def test_relations_that_repeat_each_other_are_found(written: Written) -> None:
    """Ten pairs under each relation; loops say nothing about direction."""
    chain = [(f"n{i}", f"n{i + 1}") for i in range(10)]
    rows = [f"{head}\tabove\t{tail}" for head, tail in chain]
    rows += [f"{tail}\tbelow\t{head}" for head, tail in chain]
    rows += [f"{head}\tover\t{tail}" for head, tail in chain[:8]] + ["x\tover\ty", "y\tover\tz"]
    rows += [f"m{i}\tnear\tm{j}" for i in range(5) for j in range(5)]
    rows += [f"{head}\trare\t{tail}" for head, tail in chain[:5]]
    audit = audit_graph(written({"train.tsv": "\n".join(rows)}))
    assert {(o.kind, o.relation, o.other, o.share, o.other_share) for o in audit.overlaps} == {
        ("duplicate", "above", "over", 0.8, 0.8),
        ("inverse", "above", "below", 1.0, 1.0),
        ("inverse", "below", "over", 0.8, 0.8),
        ("symmetric", "near", "near", 1.0, 1.0),
    }
    assert isinstance(audit.overlaps[0], RelationOverlap)
    assert audit.held_out == {}


def test_one_triple_is_a_graph(written: Written) -> None:
    audit = audit_graph(written({"train.tsv": "a\tr\ta\n", "test.tsv": ""}))
    assert (audit.entities, audit.relations, audit.loops) == (1, 1, 1)
    assert audit.parts["test"].triples == 0
    assert audit.held_out == {}


def test_a_graph_without_usable_triples_is_refused(written: Written) -> None:
    with pytest.raises(DataError, match=r"train\.tsv: no usable triple .*empty field"):
        audit_graph(written({"train.tsv": "a\t\tb\n"}))


def test_the_command_prints_tables_and_findings(written: Written) -> None:
    result = CliRunner().invoke(app, ["kg", "audit", str(written(GRAPH))], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    output = result.stdout
    assert "reversed, same relation, in training" in output
    assert "1 (16.7%)" in output
    assert "! 1 test triples (16.7%) are in training: results are too good." in output


def test_names_with_brackets_are_printed_as_they_are(written: Written) -> None:
    folder = written({"train.tsv": "[/a]\t[bold]\tb\n"}, folder="[x]")
    result = CliRunner().invoke(app, ["kg", "audit", str(folder)], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "[x]" in result.stdout


def test_the_command_prints_json() -> None:
    result = CliRunner().invoke(app, ["kg", "audit", str(NATIONS), "--json"])
    content = json.loads(result.stdout)
    assert content["held_out"]["test"]["unique_queries"] == 288
    assert any("copy-the-reverse" in finding for finding in content["findings"])


def test_the_samples_say_where_they_come_from() -> None:
    notice = (Path(SAMPLES) / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "pykeen/pykeen" in notice
    assert "Permission is hereby granted, free of charge" in notice
