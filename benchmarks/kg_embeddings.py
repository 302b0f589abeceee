"""Embedding models of PyKEEN, trained on the same splits as ours and ranked by our counting.

The settings are the best found for each graph, not PyKEEN's defaults: ComplEx with its default
initialisation and regulariser reaches less than a third of the MRR on UMLS. PyKEEN's own evaluator
must find the same realistic MRR on the same model.
"""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqmlm.data.report import ReadReport
from seqmlm_domains.kg.graph_folder import GraphFolder
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.metrics import RankMetrics, joined
from seqmlm_domains.kg.ranking import Queries, Ranks, Triples, query_batches, rank_answers
from seqmlm_domains.kg.triples import read_triples

QUERIES_PER_BATCH = 256
LARGEST_DIFFERENCE = 1e-5
"""Between two MRR of the same ranks, averaged in different orders and precisions."""


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """How an embedding model is trained: LCWA with inverse triples, cross-entropy and Adam.

    Args:
        model: PyKEEN's name.
        dimension: of the embeddings.
        learning_rate: of Adam.
        epochs: over the different (entity, relation) pairs.
        initial_deviation: standard deviation of entities and relations at the start, without a
            regulariser then; None leaves both as PyKEEN has them.
        batch_size: pairs.
    """

    model: str
    dimension: int
    learning_rate: float
    epochs: int
    initial_deviation: float | None = None
    batch_size: int = 256


BEST_SETTINGS = {
    "nations": EmbeddingSettings("DistMult", 64, 0.003, 130),
    "umls": EmbeddingSettings("ComplEx", 64, 0.005, 80, initial_deviation=0.01),
}


@dataclass(frozen=True)
class NumberedGraph:
    """The parts of a graph, as numbers.

    Args:
        parts: int64 ``[n, 3]`` each: ``train``, ``validation`` and ``test``.
        num_entities: of all parts.
        num_relations: likewise.
    """

    parts: dict[str, Triples]
    num_entities: int
    num_relations: int

    @property
    def test(self) -> Triples:
        """Triples to rank, int64 ``[n, 3]``."""
        return self.parts["test"]

    @property
    def known(self) -> Triples:
        """Triples of all parts, int64 ``[m, 3]``."""
        return np.concatenate(list(self.parts.values()))

    @classmethod
    def read(cls, folder: Path) -> NumberedGraph:
        """Number the entities and relations of a folder."""
        entities: dict[str, int] = {}
        relations: dict[str, int] = {}
        parts = {
            part: np.array(
                [
                    (
                        entities.setdefault(triple.head, len(entities)),
                        relations.setdefault(triple.relation, len(relations)),
                        entities.setdefault(triple.tail, len(entities)),
                    )
                    for triple in read_triples(path, ReadReport())
                ],
                np.int64,
            )
            for part, path in GraphFolder.find(folder).parts.items()
        }
        return cls(parts, len(entities), len(relations))


def train_embedding(folder: Path, settings: EmbeddingSettings, *, seed: int) -> dict[str, Any]:
    """Train one seed and rank the test triples; returns measures and CPU seconds."""
    from pykeen.losses import CrossEntropyLoss
    from pykeen.models import model_resolver
    from pykeen.training import LCWATrainingLoop
    from pykeen.triples import CoreTriplesFactory

    graph = NumberedGraph.read(folder)
    factory = CoreTriplesFactory.create(
        torch.from_numpy(graph.parts["train"]),
        num_entities=graph.num_entities,
        num_relations=graph.num_relations,
        create_inverse_triples=True,
    )
    started = time.process_time()
    model = model_resolver.make(
        settings.model,
        triples_factory=factory,
        embedding_dim=settings.dimension,
        loss=CrossEntropyLoss(),
        random_seed=seed,
        **_start(settings.initial_deviation),
    )
    loop = LCWATrainingLoop(
        model=model,
        triples_factory=factory,
        optimizer=torch.optim.Adam(model.parameters(), lr=settings.learning_rate),
    )
    with _without_collection():
        loop.train(
            factory,
            num_epochs=settings.epochs,
            batch_size=settings.batch_size,
            use_tqdm=False,
            pin_memory=False,
        )
    trained_s = time.process_time() - started
    both = joined(rank_with(model, graph))
    found = RankMetrics.of(both.realistic, both.candidates)
    _require_same(model, graph, found.mrr)
    return {"seed": seed, "training_cpu_s": trained_s, **asdict(found)}


def rank_with(model: Any, graph: NumberedGraph) -> dict[Part, Ranks]:
    """Rank test triples by a PyKEEN model's scores, counted as those of our models are."""
    ranks = {}
    for missing in (Part.HEAD, Part.TAIL):
        queries = Queries.of(graph.test, missing, known_triples=graph.known)
        found = np.zeros((3, len(graph.test)), np.int64)
        for batch in query_batches(queries, QUERIES_PER_BATCH):
            scores = _scores(model, missing, torch.from_numpy(queries.known[batch]))
            counted, which = rank_answers(
                queries,
                batch.start,
                scores.__getitem__,
                num_entities=graph.num_entities,
                device=scores.device,
            )
            found[:, which] = (counted.optimistic, counted.pessimistic, counted.candidates)
        ranks[missing] = Ranks(*found)
    return ranks


@torch.no_grad()
def _scores(model: Any, missing: Part, known: Tensor) -> Tensor:
    """Scores of all entities, float32 ``[entities, queries]``; known entity, then relation."""
    if missing == Part.HEAD:
        found: Tensor = model.predict_h(known.flip(1))
    else:
        found = model.predict_t(known)
    return found.T.contiguous()


def _start(deviation: float | None) -> dict[str, Any]:
    if deviation is None:
        return {}
    initialise: Callable[[Tensor], Tensor] = functools.partial(nn.init.normal_, std=deviation)
    return {
        "entity_initializer": initialise,
        "relation_initializer": initialise,
        "regularizer": None,
    }


def _require_same(model: Any, graph: NumberedGraph, mrr: float) -> None:
    """Stop if PyKEEN's evaluator finds another MRR."""
    from pykeen.evaluation import RankBasedEvaluator

    result = RankBasedEvaluator(filtered=True).evaluate(
        model,
        torch.from_numpy(graph.test),
        batch_size=QUERIES_PER_BATCH,
        additional_filter_triples=[
            torch.from_numpy(graph.parts[part]) for part in ("train", "validation")
        ],
        use_tqdm=False,
    )
    theirs = float(result.get_metric("both.realistic.inverse_harmonic_mean_rank"))
    if abs(theirs - mrr) > LARGEST_DIFFERENCE:
        raise SystemExit(f"PyKEEN's evaluator finds MRR {theirs}, ours {mrr}")


@contextmanager
def _without_collection() -> Iterator[None]:
    """PyKEEN collects garbage after every epoch, which takes longer than a small graph's epoch."""
    collect = gc.collect
    gc.collect = lambda generation=2: 0
    try:
        yield
    finally:
        gc.collect = collect
