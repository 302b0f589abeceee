"""Edge prediction: the relation of a triple is hidden, head and tail are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from torch import Tensor

from seqmlm.data.corpus import Corpus
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.objectives.rows import LossSum, Objective, Prepared, Row, Targets
from seqmlm_domains.kg.domain import KnowledgeGraphDomain, require_graph_domain
from seqmlm_domains.kg.linearisation import Part

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model

NAME: Final = "masked_relation"


class MaskedRelation(Objective):
    """Which relation joins two entities: the graph's structure, beside its entities.

    Every triple gives one question more, with a weight, a schedule and a held-out loss of its own.
    The domain's ``relation_share`` asks the same of some triples, in place of an entity.

    Args:
        domain: of a knowledge graph.

    Raises:
        ConfigError: it is another domain.
    """

    name = NAME

    def __init__(self, domain: Domain) -> None:
        if not isinstance(domain, KnowledgeGraphDomain):
            raise ConfigError(
                f"objective {NAME!r} does not fit domain {domain.registered_name!r}: it predicts "
                "the relations of a knowledge graph (domain 'kg')."
            )
        self._domain = domain

    @property
    def mask_token_rate(self) -> float:
        """The one unit of a question is always hidden."""
        return 1.0

    def prepare(
        self, corpus: Corpus, record: int, encoding: Encoding, generator: np.random.Generator
    ) -> Prepared:
        """Write the record's triple with its relation missing, whatever part was missing."""
        tokens = corpus.store[record]
        return Prepared(
            self._domain.assemble_relation(
                tokens, max_length=corpus.max_length, generator=generator
            )
        )

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> list[Row]:
        """Return the triple with its relation hidden; what else is written of it is left out."""
        of_relation = np.flatnonzero(encoding.segment_ids == Part.RELATION)
        place, kept = int(of_relation[0]), np.ones(len(encoding), np.bool_)
        kept[of_relation[1:]] = False
        label = encoding.ids[place : place + 1]
        ids = encoding.ids.copy()
        ids[place] = self._domain.vocabulary.special.mask
        position = np.array([place], np.int32)
        targets = Targets(position, label, self._domain.allowed_at(label))
        return [
            Row(
                ids[kept],
                np.arange(int(kept.sum()), dtype=np.int32),
                encoding.segment_ids[kept],
                targets={self.name: targets},
            )
        ]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropy of the relations, nats, and their number."""
        return model.token_loss(hidden, batch.targets_for(self.name))


def has_learned_relations(model: Model) -> bool:
    """Say whether a model was trained to predict relations, as an objective or as a share."""
    domain = require_graph_domain(model.domain)
    return bool(domain.options["relation_share"]) or any(
        objective.name == NAME for objective in model.trained_objectives
    )
