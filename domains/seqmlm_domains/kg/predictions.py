"""What a link predictor answers with."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from seqmlm.errors import ConfigError
from seqmlm_domains.kg.triples import StatedTriple

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class EntityPrediction:
    """One candidate for a missing head or tail.

    Args:
        entity: its identifier.
        name: what people call it.
        score: mean log-likelihood of its tokens, nats; see ``normalise`` of the predictor.
        probability: among all candidates of the query, calibrated; in [0, 1].
    """

    entity: str
    name: str
    score: float
    probability: float


@dataclass(frozen=True, slots=True)
class RelationPrediction:
    """One candidate for a missing relation.

    Args:
        relation: its identifier.
        name: what people call it.
        score: log-likelihood of its token, nats.
        probability: among all candidates of the query, calibrated; in [0, 1].
    """

    relation: str
    name: str
    score: float
    probability: float


@dataclass(frozen=True, slots=True)
class TripleScore:
    """How likely a model finds a triple.

    Args:
        head: score of its head, given relation and tail, nats.
        tail: score of its tail, given head and relation, nats.
        triple: identifiers of head, relation and tail.
    """

    head: float
    tail: float
    triple: StatedTriple

    @property
    def mean(self) -> float:
        """Of both directions, nats."""
        return (self.head + self.tail) / 2


Item = EntityPrediction | RelationPrediction | TripleScore


def to_dataframe(items: Sequence[Item] | Sequence[Sequence[Item]]) -> pandas.DataFrame:
    """Return predictions as a table with a row per item, in their order.

    Those of several queries get a column ``query`` with the number of the query. Scores of triples
    get ``head``, ``relation`` and ``tail``, then ``head_score``, ``tail_score`` and their mean.

    Raises:
        ConfigError: pandas is not installed.
    """
    if importlib.util.find_spec("pandas") is None:
        raise ConfigError("A DataFrame needs pandas, which is not installed: pip install pandas")
    import pandas

    rows = []
    for number, item in enumerate(items):
        if isinstance(item, Sequence):
            rows += [{"query": number, **_row(each)} for each in item]
        else:
            rows.append(_row(item))
    columns = None if rows else [field.name for field in fields(EntityPrediction)]
    return pandas.DataFrame(rows, columns=columns)


def _row(item: Item) -> dict[str, str | float]:
    if not isinstance(item, TripleScore):
        return asdict(item)
    names = dict(zip(("head", "relation", "tail"), item.triple, strict=True))
    scores = {"head_score": item.head, "tail_score": item.tail, "mean_score": item.mean}
    return {**names, **scores}
