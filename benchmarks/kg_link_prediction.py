"""Link prediction on a graph: filtered ranks over seeds, beside what embeddings reach.

Trains a configuration with several seeds, chooses each model by validation triples, ranks the test
triples among all entities (realistic, filtered, heads and tails) and gives the mean over seeds with
the CPU minutes. ``--entities`` trains the same configuration with entities written in several ways;
a run with ``tokens`` is scored in every way that needs no other training. ``--embeddings`` trains
PyKEEN's best model for the graph on the same split; ``benchmarks/kg_rank_parity.py`` shows that
both sides count ranks alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.kg_embeddings import BEST_SETTINGS, train_embedding
from benchmarks.record import RESULTS, describe_machine, print_table, write_result
from seqmlm.config import configure
from seqmlm.model.model import Model
from seqmlm.training.loop import train
from seqmlm_domains.kg.calibration import Calibration
from seqmlm_domains.kg.linearisation import End, Representation
from seqmlm_domains.kg.link_scores import LinkScorer, ranks_by_scorer
from seqmlm_domains.kg.metrics import RankMetrics, RankTypes, joined
from seqmlm_domains.kg.predictor import LinkPredictor
from seqmlm_domains.kg.predictor_folder import triples_of_run
from seqmlm_domains.kg.scorer import Normalise

BARS = {
    "nations": ("DistMult, 64 wide, 130 epochs", 0.6702),
    "umls": ("ComplEx, small initialisation, 64 wide, 80 epochs", 0.8857),
}
"""Realistic filtered MRR by the name of the configuration: kg.md 3.6, one seed each."""

TEXT_SETTINGS = ("domain.max_name_tokens=8", "training.tokens_per_batch=7168")
"""A batch counts the longest row that a triple can be: this is 256 rows, as many as with ``id``."""

SETTINGS: dict[Representation, Sequence[str]] = {
    "id": (),
    # Ends up to the last slot: the only training that all three ways of scoring ends can use.
    "tokens": ('domain.end="pad"', *TEXT_SETTINGS),
    "both": ('domain.context="own"', *TEXT_SETTINGS),
}
COLUMNS = ("mrr", "hits_at_1", "hits_at_3", "hits_at_10", "mean_rank", "training_cpu_s")


def train_and_rank(
    arguments: argparse.Namespace, entities: Representation | None, seed: int
) -> dict[str, Any]:
    """Train one seed and rank its test triples; returns measures and CPU seconds."""
    started = time.process_time()
    own = () if entities is None else (f'domain.entities="{entities}"', *SETTINGS[entities])
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        config = configure(
            domain="kg",
            sources=[str(arguments.data)],
            files=[arguments.config],
            overrides=[f"training.seed={seed}", *own, *arguments.setting],
        )
        train(config, run)
        trained_s = time.process_time() - started
        predictor = LinkPredictor.load(run)
        report = predictor.evaluate(arguments.data)
        scorings = score_in_every_way(run, arguments.data) if entities == "tokens" else []
    return {
        "system": entities or config.domain.model_dump().get("entities", "both"),
        "seed": seed,
        **asdict(report.both.realistic),
        "head_mrr": report.head.realistic.mrr,
        "tail_mrr": report.tail.realistic.mrr,
        "unseen_mrr": mrr_if_any(report.unseen),
        "unseen_answers_mrr": mrr_if_any(report.unseen_answers),
        "unseen_queries_mrr": mrr_if_any(report.unseen_queries),
        "copy_the_reverse_mrr": report.copy_the_reverse,
        "tie_rate": report.both.tie_rate,
        "own_weight": predictor.own_weight,
        "expected_calibration_error": error.expected_error
        if (error := predictor.calibration.error)
        else None,
        "training_cpu_s": trained_s,
        "scorings": scorings,
    }


def mrr_if_any(ranks: RankTypes) -> float | None:
    """Return the realistic MRR, None where there is no rank."""
    return ranks.realistic.mrr if ranks.realistic.count else None


def score_in_every_way(run: Path, data: Path) -> list[dict[str, Any]]:
    """Rank validation and test triples by one model with every end and normalisation."""
    model = Model.load(run)
    known = triples_of_run(run, model.domain)
    found = []
    for end, normalise in itertools.product(get_args(End), get_args(Normalise)):
        scorer = LinkScorer.of(model, normalise=normalise, end=end, max_length=known.max_length)
        (ranks,) = ranks_by_scorer(scorer, known.validation, known_triples=known.all)
        both = joined(ranks)
        predictor = LinkPredictor(
            model, known=known, normalise=normalise, end=end,
            calibration=Calibration(), relation_calibration=Calibration(),
        )  # fmt: skip
        found.append(
            {
                "end": end,
                "normalise": normalise,
                "validation_mrr": RankMetrics.of(both.realistic, both.candidates).mrr,
                **asdict(predictor.evaluate(data).both.realistic),
            }
        )
    return found


def summarise(rounds: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the means over seeds of each system, and the range of the MRR."""
    summary = {}
    for system in dict.fromkeys(row["system"] for row in rounds):
        own = [row for row in rounds if row["system"] == system]
        mrr = [row["mrr"] for row in own]
        summary[system] = {
            "seeds": len(own),
            **{name: statistics.mean(row[name] for row in own) for name in COLUMNS},
            "mrr_range": [min(mrr), max(mrr)],
        }
    return summary


def print_results(name: str, rounds: Sequence[dict[str, Any]]) -> None:
    """Print the systems side by side, then the ways of scoring."""
    rows = [
        (
            system,
            str(each["seeds"]),
            f"{each['mrr']:.4f}",
            f"{each['mrr_range'][0]:.4f}-{each['mrr_range'][1]:.4f}",
            *(f"{each[column]:.3f}" for column in COLUMNS[1:4]),
            f"{each['mean_rank']:.2f}",
            f"{each['training_cpu_s'] / 60:.1f}",
        )
        for system, each in summarise(rounds).items()
    ]
    header = ("system", "seeds", "MRR", "range", "hits@1", "hits@3", "hits@10", "MR", "CPU min")
    print_table(f"{name}: realistic filtered, heads and tails", header, rows)
    if name in BARS:
        print(f"{BARS[name][0]}, as published in the reference: {BARS[name][1]:.4f}")
    for row in rounds:
        if row.get("scorings"):
            print_table(
                f"tokens, seed {row['seed']}, trained with ends up to the last slot",
                ("end", "normalise", "validation MRR", "MRR", "hits@1", "hits@10"),
                [
                    (each["end"], each["normalise"], *(f"{each[column]:.4f}" for column in
                     ("validation_mrr", "mrr", "hits_at_1", "hits_at_10")))
                    for each in row["scorings"]
                ],
            )  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--config", type=Path, required=True, help="such as configs/nations.toml")
    parser.add_argument("--data", type=Path, required=True, help="folder with train, valid, test")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only show what is --beside"
    )
    parser.add_argument(
        "--entities",
        nargs="+",
        choices=get_args(Representation),
        help="ways of writing entities; that of the configuration if not given",
    )
    parser.add_argument(
        "--embeddings", action="store_true", help="train PyKEEN's best model too (extra bench)"
    )
    parser.add_argument(
        "--beside", type=Path, nargs="+", default=[], help="results of earlier runs to show too"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--set", dest="setting", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--label", default="", help="added to the name of the result")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def main() -> None:
    """Train, rank, print and record."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    name = arguments.config.stem
    if arguments.embeddings and name not in BEST_SETTINGS:
        raise SystemExit(f"--embeddings: settings are known for {', '.join(BEST_SETTINGS)} only")
    machine = describe_machine()
    rounds = [row for path in arguments.beside for row in json.loads(path.read_text())["rounds"]]
    for entities, seed in itertools.product(arguments.entities or [None], arguments.seeds):
        rounds.append(train_and_rank(arguments, entities, seed))
        print(
            f"{rounds[-1]['system']}, seed {seed}: MRR {rounds[-1]['mrr']:.4f}, "
            f"{rounds[-1]['training_cpu_s'] / 60:.1f} CPU minutes",
            flush=True,
        )
    if arguments.embeddings:
        settings = BEST_SETTINGS[name]
        rounds += [
            {"system": f"PyKEEN {settings.model}"}
            | train_embedding(arguments.data, settings, seed=seed)
            for seed in arguments.seeds
        ]
    print_results(name, rounds)
    write_result(
        f"kg_{name}{'_' + arguments.label if arguments.label else ''}",
        arguments.results,
        machine=machine,
        settings={
            "config": arguments.config.name,
            "set": arguments.setting,
            "by_entities": {entities: SETTINGS[entities] for entities in arguments.entities or []},
            "beside": [path.name for path in arguments.beside],
            "embeddings": asdict(BEST_SETTINGS[name]) if arguments.embeddings else None,
        },
        summary={"systems": summarise(rounds), "bar": BARS.get(name)},
        rounds=rounds,
    )


if __name__ == "__main__":
    main()
