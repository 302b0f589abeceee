"""Predicted links and their ranks as tables on standard output."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqmlm_domains.kg.calibration import Calibration
from seqmlm_domains.kg.explanation import Explanation
from seqmlm_domains.kg.metrics import RankingReport, RankMetrics, RankTypes
from seqmlm_domains.kg.predictions import EntityPrediction
from seqmlm_domains.kg.queries import Prediction, Query


def print_predictions(
    found: Sequence[Prediction], *, query: Query, calibration: Calibration, is_calibrated: bool
) -> None:
    """Print answers, best first, and how far their probabilities are to be believed.

    Args:
        found: the answers.
        query: that they answer.
        calibration: of the model.
        is_calibrated: whether the list is of the kind that the calibration was measured on.
    """
    console = Console(highlight=False)
    asked = ", ".join("?" if part is None else part for part in query)
    if not found:
        console.print(Text(f"({asked}): no answer is probable enough, or no candidate is left"))
        return
    identifiers = [
        item.entity if isinstance(item, EntityPrediction) else item.relation for item in found
    ]
    console.print(Text(f"({asked})"))
    names = [
        "" if item.name == identifier.replace("_", " ") else item.name
        for item, identifier in zip(found, identifiers, strict=True)
    ]
    table = _table(["", "identifier", "score, nats", "probability"])
    table.columns[1].justify = "left"
    for column in table.columns:
        column.no_wrap = True  # names alone give way, so that identifiers can be copied
    if any(names):
        table.add_column("name", overflow="fold")
    for rank, item in enumerate(found):
        numbers = (f"{item.score:.3f}", f"{item.probability:.1%}")
        name = [Text(names[rank])] if any(names) else []
        table.add_row(str(rank + 1), Text(identifiers[rank]), *numbers, *name)
    console.print(table)
    if calibration.error is not None and isinstance(found[0], EntityPrediction):
        error, queries = calibration.error.expected_error, calibration.error.queries
        of_what = "all entities but the known answers"
        if not is_calibrated:
            of_what += ", which this list is not (--filtered, without --candidate and --type)"
        console.print(
            f"expected calibration error of the first answer {error:.3f}, on {queries:,} "
            f"validation queries, for lists of {of_what}"
        )


def print_ranking(report: RankingReport, *, title: str, by_relation: bool) -> None:
    """Print metrics by direction, way of counting ties, category and relation, and the bars."""
    console = Console(highlight=False)
    measures = ("ranks", "MRR", "hits@1", "hits@3", "hits@10", "mean rank", "AMRI", "ties")
    console.print(Text(f"{title}: filtered ranks"))
    table = _table(["", *measures])
    table.box, table.padding, table.show_edge = box.SIMPLE, 0, False  # 80 columns must do
    rows: list[tuple[str, RankTypes]] = [("head", report.head), ("tail", report.tail)]
    for name, types in rows:
        _add(table, name, types.realistic, types.tie_rate)
    _add(table, "both", report.both.realistic, report.both.tie_rate, style="bold")
    _add(table, "optimistic", report.both.optimistic, None)
    _add(table, "pessimistic", report.both.pessimistic, None)
    table.add_section()
    for category, types in report.by_category.items():
        if types.realistic.count:
            _add(table, category, types.realistic, types.tie_rate)
    if report.unseen.realistic.count:
        table.add_section()
        for name, types in (
            ("unseen entity", report.unseen),
            ("- as the answer", report.unseen_answers),
            ("- in the query", report.unseen_queries),
        ):
            _add(table, name, types.realistic, types.tie_rate)
    if by_relation:
        table.add_section()
        ordered = sorted(report.by_relation.items(), key=lambda item: -item[1].realistic.count)
        for relation, types in ordered:
            _add(table, relation, types.realistic, types.tie_rate)
    console.print(table)
    console.print("ties count half; optimistic and pessimistic: both, with ties won and lost")
    low, high = report.mrr_interval
    console.print(
        f"95 % interval of the MRR: {low:.3f} to {high:.3f} (bootstrap); "
        f"copying reversed triples: {report.copy_the_reverse:.3f}"
    )
    console.print(
        f"{report.num_entities:,} candidates; {report.collision_rate:.1%} share their name with "
        f"another, {report.name_tie_rate:.1%} are the same to the model"
    )


def print_explanation(explanation: Explanation, *, title: str) -> None:
    """Print the tokens that make a score, and what each part of the query adds to it."""
    console = Console(highlight=False)
    console.print(Text(f"{title}: {explanation.score:.4f} nats"))
    console.print("tokens: weight x log p add up to it")
    tokens = _table(["token", "log p", "weight"])
    for token in explanation.tokens:
        tokens.add_row(Text(token.token), f"{token.log_likelihood:.4f}", f"{token.weight:.3f}")
    console.print(tokens)
    console.print("the query: by how much the score is less without each part")
    spans = _table(["part", "text", "by, nats"], left=2)
    for span in explanation.spans:
        spans.add_row(span.kind, Text(span.text), f"{span.contribution:+.4f}")
    console.print(spans)


def _table(headings: Sequence[str], *, left: int = 1) -> Table:
    table = Table()
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index < left else "right", overflow="fold")
    return table


def _add(
    table: Table, name: str, found: RankMetrics, tie_rate: float | None, *, style: str | None = None
) -> None:
    shares = (found.mrr, found.hits_at_1, found.hits_at_3, found.hits_at_10)
    table.add_row(
        Text(name),  # not a string: brackets in it would be taken for markup
        f"{found.count:,}",
        *(_number(share, ".3f") for share in shares),
        _number(found.mean_rank, ",.1f"),
        _number(found.adjusted_mean_rank_index, ".3f"),
        "" if tie_rate is None else _number(tie_rate, ".1%"),
        style=style,
    )


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
