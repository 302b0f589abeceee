"""Ranks beside those of PyKEEN's ``RankBasedEvaluator``, on the same scores with planted ties.

The scores are random; a share of them is rounded to halves, so that entities tie at every level.
PyKEEN filters with its own functions, triple by triple; ours counts per different query. All rank
arrays, head and tail, optimistic, realistic and pessimistic, and the numbers of candidates must be
identical, and the summaries equal to rounding.

PyKEEN is no dependency of this project: install it beside (``pip install pykeen``).
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.kg_embeddings import NumberedGraph
from benchmarks.record import RESULTS, describe_machine, print_table, write_result
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.metrics import RankMetrics, joined
from seqmlm_domains.kg.ranking import Queries, Ranks, Triples, query_batches, rank_answers

NAME = "kg_rank_parity"
QUERIES_PER_BATCH = 32
SIDES = {Part.HEAD: "head", Part.TAIL: "tail"}
METRICS = {
    "mrr": "inverse_harmonic_mean_rank",
    "hits_at_1": "hits_at_1",
    "hits_at_3": "hits_at_3",
    "hits_at_10": "hits_at_10",
    "mean_rank": "arithmetic_mean_rank",
    "adjusted_mean_rank_index": "adjusted_arithmetic_mean_rank_index",
}
"""Our name of each measure, and PyKEEN's."""


def tied_scores(
    queries: Queries, batch: slice, *, num_entities: int, tie_share: float, seed: int
) -> Tensor:
    """Random scores, float32 ``[entities, queries]``, a share of them rounded to halves.

    True answers score higher than others on average, so that there are ranks of every size.
    """
    generator = np.random.default_rng((seed, int(queries.missing), batch.start))
    scores = generator.standard_normal((num_entities, batch.stop - batch.start), np.float32)
    for column, query in enumerate(range(batch.start, batch.stop)):
        begin, end = queries.answer_offsets[query : query + 2]
        scores[queries.answers[begin:end], column] += 2
    is_tied = generator.random(scores.shape) < tie_share
    return torch.from_numpy(np.where(is_tied, np.round(2 * scores) / 2, scores))


def compare(
    graph: NumberedGraph, evaluator: Any, *, tie_share: float, seed: int
) -> dict[Part, Ranks]:
    """Rank with both; returns our ranks, and leaves PyKEEN's in its evaluator."""
    ours = {}
    for missing in SIDES:
        queries = Queries.of(graph.test, missing, known_triples=graph.known)
        found = np.zeros((3, len(graph.test)), np.int64)
        theirs_order = []
        for batch in query_batches(queries, QUERIES_PER_BATCH):
            scores = tied_scores(
                queries, batch, num_entities=graph.num_entities, tie_share=tie_share, seed=seed
            )
            ranks, which = rank_answers(
                queries,
                batch.start,
                scores.__getitem__,
                num_entities=graph.num_entities,
                device=scores.device,
            )
            found[:, which] = (ranks.optimistic, ranks.pessimistic, ranks.candidates)
            sizes = np.diff(queries.answer_offsets[batch.start : batch.stop + 1])
            columns = np.repeat(np.arange(len(sizes)), sizes)
            rank_with_pykeen(evaluator, graph, missing, which, scores.T[columns])
            theirs_order.append(which)
        order = np.concatenate(theirs_order)
        require_equal(evaluator, missing, Ranks(*found[:, order]))
        ours[missing] = Ranks(*found)
    return ours


def rank_with_pykeen(
    evaluator: Any, graph: NumberedGraph, missing: Part, which: Triples, scores: Tensor
) -> None:
    """Filter and rank, one row of scores per triple, as PyKEEN's evaluation loop does."""
    from pykeen.evaluation.evaluator import create_sparse_positive_filter_, filter_scores_

    triples, rows = torch.from_numpy(graph.test[which]), torch.arange(len(which))
    true_scores = scores[rows, triples[:, missing]].clone()
    positives, _ = create_sparse_positive_filter_(
        triples, torch.from_numpy(graph.known), filter_col=int(missing)
    )
    filtered = filter_scores_(scores.clone(), positives)
    filtered[rows, triples[:, missing]] = true_scores
    evaluator.process_scores_(
        hrt_batch=triples,
        target=SIDES[missing],
        scores=filtered,
        true_scores=true_scores[:, None],
    )


def require_equal(evaluator: Any, missing: Part, ours: Ranks) -> None:
    """Stop if any rank of one side differs."""
    side = SIDES[missing]
    for kind in ("optimistic", "realistic", "pessimistic"):
        theirs = np.concatenate(evaluator.ranks[side, kind])
        if not np.array_equal(theirs, getattr(ours, kind)):
            raise SystemExit(f"{side}: {kind} ranks differ")
    if not np.array_equal(np.concatenate(evaluator.num_candidates[side]), ours.candidates):
        raise SystemExit(f"{side}: numbers of candidates differ")


def summaries(ours: dict[Part, Ranks], evaluator: Any) -> dict[str, tuple[float, float]]:
    """Each measure of the realistic ranks of both sides: ours and PyKEEN's."""
    both = joined(ours)
    found = RankMetrics.of(both.realistic, both.candidates)
    theirs = evaluator.finalize()
    return {
        name: (getattr(found, name), float(theirs.get_metric(f"both.realistic.{other}")))
        for name, other in METRICS.items()
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of graphs")
    parser.add_argument("--tie-share", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    return parser.parse_args()


def main() -> None:
    """Compare on every graph and write the result."""
    arguments = parse_arguments()
    if importlib.util.find_spec("pykeen") is None:
        raise SystemExit("PyKEEN is not installed: pip install pykeen")
    from pykeen import get_version
    from pykeen.evaluation import RankBasedEvaluator

    machine = describe_machine() | {"pykeen": get_version()}
    rounds = {}
    for folder in arguments.data:
        graph, evaluator = NumberedGraph.read(folder), RankBasedEvaluator(filtered=True)
        ours = compare(graph, evaluator, tie_share=arguments.tie_share, seed=arguments.seed)
        tied = float((joined(ours).optimistic != joined(ours).pessimistic).mean())
        measured = summaries(ours, evaluator)
        for name, (left, right) in measured.items():
            if not np.isclose(left, right, rtol=1e-6, atol=1e-6):
                raise SystemExit(f"{folder.name}: {name} differs: {left} and {right}")
        rounds[folder.name] = {"ranks": 2 * len(graph.test), "tied": tied, **measured}
        print_table(
            f"{folder.name}: {2 * len(graph.test):,} ranks identical, {tied:.1%} of them tied",
            ["realistic, both sides", "seqmlm", "PyKEEN"],
            [[name, f"{a:.6f}", f"{b:.6f}"] for name, (a, b) in measured.items()],
        )
    write_result(
        NAME, arguments.results,
        machine=machine, settings=vars(arguments) | {"data": [p.name for p in arguments.data]},
        rounds=rounds, summary="identical",
    )  # fmt: skip


if __name__ == "__main__":
    main()
