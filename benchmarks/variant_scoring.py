"""Seconds to score TEM-1's single mutants by masked marginals: batched, and one site at a time.

The model has the settings of ESM-2 8M (6 layers, 320 wide, 20 heads) and random weights. Each round
takes the contenders one after the other through the same sites in one process, so that a busy
machine slows all of them alike; the ratios are those of one round. That the first two give the same
scores is tested (``tests/interop/test_imported_scores.py``).

- batched: ``VariantScorer`` with the imported weights, only the mutated sites, packed into batches;
- HF loop: ``EsmForMaskedLM`` in the way of fair-esm's ``predict.py``: one pass for every token of
  the protein, logits of all tokens;
- random masks: ``VariantScorer`` with method random-mask; another score, in fewer passes.

The arithmetic of the first two is nearly the same: every site needs a pass over the whole protein,
because a mask changes the states of all residues from the first layer on. What can be left out
without changing a score is left out: tokens that are not mutated (9 % of the passes) and, in the
last layer, all but the masked residue (12 % of the linear maps). The rest is faster kernels.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.esm2 import HEADS, HIDDEN_SIZE, LAYERS, build_peer, import_peer
from benchmarks.record import (
    RESULTS,
    Elapsed,
    Spread,
    Stopwatch,
    describe_machine,
    print_table,
    write_result,
)
from seqmlm.domain import build_domain
from seqmlm_domains.protein.domain import SAMPLES
from seqmlm_domains.protein.tokenizer import VOCABULARY
from seqmlm_domains.protein.variants.scorer import Method, VariantScorer
from seqmlm_domains.protein.variants.wild_type import read_wild_type

NAME = "variant_scoring"
TOKENS_PER_BATCH = 8192

Contender = Callable[[], None]


def contenders(sites: int | None) -> dict[str, Contender]:
    """Return what each one does in a round; ``sites`` of the protein, or all."""
    domain = build_domain({"name": "protein"})
    wild_type = read_wild_type(SAMPLES / "BLAT_ECOLX.fasta").content
    with gzip.open(SAMPLES / "BLAT_ECOLX_Stiffler2015_singles.csv.gz", "rt") as file:
        variants = [row["mutant"] for row in csv.DictReader(file)]
    chosen = sorted({int(variant[1:-1]) for variant in variants})[:sites]
    variants = [variant for variant in variants if int(variant[1:-1]) <= chosen[-1]]
    peer = build_peer()
    scorer = VariantScorer(import_peer(peer))
    ids = torch.from_numpy(domain.parse(wild_type).ids).long()
    # fair-esm goes through every token; of a part of the sites, the same share of the tokens.
    looped = range(len(ids) if sites is None else round(len(ids) * len(chosen) / 263))

    def score(method: Method, tokens_per_batch: int) -> None:
        scores = scorer.score(wild_type, variants, method=method, tokens_per_batch=tokens_per_batch)
        assert scores.num_scored == len(variants)

    def loop() -> None:
        with torch.inference_mode():
            for position in looped:
                row = ids[None].clone()
                row[0, position] = VOCABULARY.special.mask
                logits = peer(input_ids=row, attention_mask=torch.ones_like(row)).logits
                torch.log_softmax(logits, dim=-1)[:, position]

    named = {"batched": lambda: score("masked-marginal", TOKENS_PER_BATCH), "HF loop": loop}
    if sites is None:  # its passes do not depend on the number of sites
        named["random masks"] = lambda: score("random-mask", TOKENS_PER_BATCH)
    return named


def measure(named: Mapping[str, Contender], rounds: int) -> list[dict[str, Elapsed]]:
    """Return the time of each contender in each round."""
    found = []
    for number in range(1, rounds + 1):
        times = {}
        for name, contender in named.items():
            watch = Stopwatch()
            contender()
            times[name] = watch.elapsed()
        found.append(times)
        print(f"round {number}: " + ", ".join(f"{k} {v.wall_s:.1f} s" for k, v in times.items()))
    return found


def main() -> int:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sites", type=int, help="only so many of the 263 mutated sites")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = describe_machine()
    measure(contenders(2), 1)  # what is slow only once
    rounds = measure(contenders(arguments.sites), arguments.rounds)
    rows, summary = [], {}
    for name in rounds[0]:
        ratios = [times[name].cpu_s / times["batched"].cpu_s for times in rounds]
        wall = [times[name].wall_s / times["batched"].wall_s for times in rounds]
        seconds = Spread.of([times[name].wall_s for times in rounds])
        rows.append(
            (name, str(seconds), str(Spread.of([times[name].cpu_s for times in rounds])),
             f"{statistics.median(wall):.2f}", f"{statistics.median(ratios):.2f}")
        )  # fmt: skip
        summary[name] = {
            "wall_s": seconds,
            "wall_over_batched": Spread.of(wall),
            "cpu_over_batched": Spread.of(ratios),
        }
    print_table(
        f"single mutants of TEM-1, {arguments.sites or 263} sites, {len(rounds)} rounds",
        ("contender", "seconds", "CPU seconds", "time / batched", "CPU time / batched"),
        rows,
    )
    write_result(
        NAME,
        arguments.results,
        machine=machine,
        settings=vars(arguments) | {"tokens_per_batch": TOKENS_PER_BATCH, "layers": LAYERS,
                                    "hidden_size": HIDDEN_SIZE, "heads": HEADS},
        rounds=[{name: asdict(elapsed) for name, elapsed in times.items()} for times in rounds],
        summary=summary,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
