"""Triples from and to graphs of networkx."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from seqmlm.errors import DataError
from seqmlm_domains.kg.triples import NameAndDescription, StatedTriple

if TYPE_CHECKING:
    import networkx

RELATION: Final = "relation"
"""Attribute of an edge that holds its relation; without it the edge's key is taken."""


def from_networkx(graph: networkx.MultiDiGraph) -> list[StatedTriple]:
    """Return a triple for each edge, in the graph's order, as ``LinkPredictor`` takes them.

    The relation is the edge's attribute ``relation`` or else its key; nodes and relations that
    are no strings are written as strings.

    Args:
        graph: directed; a ``DiGraph`` will do if its edges have the attribute.

    Raises:
        DataError: the graph is undirected, an edge has no relation, two nodes are written alike,
            or a name is empty or holds a tab or line break.
    """
    if not graph.is_directed():
        raise DataError(
            f"The graph is a {type(graph).__name__}, without directions: nothing says which node "
            "of an edge is the head. Make it a networkx.MultiDiGraph."
        )
    written = _written_nodes(graph)
    edges: Iterable[tuple[Any, Any, Any, Mapping[str, Any]]]
    if graph.is_multigraph():
        edges = graph.edges(keys=True, data=True)
    else:
        edges = ((head, tail, None, data) for head, tail, data in graph.edges(data=True))
    return [
        (written[head], _relation(head, tail, key, data), written[tail])
        for head, tail, key, data in edges
    ]


def texts_from_networkx(graph: networkx.MultiDiGraph) -> dict[str, NameAndDescription]:
    """Return the nodes' attributes ``name`` and ``description``, by identifier.

    Nodes with neither are left out if they have an edge: without one, nothing else tells of them.

    Raises:
        DataError: two nodes are written alike, or an identifier is empty or holds a line break.
    """
    import networkx

    written = _written_nodes(graph)
    texts = {
        written[node]: NameAndDescription(
            str(data.get("name") or ""), str(data.get("description") or "")
        )
        for node, data in graph.nodes(data=True)
    }
    nothing, lonely = NameAndDescription(""), {written[node] for node in networkx.isolates(graph)}
    return {key: text for key, text in texts.items() if text != nothing or key in lonely}


def to_networkx(
    triples: Iterable[StatedTriple],
    *,
    entity_texts: Mapping[str, NameAndDescription] | None = None,
) -> networkx.MultiDiGraph:
    """Return a graph with a node per entity and an edge per triple.

    The relation is the key of an edge, so that equal triples are one edge, and its attribute
    ``relation``; :func:`from_networkx` gives the triples back.

    Args:
        triples: head, relation and tail.
        entity_texts: become the nodes' attributes ``name`` and ``description``; entities that no
            triple mentions are nodes of their own.
    """
    import networkx

    graph = networkx.MultiDiGraph()
    for head, relation, tail in triples:
        graph.add_edge(head, tail, key=relation, relation=relation)
    for identifier, text in (entity_texts or {}).items():
        attributes = {"name": text.name, "description": text.description}
        graph.add_node(identifier, **{key: value for key, value in attributes.items() if value})
    return graph


def _written_nodes(graph: networkx.MultiDiGraph) -> dict[Any, str]:
    """The identifier of each node."""
    nodes: dict[str, Any] = {}
    for node in graph.nodes:
        identifier = _checked(str(node), f"node {node!r}")
        if identifier in nodes:
            raise DataError(
                f"The nodes {nodes[identifier]!r} and {node!r} are written alike; rename one."
            )
        nodes[identifier] = node
    return {node: identifier for identifier, node in nodes.items()}


def _relation(head: Any, tail: Any, key: Any, data: Mapping[str, Any]) -> str:
    relation = data.get(RELATION, key if isinstance(key, str) else None)
    edge = f"edge from {head!r} to {tail!r}"
    if relation is None:
        raise DataError(
            f"The {edge} names no relation: give it the attribute {RELATION!r}, or the relation "
            "as its key."
        )
    return _checked(str(relation), edge)


def _checked(identifier: str, what: str) -> str:
    if not identifier.strip() or any(character in identifier for character in "\t\n\r"):
        raise DataError(f"The {what} has an empty name, or a tab or line break in it.")
    return identifier.strip()
