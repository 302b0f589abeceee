"""Settings that a run on a graph begins with, and what it hides."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from seqmlm_domains.kg.linearisation import Part

SAMPLES: Final = Path(__file__).parent / "samples"
"""Small real graphs that ship with the package; sources in its ``ATTRIBUTION.md``."""

HIDDEN_GROUP: Final = {
    "rate": 1.0,
    "selector": {"name": "group", "types": [int(part) for part in Part]},
    "corruptor": {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0},
}
"""The masking policy of link prediction: the missing part is hidden whole."""


def small_graph() -> dict[str, Any]:
    """Return settings for a small graph, which a CPU can train in minutes."""
    return {
        "model": {
            "layers": 2,
            "hidden_size": 96,
            "heads": 4,
            "segments": 3,
            "dropout": 0.2,
        },
        "data": {"max_length": 64, "split": "random"},
        "objectives": [{"name": "mlm", "policy": dict(HIDDEN_GROUP)}],
        "optimizer": {"learning_rate": 2e-3, "weight_decay": 0.1},
        "training": {"tokens_per_batch": 4096, "select": "best"},
    }


def run_on_nations() -> dict[str, Any]:
    """Return a run on Nations: 14 countries, 55 relations, 1,592 training triples.

    About a minute on one core. Entities are tokens of their own: 14 names teach nothing.
    """
    return {
        "domain": {"entities": "id"},
        "model": {"hidden_size": 64},
        "data": {"sources": [str(SAMPLES / "nations")]},
        "training": {
            "steps": 1500,
            "tokens_per_batch": 640,
            "evaluate_every": 250,
            "checkpoint_every": 500,
        },
    }
