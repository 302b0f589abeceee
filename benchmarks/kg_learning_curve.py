"""Link prediction over CPU minutes on graphs that are meant for a GPU.

Trains one configuration on one thread. While it trains, a fixed sample of the validation triples is
ranked; at the end all test triples are, those with entities that no training triple has apart (as
the answer and in the query, which are different questions), beside the MRR of random scores. The
picture shows every graph measured on the same day, with the best published embedding model of
kg.md 2.1 and 2.2, which were trained on GPUs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.learning_curve import MetricsWatcher
from benchmarks.record import RESULTS, describe_machine, print_table, write_result
from seqmlm.analysis.pictures.style import BLUE, GREEN, GREY, RED, new_figure, plain, to_png
from seqmlm.config import configure
from seqmlm.training.loop import train
from seqmlm_domains.kg.metrics import RankingReport
from seqmlm_domains.kg.predictor import LinkPredictor

NAME = "kg_learning_curve"
BARS = {
    "codex-m": ("ComplEx", 0.337),
    "wn18rr": ("RotatE", 0.478),
    "fb15k-237": ("ComplEx", 0.348),
}
"""Realistic filtered test MRR of tuned embedding models (LibKGE, GPU), by graph."""


def chance_mrr(num_candidates: int) -> float:
    """Return the expected reciprocal rank of random scores without ties."""
    return float((1 / np.arange(1, num_candidates + 1)).mean())


def curve(run: Path, watcher: MetricsWatcher) -> list[dict[str, Any]]:
    """Return each evaluation with the CPU minutes of the steps before it."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measures = {line["step"]: line["measures"] for line in lines if line["split"] == "validation"}
    return [asdict(point) | measures[point.step] for point in watcher.points()]


def summarise(report: RankingReport) -> dict[str, Any]:
    """Return what the table says of the test triples."""
    candidates = report.num_entities
    summary: dict[str, Any] = {
        "mrr_interval": report.mrr_interval,
        "copy_the_reverse_mrr": report.copy_the_reverse,
        "tie_rate": report.both.tie_rate,
        "num_entities": candidates,
        "chance_mrr": chance_mrr(candidates),
    }
    sides = {"both": report.both, "head": report.head, "tail": report.tail}
    unseen = {
        "unseen": report.unseen,
        "unseen_answers": report.unseen_answers,
        "unseen_queries": report.unseen_queries,
    }
    sides |= {name: ranks for name, ranks in unseen.items() if ranks.realistic.count}
    return summary | {side: asdict(ranks.realistic) for side, ranks in sides.items()}


def draw(results: list[dict[str, Any]]) -> Figure:
    """Draw validation curves, the test MRR at their ends, and the bars."""
    figure = new_figure(8, 4.8)
    axes = plain(figure.add_subplot())
    for result, colour in zip(results, (BLUE, RED, GREEN, GREY), strict=False):
        points, graph = result["rounds"], result["settings"]["graph"]
        minutes = [point["cpu_minutes"] for point in points]
        axes.plot(
            minutes, [point["mrr"] for point in points],
            color=colour, marker="o", markersize=3, label=f"{graph}, validation sample",
        )  # fmt: skip
        axes.plot(
            minutes[-1], result["summary"]["both"]["mrr"],
            color=colour, marker="*", markersize=12, linestyle="", label=f"{graph}, test",
        )  # fmt: skip
        if graph in BARS:
            name, bar = BARS[graph]
            axes.axhline(bar, color=colour, linestyle="--", linewidth=0.9)
            # The nearest bars are .011 apart: one is labelled above its line, the other below.
            is_lower = any(0 < other - bar < 0.03 for _, other in BARS.values())
            axes.annotate(
                f" {name} {bar:.3f}", (1, bar), xycoords=("axes fraction", "data"), fontsize=8,
                color=colour, ha="left", va="top" if is_lower else "bottom",
            )  # fmt: skip
    axes.set(xlabel="CPU minutes of training, one thread", ylabel="realistic filtered MRR")
    axes.set_ylim(bottom=0)
    columns = len(results)
    axes.legend(frameon=False, fontsize=8, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", choices=sorted(BARS), required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with train, valid, test")
    parser.add_argument("--set", dest="setting", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--run", type=Path, help="keep the run in this folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    """Train, rank, print, record and draw."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    machine = describe_machine()
    config = configure(
        domain="kg",
        sources=[str(arguments.data)],
        files=[arguments.config],
        overrides=arguments.setting,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or Path(folder) / "run"
        with MetricsWatcher(run) as watcher:
            train(config, run)
        points = curve(run, watcher)
        started = time.process_time()
        summary = summarise(LinkPredictor.load(run).evaluate(arguments.data))
        summary["test_cpu_s"] = time.process_time() - started
    chance = summary["chance_mrr"]
    measures = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10")
    print_table(
        f"{arguments.graph}: realistic filtered, {points[-1]['cpu_minutes']:.1f} CPU minutes",
        ("test", "ranks", *measures, "chance mrr"),
        [
            (
                side,
                f"{summary[side]['count']:,}",
                *(f"{summary[side][name]:.4f}" for name in measures),
                f"{chance:.5f}",
            )
            for side in ("both", "head", "tail", "unseen", "unseen_answers", "unseen_queries")
            if side in summary
        ],
    )
    path = write_result(
        f"{NAME}_{arguments.graph}",
        arguments.results,
        machine=machine,
        settings={
            "graph": arguments.graph,
            "config": config.model_dump(mode="json", exclude={"data": {"sources"}}),
        },
        summary=summary,
        rounds=points,
    )
    date = machine["date"][:10]
    results = [
        json.loads(each.read_text())
        for graph in BARS
        if (each := path.with_name(f"{NAME}_{graph}-{date}.json")).is_file()
    ]
    path.with_name(f"{NAME}-{date}.png").write_bytes(to_png(draw(results)))


if __name__ == "__main__":
    main()
