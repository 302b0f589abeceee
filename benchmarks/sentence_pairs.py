"""Next-sentence and sentence-order prediction on held-out articles of a real text.

One model for each objective, trained from random weights on most articles of wikitext2 and judged
on the others: does its accuracy rise above that of always giving the more frequent answer, and
after how much CPU time? The standard error is that of a share of independent decisions. What words
alone tell is the AUC of their overlap: the share of the second part's tokens that the first part
has too, each token weighted by minus the logarithm of its frequency.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import RESULTS, Stopwatch, describe_machine, print_table, write_result
from seqmlm.config import RunConfig, configure
from seqmlm.evaluation.decisions import area_under_curve
from seqmlm.evaluation.own_losses import own_builder
from seqmlm.training.distributed import processes
from seqmlm.training.loop import train
from seqmlm.training.workload import prepare_workload

NAME = "sentence_pairs"
OBJECTIVES = ("nsp", "sop")


@dataclass(frozen=True)
class Judged:
    """What one objective reached on held-out articles.

    Args:
        step: of training.
        accuracy: share of right answers.
        majority: that of always giving the more frequent answer.
        auc: area under the ROC curve.
        decisions: number of pairs.
    """

    step: int
    accuracy: float
    majority: float
    auc: float
    decisions: int

    @property
    def error(self) -> float:
        """Standard error of the accuracy."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.decisions)


def configuration(arguments: argparse.Namespace, objective: str) -> RunConfig:
    """Return the settings of one run."""
    steps = arguments.steps
    masked = f', {{name = "mlm", rows_of = "{objective}"}}' if arguments.with_mlm else ""
    listed = f'{{name = "{objective}"}}{masked}'
    return configure(
        domain="text",
        sources=[str(arguments.data / name) for name in ("valid.txt", "test.txt")],
        overrides=[
            "domain.documents=heading",
            f"domain.vocabulary_size={arguments.vocabulary_size}",
            'domain.unmaskable_words=["<unk>"]',
            "domain.passage_characters=600",
            "data.max_length=128",
            "data.validation_fraction=0.2",
            "model.segments=2",
            f"model.layers={arguments.layers}",
            f"model.hidden_size={arguments.hidden_size}",
            f"objectives=[{listed}]",
            "optimizer.learning_rate=1e-3",
            f"optimizer.warmup_steps={max(1, steps // 10)}",
            f"training.steps={steps}",
            f"training.tokens_per_batch={arguments.tokens_per_batch}",
            f"training.evaluate_every={max(1, steps // 8)}",
            f"training.log_every={max(1, steps // 8)}",
            f"training.checkpoint_every={steps}",
            f"training.device={arguments.device}",
            f"training.seed={arguments.seed}",
            *arguments.setting,
        ],
    )


def overlap_auc(config: RunConfig, objective: str) -> float:
    """Return how well the words that both parts share tell the pairs of the evaluation apart."""
    with processes("cpu") as group:
        work = prepare_workload(config, group)
    objectives = work.stepper.objectives
    (own,) = (each for each in objectives if each.name == objective)
    records = work.split.validation
    builder = own_builder(
        own, objectives, work.model, work.store, records, max_length=config.data.max_length
    )
    batch = builder.batch(0, records)
    ids, segments = batch.ids.numpy(), batch.segment_ids.numpy()
    counts = np.bincount(ids, minlength=len(work.domain.vocabulary))
    weights = -np.log(np.maximum(counts, 1) / len(ids))
    scores = []
    for start, end in pairwise(batch.cu_seqlens.tolist()):
        first, second = (np.unique(ids[start:end][segments[start:end] == part]) for part in (0, 1))
        shared = np.isin(second, first)
        scores.append(weights[second[shared]].sum() / weights[second].sum())
    targets = batch.targets_for(objective)
    row = np.searchsorted(batch.cu_seqlens.numpy(), targets.rows.numpy(), side="right") - 1
    found = area_under_curve(np.array(scores)[row], targets.labels.numpy().astype(bool))
    return max(found, 1 - found)  # whichever of the two answers the objective calls yes


def measure(config: RunConfig, objective: str, run: Path) -> list[Judged]:
    """Train one model; returns its evaluations."""
    train(config, run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = []
    for line in lines:
        if line["split"] == "validation":
            own = line["objectives"][objective]
            found.append(
                Judged(line["step"], own["accuracy"], own["majority"], own["auc"], own["decisions"])
            )
    return found


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="wikitext2: valid.txt, test.txt")
    parser.add_argument("--only", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--with-mlm", action="store_true", help="hide tokens in the same rows")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--tokens-per-batch", type=int, default=4096, metavar="TOKENS")
    parser.add_argument("--vocabulary-size", type=int, default=4000)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--set", dest="setting", action="append", default=[], metavar="KEY=VALUE",
        help="any setting of the runs; repeatable",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    return parser.parse_args()


def main() -> None:
    """Measure the objectives, and write their accuracy over the steps."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    machine = describe_machine()
    curves: dict[str, list[Judged]] = {}
    cpu_minutes: dict[str, float] = {}
    overlaps: dict[str, float] = {}
    folder = Path(tempfile.mkdtemp(prefix="seqmlm-sentence-pairs-"))
    try:
        for objective in arguments.only:
            watch = Stopwatch()
            config = configuration(arguments, objective)
            curves[objective] = measure(config, objective, folder / objective)
            cpu_minutes[objective] = watch.elapsed().cpu_s / 60
            overlaps[objective] = overlap_auc(config, objective)
            print(f"{objective}: {curves[objective][-1]}", file=sys.stderr)
    finally:
        shutil.rmtree(folder)
    print_table(
        "held-out pairs",
        ["", "step", "accuracy", "majority", "AUC", "decisions"],
        [
            [
                objective,
                str(each.step),
                f"{each.accuracy:.3f} ± {each.error:.3f}",
                f"{each.majority:.3f}",
                f"{each.auc:.3f}",
                f"{each.decisions:,}",
            ]
            for objective, curve in curves.items()
            for each in curve
        ],
    )
    for objective, minutes in cpu_minutes.items():
        print(
            f"{objective}: {minutes:.1f} CPU minutes, evaluations included; AUC of the overlap of "
            f"words {overlaps[objective]:.3f}"
        )
    write_result(
        NAME, arguments.results,
        machine=machine,
        settings={
            key: value.name if isinstance(value, Path) else value
            for key, value in vars(arguments).items()
        },
        summary={
            objective: asdict(curve[-1])
            | {"cpu_minutes": cpu_minutes[objective], "overlap_auc": overlaps[objective]}
            for objective, curve in curves.items()
        },
        rounds={
            objective: [asdict(each) for each in curve] for objective, curve in curves.items()
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
