"""Validation loss over training: how soon seqmlm beats counting, and the peer at equal settings.

Every 25 steps the held-out proteins are scored with all targets hidden behind the mask token.
With ``--peer`` Hugging Face's ESM trains on the same split, with the same optimizer settings and
schedule, and is scored on the same targets; it gets rows of the same crop, padded.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqmlm
from benchmarks.peer import Peer, random_batches
from benchmarks.record import RESULTS, Stopwatch, describe_machine, print_table, write_result
from benchmarks.training_throughput import ESM_ARCHITECTURE, encoded_rows
from seqmlm.config import RunConfig, configure
from seqmlm.training.distributed import processes
from seqmlm.training.optimizer import learning_rate
from seqmlm.training.workload import Workload, prepare_workload

NAME = "learning_curve"
PEER_AFTER_100_STEPS = 2.877
"""Nats of EsmForMaskedLM after 100 steps in an earlier run on another split of the same corpus."""


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One evaluation.

    Args:
        step: of training.
        tokens: trained on so far, without padding.
        cpu_minutes: of the training steps so far, batches included, evaluations not.
        loss: nats per hidden token.
    """

    step: int
    tokens: int
    cpu_minutes: float
    loss: float


class MetricsWatcher:
    """Notes the CPU time of this process at each line that ``train`` adds to its metrics.

    ``metrics.jsonl`` knows wall time only, which on a shared machine says little. A thread looks
    at the file every 10 ms; the line of a training step separates the steps from the evaluation
    after it.
    """

    def __init__(self, folder: Path) -> None:
        self._status, self._metrics = folder / "status.json", folder / "metrics.jsonl"
        self._cpu_s_at_start: float | None = None
        self._cpu_s_at_lines: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MetricsWatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def points(self) -> list[Point]:
        """Return the evaluations, with the CPU time of the steps before them."""
        points: list[Point] = []
        training_s, since = 0.0, self._cpu_s_at_start or 0.0
        lines = [json.loads(line) for line in self._metrics.read_text().splitlines()]
        for line, cpu_s in zip(lines, self._cpu_s_at_lines, strict=True):
            if line["split"] == "train":
                training_s += cpu_s - since
            else:
                points.append(Point(line["step"], line["tokens"], training_s / 60, line["loss"]))
            since = cpu_s
        return points

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self._look()

    def _look(self) -> None:
        now = time.process_time()
        # Written when everything is prepared, right before the first batch.
        if self._cpu_s_at_start is None and self._status.is_file():
            self._cpu_s_at_start = now
        if self._metrics.is_file():
            lines = self._metrics.read_bytes().count(b"\n")
            self._cpu_s_at_lines += [now] * (lines - len(self._cpu_s_at_lines))


def configuration(arguments: argparse.Namespace, seed: int) -> RunConfig:
    """Return our run: the peer's architecture and optimizer settings, our schedule."""
    overrides = [
        *ESM_ARCHITECTURE,
        "data.max_length=256",
        f"data.validation_records={arguments.validation_records}",
        "optimizer.learning_rate=1e-3",
        "optimizer.betas=[0.9, 0.98]",
        "optimizer.weight_decay=0.01",
        "optimizer.warmup_steps=20",
        "optimizer.clip_norm=1.0",
        f"training.steps={arguments.steps}",
        f"training.tokens_per_batch={arguments.tokens_per_batch}",
        f"training.evaluate_every={arguments.evaluate_every}",
        f"training.log_every={arguments.evaluate_every}",
        f"training.checkpoint_every={arguments.steps}",
        f"training.seed={seed}",
    ]
    if arguments.clusters:
        overrides.append(f"domain.clusters={json.dumps(arguments.clusters)}")
    return configure(
        domain="protein",
        sources=[arguments.data],
        overrides=[*overrides, *arguments.setting],
    )


def train_ours(config: RunConfig, folder: Path) -> tuple[list[Point], dict[str, float]]:
    """Perform one run through the public API; returns its curve and the bars, nats."""
    with MetricsWatcher(folder) as watcher:
        result = seqmlm.train(config, folder)
    if result.report is None:
        raise SystemExit("Nothing was held out: give more data.")
    bars = {name: bar.loss for name, bar in result.report.bars.items()}
    return watcher.points(), bars


def train_peer(config: RunConfig, arguments: argparse.Namespace) -> list[Point]:
    """Train the peer on the split of one of our runs; returns its curve."""
    with processes("cpu") as group:
        work = prepare_workload(config, group)
    peer = Peer(
        max_length=config.data.max_length,
        optimizer=config.optimizer,
        seed=config.training.seed,
    )
    batches = _endless_batches(work, arguments.rows)
    points, tokens, cpu_s = [], 0, 0.0
    for step in range(1, config.training.steps + 1):
        watch = Stopwatch()
        rate = learning_rate(step, config.optimizer, steps=config.training.steps)
        batch = peer.batch(next(batches))
        peer.step(batch, learning_rate=rate)
        cpu_s += watch.elapsed().cpu_s
        tokens += batch.num_tokens
        if step % config.training.evaluate_every == 0 or step == config.training.steps:
            loss = peer.evaluate(work.samples, rows_per_batch=arguments.rows)
            points.append(Point(step, tokens, cpu_s / 60, loss))
    return points


def _endless_batches(work: Workload, rows_per_batch: int) -> Iterator[list[Tensor]]:
    max_length, generator = work.config.data.max_length, torch.Generator()
    rows = encoded_rows(work.domain, work.store, work.split.train, max_length=max_length)
    for epoch in count():
        generator.manual_seed(work.config.training.seed * 1000 + epoch)
        yield from random_batches(rows, rows_per_batch=rows_per_batch, generator=generator)


def first_below(points: Sequence[Point], loss: float) -> Point | None:
    """Return the first evaluation below a loss, if there is one."""
    return next((point for point in points if point.loss < loss), None)


def print_curves(curves: Mapping[str, Sequence[Point]], thresholds: Mapping[str, float]) -> None:
    """Print all evaluations, and when each threshold is passed."""
    print_table(
        "validation loss, all targets masked",
        ["", "step", "tokens", "CPU minutes", "nats"],
        [
            [
                name,
                str(point.step),
                f"{point.tokens:,}",
                f"{point.cpu_minutes:.2f}",
                f"{point.loss:.4f}",
            ]
            for name, points in curves.items()
            for point in points
        ],
    )
    rows = []
    for label, loss in thresholds.items():
        for name, points in curves.items():
            point = first_below(points, loss)
            passed = ["not reached", ""]
            if point is not None:
                passed = [f"step {point.step}", f"{point.cpu_minutes:.2f}"]
            rows.append([f"{label}, {loss:.3f}", name, *passed])
    print_table("first evaluation below", ["threshold", "", "step", "CPU minutes"], rows)


def draw(
    curves: Mapping[str, Sequence[Point]], thresholds: Mapping[str, float], path: Path
) -> None:
    """Draw the curves over steps and over CPU minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), dpi=120)
    panels = [figure.add_subplot(1, 2, number) for number in (1, 2)]
    for axes, column, label in zip(
        panels, ("step", "cpu_minutes"), ("step", "CPU minutes of training"), strict=True
    ):
        for name, points in curves.items():
            colour = "#c44e52" if name.startswith("seqmlm") else "#4c72b0"
            axes.plot(
                [getattr(point, column) for point in points],
                [point.loss for point in points],
                color=colour, marker="o", markersize=3, linewidth=1, label=name,
            )  # fmt: skip
        for style, (name, loss) in zip(("-", "--", ":", "-."), thresholds.items(), strict=True):
            axes.axhline(loss, color="#555555", linestyle=style, linewidth=1, label=name)
        axes.set(xlabel=label, ylabel="validation loss, nats per token")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    panels[1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    print(f"picture: {path}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="FASTA file, may be gzip-compressed")
    parser.add_argument("--clusters", help="'representative TAB member' table; else shared 5-mers")
    parser.add_argument("--peer", action="store_true", help="train Hugging Face's ESM as well")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--evaluate-every", type=int, default=25, metavar="STEPS")
    parser.add_argument("--validation-records", type=int, default=500, metavar="N")
    parser.add_argument(
        "--tokens-per-batch", type=int, default=7168, metavar="TOKENS",
        help="of our steps; the default is what 32 rows of the peer hold without padding",
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=32, help="of the peer's batches")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--set", dest="setting", action="append", default=[], metavar="KEY=VALUE",
        help="any setting of our runs; repeatable",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for JSON and PNG")
    return parser.parse_args()


def main() -> None:
    """Train all seeds of all contenders and write the result."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(arguments.threads)
    machine = describe_machine()
    curves: dict[str, list[Point]] = {}
    bars: dict[str, dict[str, float]] = {}
    folder = Path(tempfile.mkdtemp(prefix="seqmlm-learning-curve-"))
    try:
        for seed in arguments.seeds:
            config = configuration(arguments, seed)
            print(f"seed {seed}: seqmlm", file=sys.stderr)
            curves[f"seqmlm, seed {seed}"], bars[str(seed)] = train_ours(config, folder / str(seed))
            if arguments.peer:
                print(f"seed {seed}: HF", file=sys.stderr)
                curves[f"HF, seed {seed}"] = train_peer(config, arguments)
    finally:
        shutil.rmtree(folder)
    thresholds = _thresholds(bars)
    print_curves(curves, thresholds)
    summary = {
        "thresholds": thresholds,
        "first_below": {
            label: {name: _plain(first_below(points, loss)) for name, points in curves.items()}
            for label, loss in thresholds.items()
        },
    }
    settings = vars(arguments) | {
        "data": Path(arguments.data).name,
        "clusters": arguments.clusters and Path(arguments.clusters).name,
        "architecture": ESM_ARCHITECTURE,
        "optimizer": config.optimizer.model_dump(),
        "bars_by_seed": bars,
    }
    written = write_result(
        NAME, arguments.results,
        machine=machine, settings=settings, summary=summary,
        rounds={name: [_plain(point) for point in points] for name, points in curves.items()},
    )  # fmt: skip
    draw(curves, thresholds, written.with_suffix(".png"))


def _thresholds(bars: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The earlier peer, and each bar's mean over the seeds, which hold out different proteins."""
    names = list(next(iter(bars.values())))
    means = {
        f"bar: {name}": sum(found[name] for found in bars.values()) / len(bars) for name in names
    }
    return {"HF after 100 steps, elsewhere": PEER_AFTER_100_STEPS, **means}


def _plain(point: Point | None) -> dict[str, Any] | None:
    return None if point is None else dataclasses.asdict(point)


if __name__ == "__main__":
    main()
