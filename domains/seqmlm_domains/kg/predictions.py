"""What a link predictor answers with."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from seqmlm.errors import ConfigError

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
    """

    head: float
    tail: float

    @property
    def mean(self) -> float:
        """Of both directions, nats."""
        return (self.head + self.tail) / 2


Item = EntityPrediction | RelationPrediction | TripleScore


def to_dataframe(items: Sequence[Item] | Sequence[Sequence[Item]]) -> pandas.DataFrame:
    """Return predictions as a table with a row per item, in their order.

    Those of several queries get a column ``query`` with the number of the query.

    Raises:
        ConfigError: pandas is not installed.
    """
    if importlib.util.find_spec("pandas") is None:
        raise ConfigError("A DataFrame needs pandas, which is not installed: pip install pandas")
    import pandas

    rows = []
    for number, item in enumerate(items):
        if isinstance(item, Sequence):
            rows += [{"query": number, **asdict(each)} for each in item]
        else:
            rows.append(asdict(item))
    columns = None if rows else [field.name for field in fields(EntityPrediction)]
    return pandas.DataFrame(rows, columns=columns)
