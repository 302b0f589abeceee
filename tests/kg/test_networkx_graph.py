from __future__ import annotations

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.errors import DataError
from seqmlm_domains.kg.networkx_graph import from_networkx, texts_from_networkx, to_networkx
from seqmlm_domains.kg.triples import NameAndDescription

names = st.sampled_from(["a", "b", "c d", "\u00e9"])


@given(st.sets(st.tuples(names, names, names)))
def test_triples_survive_a_graph(triples: set[tuple[str, str, str]]) -> None:
    graph = to_networkx(sorted(triples))
    assert sorted(from_networkx(graph)) == sorted(triples)


def test_parallel_relations_are_parallel_edges_and_equal_triples_one() -> None:
    graph = to_networkx([("a", "r", "b"), ("a", "s", "b"), ("a", "r", "b")])
    assert sorted(graph.edges(keys=True)) == [("a", "b", "r"), ("a", "b", "s")]
    assert graph.edges["a", "b", "s"]["relation"] == "s"


def test_texts_are_attributes_of_nodes() -> None:
    texts = {"a": NameAndDescription("Ann", "a person"), "z": NameAndDescription("Zed")}
    graph = to_networkx([("a", "r", "b")], entity_texts=texts)
    assert graph.nodes["a"] == {"name": "Ann", "description": "a person"}
    assert texts_from_networkx(graph) == texts


def test_the_relation_is_the_attribute_or_else_the_key() -> None:
    graph = networkx.MultiDiGraph()
    graph.add_edge("a", "b", relation="likes")
    graph.add_edge("b", 3, key="knows")
    assert from_networkx(graph) == [("a", "likes", "b"), ("b", "knows", "3")]


def test_a_graph_of_single_edges_will_do() -> None:
    graph = networkx.DiGraph([("a", "b", {"relation": "likes"})])
    assert from_networkx(graph) == [("a", "likes", "b")]


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (networkx.MultiGraph([("a", "b", "r")]), "MultiGraph, without directions"),
        (networkx.MultiDiGraph([("a", "b")]), "edge from 'a' to 'b' names no relation"),
        (networkx.DiGraph([("a", "b")]), "edge from 'a' to 'b' names no relation"),
        (networkx.MultiDiGraph([(1, "1", "r")]), "nodes 1 and '1' are written alike"),
        (networkx.MultiDiGraph([("", "b", "r")]), "node '' has an empty name"),
        (networkx.MultiDiGraph([("a\tb", "b", "r")]), "or a tab or line break"),
        (networkx.MultiDiGraph([("a", "b", {"relation": " "})]), "has an empty name"),
    ],
    ids=["undirected", "no relation", "no relation, single", "alike", "empty", "tab", "blank"],
)
def test_a_graph_that_is_no_knowledge_graph_is_refused(
    graph: networkx.MultiDiGraph, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        from_networkx(graph)
