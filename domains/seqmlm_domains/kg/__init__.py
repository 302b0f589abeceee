"""Knowledge graphs: triples as sequences, entities as tokens, link prediction by likelihood.

Public names are loaded when first used: the command line imports this package before it needs
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqmlm_domains.kg.explanation import Explanation
    from seqmlm_domains.kg.metrics import RankingReport
    from seqmlm_domains.kg.networkx_graph import (
        from_networkx,
        texts_from_networkx,
        to_networkx,
    )
    from seqmlm_domains.kg.predictions import (
        EntityPrediction,
        RelationPrediction,
        TripleScore,
        to_dataframe,
    )
    from seqmlm_domains.kg.predictor import LinkPredictor
    from seqmlm_domains.kg.triples import NameAndDescription

_HOMES = {
    "EntityPrediction": "predictions",
    "Explanation": "explanation",
    "LinkPredictor": "predictor",
    "NameAndDescription": "triples",
    "RankingReport": "metrics",
    "RelationPrediction": "predictions",
    "TripleScore": "predictions",
    "from_networkx": "networkx_graph",
    "texts_from_networkx": "networkx_graph",
    "to_dataframe": "predictions",
    "to_networkx": "networkx_graph",
}

__all__ = [
    "EntityPrediction",
    "Explanation",
    "LinkPredictor",
    "NameAndDescription",
    "RankingReport",
    "RelationPrediction",
    "TripleScore",
    "from_networkx",
    "texts_from_networkx",
    "to_dataframe",
    "to_networkx",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
