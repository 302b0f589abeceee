"""Time to score and rank all entities for the test queries of a graph, given log-probabilities.

No model takes part: the log-probabilities of every slot are random, as a softmax would give them,
and are drawn while the clock stands. What is timed is the gathering of the columns that entities
use, the mean likelihood of every entity, and the filtered rank of every true answer.

The naive way is a padded gather: ``[queries, entities, longest name]`` numbers, masked, then
averaged. It is timed on the same log-probabilities, a few queries at a time because of its memory;
the ratio is that of one query. Scores are held to a plain loop over entities.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.record import (
    RESULTS,
    Elapsed,
    Spread,
    Stopwatch,
    describe_machine,
    peak_memory_mib,
    print_table,
    reset_peak_memory,
    write_result,
)
from seqmlm.data.report import ReadReport
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.evaluation import with_entities_of
from seqmlm_domains.kg.graph_folder import GraphFolder
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.link_scores import QUERIES_PER_BATCH, numbered
from seqmlm_domains.kg.ranking import Queries, query_batches, rank_answers
from seqmlm_domains.kg.scorer import EntityScorer, padded_mean
from seqmlm_domains.kg.triples import read_triples

NAME = "kg_scoring"
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Workload:
    """A graph without a model.

    Args:
        domain: knows entities and their tokens.
        scorer: of all entities.
        queries: heads and tails of the test triples.
        seed: of the log-probabilities.
    """

    domain: KnowledgeGraphDomain
    scorer: EntityScorer
    queries: tuple[Queries, Queries]
    seed: int

    def log_probabilities(self, batch: int, queries: int) -> Tensor:
        """Random, float32 ``[queries, slots, vocabulary]``."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + batch)
        size = (queries, self.domain.linearisation.slots.total, len(self.domain.vocabulary))
        return (3 * torch.randn(size, generator=generator)).log_softmax(-1)


def prepare(folder: Path, *, entities: str, vocabulary_size: int, seed: int) -> Workload:
    """Read a graph and lay out its entities."""
    domain = KnowledgeGraphDomain(entities=entities, vocabulary_size=vocabulary_size)  # type: ignore[arg-type]
    domain.fit_tokenizer(list(domain.read([folder], ReadReport())))
    files = GraphFolder.find(folder)
    paths = [path for path in (files.train, files.validation, files.test) if path is not None]
    parts = [[triple.key for triple in read_triples(path, ReadReport())] for path in paths]
    known = [triple for part in parts for triple in part]
    with_entities_of(domain, known, {})
    test, everything = numbered(domain, parts[-1]), numbered(domain, known)
    return Workload(
        domain,
        EntityScorer.of(domain.graph.entities, domain.linearisation.slots),
        (
            Queries.of(test, Part.HEAD, known_triples=everything),
            Queries.of(test, Part.TAIL, known_triples=everything),
        ),
        seed,
    )


def score_and_rank(work: Workload) -> tuple[Elapsed, int]:
    """Rank the answers of all queries; returns the time without drawing, and the queries."""
    cpu_s = wall_s = 0.0
    done = number = 0
    for queries in work.queries:
        for batch in query_batches(queries, QUERIES_PER_BATCH):
            drawn = work.log_probabilities(number, batch.stop - batch.start)
            watch = Stopwatch()
            columns = gathered(work, drawn)
            rank_answers(
                queries,
                batch.start,
                partial(work.scorer.score, columns),
                num_entities=work.scorer.num_entities,
                device=columns.device,
            )
            spent = watch.elapsed()
            cpu_s, wall_s = cpu_s + spent.cpu_s, wall_s + spent.wall_s
            done, number = done + batch.stop - batch.start, number + 1
    return Elapsed(cpu_s, wall_s), done


def gathered(work: Workload, log_probabilities: Tensor) -> Tensor:
    """The columns that entities use, float32 ``[columns, queries]``."""
    slots, tokens = torch.from_numpy(work.scorer.slots).long(), torch.from_numpy(work.scorer.tokens)
    places = slots * log_probabilities.shape[2] + tokens
    return log_probabilities.flatten(1).index_select(1, places).T.contiguous()


def padded_gather(work: Workload) -> Callable[[Tensor], Tensor]:
    """The naive scorer: ``[queries, slots, vocabulary]`` to ``[queries, entities]``."""
    offsets = work.scorer.offsets
    lengths = torch.diff(offsets)
    width, rows = int(lengths.max()), torch.arange(work.scorer.num_entities)
    slots = torch.zeros(len(rows), width, dtype=torch.int64)
    tokens, used = torch.zeros_like(slots), torch.zeros(len(rows), width)
    row = torch.repeat_interleave(rows, lengths)
    column = torch.arange(len(work.scorer.entries)) - offsets[row]
    entries = work.scorer.entries.long()
    slots[row, column] = torch.from_numpy(work.scorer.slots).long()[entries]
    tokens[row, column] = torch.from_numpy(work.scorer.tokens)[entries]
    used[row, column] = 1

    def score(log_probabilities: Tensor) -> Tensor:
        return (log_probabilities[:, slots, tokens] * used).sum(-1) / lengths

    return score


def largest_difference(work: Workload, queries: int) -> float:
    """From a loop over entities that knows nothing of the layout, nats."""
    drawn = work.log_probabilities(0, queries)
    table, slots = work.domain.graph.entities, work.domain.linearisation.slots
    pairs = [
        tuple(map(np.ndarray.tolist, slots.targets(int(own), table.name_tokens[number])))
        for number, own in enumerate(table.id_tokens)
    ]
    expected = padded_mean(drawn, pairs)
    return float((work.scorer.score(gathered(work, drawn)).T - expected).abs().max())


def measure_round(work: Workload, naive: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """One pass over all queries, and the naive scorer on a few."""
    reset_peak_memory()
    before = peak_memory_mib()
    elapsed, queries = score_and_rank(work)
    added_mib = peak_memory_mib() - before
    drawn = work.log_probabilities(0, QUERIES_PER_BATCH)
    watch = Stopwatch()
    work.scorer.score(gathered(work, drawn))
    ours_s = watch.elapsed().cpu_s / len(drawn)
    watch = Stopwatch()
    for query in drawn[:4]:
        naive(query[None])
    naive_s = watch.elapsed().cpu_s / 4
    return {
        "queries": queries,
        **asdict(elapsed),
        "added_mib": added_mib,
        "ours_ms_per_query": 1e3 * ours_s,
        "naive_ms_per_query": 1e3 * naive_s,
        "ratio": naive_s / ours_s,
    }


def summarise(rounds: list[dict[str, float]], difference: float) -> dict[str, Any]:
    """Medians and spreads over the rounds."""
    return {
        name: Spread.of([done[name] for done in rounds])
        for name in ("cpu_s", "wall_s", "added_mib", "ours_ms_per_query", "ratio")
    } | {"queries": int(rounds[0]["queries"]), "largest_difference_nats": difference}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder such as WN18RR")
    parser.add_argument("--entities", choices=("tokens", "id", "both"), default="tokens")
    parser.add_argument("--vocabulary-size", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    return parser.parse_args()


def main() -> None:
    """Run all rounds and write the result."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    machine = describe_machine()
    work = prepare(
        arguments.data,
        entities=arguments.entities,
        vocabulary_size=arguments.vocabulary_size,
        seed=arguments.seed,
    )
    difference = largest_difference(work, 4)
    if difference > TOLERANCE:
        raise SystemExit(f"scores differ from the loop by {difference} nats")
    naive = padded_gather(work)
    rounds = [measure_round(work, naive) for _ in range(arguments.rounds)]
    summary = summarise(rounds, difference)
    print_table(
        f"{summary['queries']:,} queries x {work.scorer.num_entities:,} entities, "
        f"{len(work.scorer.tokens):,} columns, {len(work.scorer.entries):,} tokens of entities",
        ["", "median (lowest to highest)"],
        [
            ["scored and ranked, CPU s", str(summary["cpu_s"])],
            ["memory added, MiB", str(summary["added_mib"])],
            ["scored, ms a query", str(summary["ours_ms_per_query"])],
            ["padded gather / ours", str(summary["ratio"])],
            ["largest difference, nats", f"{difference:.1e}"],
        ],
    )
    write_result(
        NAME, arguments.results,
        machine=machine, settings=vars(arguments), rounds=rounds, summary=summary,
    )  # fmt: skip


if __name__ == "__main__":
    main()
