"""The audit of a graph as tables on standard output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqmlm_domains.kg.audit import GraphAudit, HeldOutAudit, findings
from seqmlm_domains.kg.relation_overlap import RelationOverlap

MOST_OVERLAPS = 10
"""Rows of the table of overlapping relations; the JSON has all."""

HELD_OUT_ROWS: Sequence[tuple[str, Callable[[HeldOutAudit], str]]] = (
    ("with an entity unseen in training", lambda part: _share(part, part.unseen_entity_triples)),
    ("with a relation unseen in training", lambda p: _share(p, p.unseen_relation_triples)),
    ("also in training", lambda part: _share(part, part.in_training)),
    ("reversed, same relation, in training", lambda p: _share(p, p.reversed_in_training)),
    ("reversed, any relation, in training", lambda p: _share(p, p.reversed_pair_in_training)),
    ("same pair, other relation, in training", lambda p: _share(p, p.pair_in_training)),
    ("true tails per query, mean", lambda part: f"{part.mean_true_tails:,.1f}"),
    ("true heads per query, mean", lambda part: f"{part.mean_true_heads:,.1f}"),
    ("queries, different / all", lambda part: f"{part.unique_queries:,} / {part.queries:,}"),
)


def print_audit(audit: GraphAudit, *, title: str) -> None:
    """Print counts by part, overlapping relations, names, and a line for each finding."""
    console = Console(highlight=False)
    console.print(_parts_table(audit, title))
    if audit.overlaps:
        console.print(_overlaps_table(audit.overlaps))
    for line in _lines(audit):
        console.print(Text(line))
    for finding in findings(audit):
        console.print(Text.assemble(("! ", "bold yellow"), finding))


def _parts_table(audit: GraphAudit, title: str) -> Table:
    table = _table(title, ["triples", *audit.parts])
    table.add_row("different", *(f"{part.triples:,}" for part in audit.parts.values()))
    table.add_row("repeated", *(f"{part.duplicates:,}" for part in audit.parts.values()))
    table.add_row("unusable lines", *(f"{part.not_triples:,}" for part in audit.parts.values()))
    for heading, cell in HELD_OUT_ROWS:
        cells = (
            cell(audit.held_out[part]) if part in audit.held_out else "" for part in audit.parts
        )
        table.add_row(heading, *cells)
    return table


def _overlaps_table(overlaps: Sequence[RelationOverlap]) -> Table:
    title = "relations that repeat each other in training"
    if len(overlaps) > MOST_OVERLAPS:
        title += f": the {MOST_OVERLAPS} closest of {len(overlaps):,} (--json has all)"
    table = _table(title, ["kind", "relation", "other", "share", "of the other"], left=3)
    closest = sorted(overlaps, key=lambda o: -min(o.share, o.other_share))[:MOST_OVERLAPS]
    for overlap in closest:
        table.add_row(
            overlap.kind,
            Text(overlap.relation),
            Text("" if overlap.kind == "symmetric" else overlap.other),
            f"{overlap.share:.1%}",
            f"{overlap.other_share:.1%}",
        )
    return table


def _lines(audit: GraphAudit) -> Iterable[str]:
    """What is not by part."""
    names = audit.names
    kinds = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(audit.categories.items()))
    yield (
        f"{audit.entities:,} entities, {audit.train_entities:,} of them in training; "
        f"{audit.relations:,} relations ({kinds}); {audit.loops:,} triples from an entity to itself"
    )
    yield (
        f"{names.named:,} entities have a name and {names.described:,} a description; a name has "
        f"{names.mean_tokens:.1f} tokens on average and {names.longest_tokens:,} at most"
        f" ({names.longest[0]!r})"
        + (f"; {names.cut:,} are cut to {names.max_name_tokens}" if names.cut else "")
    )
    if names.described:
        yield (
            "a description tells entities of one name apart, and is shown to the model only with "
            "domain.max_description_tokens above 0"
        )
    if names.most_shared:
        shared = ", ".join(f"{name!r} ({count:,})" for name, count in names.most_shared)
        yield f"most shared names: {shared}"


def _table(title: str, headings: Sequence[str], *, left: int = 1) -> Table:
    # Text, not strings: brackets in paths would be taken for markup.
    table = Table(title=Text(title), title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < left else "right", overflow="fold")
    return table


def _share(part: HeldOutAudit, count: int) -> str:
    return f"{count:,} ({count / part.triples:.1%})" if count else "0"
