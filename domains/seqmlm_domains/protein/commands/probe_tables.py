"""Probes as one table on standard output."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqmlm.finetuning.statistics import Metric
from seqmlm_domains.protein.probes.probe import ProbeResult


def print_probes(results: Sequence[ProbeResult]) -> None:
    """Print all tasks in one table, the embeddings first, and what was used beneath."""
    table = Table(title="linear probes of frozen embeddings", title_justify="left")
    table.add_column("predictor")
    for heading in ("accuracy", "embeddings are\nahead by", "macro F1", "MCC"):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_section()
        table.add_row(Text(f"{result.task}\n{result.accuracy_name}", style="italic"))
        for name, found in result.measures.items():
            table.add_row(
                name,
                _cell(found.accuracy),
                "" if found.behind is None else _cell(found.behind, sign="+"),
                f"{found.macro_f1.value:.3f}",
                f"{found.matthews.value:.3f}",
                style="bold" if found.behind is None else None,
            )
    console = Console(highlight=False)
    console.print(table)
    console.print("MCC: Matthews' correlation; below each value its 95 % interval over proteins")
    for result in results:
        console.print(_described(result), soft_wrap=True, markup=False)


def _cell(metric: Metric, *, sign: str = "") -> str:
    between = " to " if sign else "-"
    return f"{metric.value:{sign}.3f}\n{metric.low:{sign}.3f}{between}{metric.high:{sign}.3f}"


def _described(result: ProbeResult) -> str:
    train, validation, test = result.proteins
    noun = "residues" if result.level == "residue" else "proteins"
    used = f"{result.labels[0]:,} of {result.given_labels:,} training {noun}"
    unseen = ""
    if result.unseen:
        unseen = f"; {result.unseen:,} test labels are of classes that training lacks"
    return (
        f"{result.task}: {len(result.classes):,} classes; fitted to {used} ({train:,} proteins), "
        f"penalty chosen on {validation:,}, tested on {test:,} proteins; split: {result.split}; "
        f"{result.test_with_neighbour:.0%} of the test proteins share 5-mers with a training "
        f"protein{unseen}"
    )
