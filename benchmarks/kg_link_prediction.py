"""Link prediction on a graph: filtered ranks over seeds, beside what embeddings reach.

Trains a configuration with several seeds, chooses each model by validation triples, ranks the test
triples among all entities (realistic, filtered, heads and tails) and gives the mean over seeds with
the CPU minutes. The bars are embedding models tuned on the same splits with PyKEEN 1.11.1, one
seed each; ``benchmarks/kg_rank_parity.py`` shows that both sides count ranks alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, describe_machine, write_result
from seqmlm.config import configure
from seqmlm.training.loop import train
from seqmlm_domains.kg.predictor import LinkPredictor

BARS = {
    "nations": ("DistMult, 64 wide, 130 epochs", 0.6702),
    "umls": ("ComplEx, small initialisation, 64 wide, 80 epochs", 0.8857),
}
"""Realistic filtered MRR by the name of the configuration."""


def train_and_rank(
    arguments: argparse.Namespace, config: Path, data: Path, seed: int
) -> dict[str, Any]:
    """Train one seed and rank its test triples; returns measures and CPU seconds."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        settings = configure(
            domain="kg",
            sources=[str(data)],
            files=[config],
            overrides=[f"training.seed={seed}", *arguments.setting],
        )
        train(settings, Path(folder) / "run")
        trained_s = time.process_time() - started
        report = LinkPredictor.load(Path(folder) / "run").evaluate(data)
    ranked = report.both.realistic
    return {
        "seed": seed,
        "mrr": ranked.mrr,
        "hits_at_1": ranked.hits_at_1,
        "hits_at_3": ranked.hits_at_3,
        "hits_at_10": ranked.hits_at_10,
        "mean_rank": ranked.mean_rank,
        "head_mrr": report.head.realistic.mrr,
        "tail_mrr": report.tail.realistic.mrr,
        "unseen_mrr": report.unseen.realistic.mrr if report.unseen.realistic.count else None,
        "copy_the_reverse_mrr": report.copy_the_reverse,
        "tie_rate": report.both.tie_rate,
        "training_cpu_s": trained_s,
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--config", type=Path, required=True, help="such as configs/nations.toml")
    parser.add_argument("--data", type=Path, required=True, help="folder with train, valid, test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--set", dest="setting", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--label", default="", help="added to the name of the result")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    """Train, rank, print and record."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    machine, rows = describe_machine(), []
    for seed in arguments.seeds:
        rows.append(train_and_rank(arguments, arguments.config, arguments.data, seed))
        print(
            f"seed {seed}: MRR {rows[-1]['mrr']:.4f}, hits@1 {rows[-1]['hits_at_1']:.3f}, "
            f"hits@10 {rows[-1]['hits_at_10']:.3f}, {rows[-1]['training_cpu_s'] / 60:.1f} "
            "CPU minutes",
            flush=True,
        )
    name = arguments.config.stem
    mean = statistics.mean(row["mrr"] for row in rows)
    summary = {"mean_mrr": mean, "bar": BARS.get(name)}
    beside = f"; {BARS[name][0]}: {BARS[name][1]:.4f}" if name in BARS else ""
    print(f"{name}: mean realistic filtered MRR {mean:.4f} over {len(rows)} seeds{beside}")
    write_result(
        f"kg_{name}{'_' + arguments.label if arguments.label else ''}",
        arguments.results,
        machine=machine,
        settings={"config": arguments.config.name, "set": arguments.setting},
        summary=summary,
        rounds=rows,
    )


if __name__ == "__main__":
    main()
