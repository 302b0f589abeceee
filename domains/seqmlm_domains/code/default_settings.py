"""Settings that a run on source code begins with, and what its validation hides."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any, Final

from seqmlm.masking.policy import MaskingPolicy
from seqmlm_domains.code.roles import Role

SAMPLE_PACKAGES: Final = (
    *("asyncio", "collections", "concurrent", "email", "html", "http", "importlib", "json"),
    *("logging", "multiprocessing", "unittest", "urllib", "xml"),
)
"""Of the standard library of Python, which every installation has: 2 MB."""

_IDENTIFIERS: Final[dict[str, Any]] = {
    "per": "unit",
    "selector": {"name": "unit"},
    "corruptor": {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0},
}
"""Of a masking policy: whole identifiers, uniformly, behind mask tokens."""


def small_model() -> dict[str, Any]:
    """Return settings for a model of 2 M parameters, which a CPU can train."""
    return {
        "model": {"layers": 4, "hidden_size": 128, "heads": 4},
        "data": {"max_length": 256},
        "objectives": [{"name": "mlm", "policy": {**_IDENTIFIERS, "rate": 0.2}}],
        "optimizer": {"learning_rate": 2e-3},
    }


def run_on_standard_library() -> dict[str, Any]:
    """Return settings for a run on a few packages of the running Python's standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    sample = [str(library / package) for package in SAMPLE_PACKAGES]
    return {
        "domain": {"vocabulary_size": 4_000},
        "model": {"layers": 2, "hidden_size": 128, "heads": 4},
        "data": {"sources": sample, "max_length": 128, "validation_fraction": 0.1},
        "optimizer": {"learning_rate": 4e-3},
        "training": {
            "steps": 1000,
            "tokens_per_batch": 4096,
            "evaluate_every": 250,
            "checkpoint_every": 500,
        },
    }


def identifiers_hidden(*, rate: float) -> MaskingPolicy:
    """Return the policy that hides a share of the identifiers, drawn uniformly.

    Args:
        rate: share of the units, which are all identifiers.
    """
    return _policy({"rate": rate})


def identifiers_hidden_among_all(*, rate: float) -> MaskingPolicy:
    """Return the policy that hides identifiers, drawn uniformly, where every token is a unit.

    Args:
        rate: share of all units, which only identifiers make up.
    """
    types = [int(role) for role in Role if role != Role.OTHER]
    return _policy({"rate": rate, "selector": {"name": "typed", "types": types}})


def _policy(settings: dict[str, Any]) -> MaskingPolicy:
    return MaskingPolicy.from_settings(_IDENTIFIERS | settings, where="domain.evaluation_policy")
