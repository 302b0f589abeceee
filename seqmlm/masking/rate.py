"""Mask rates that change over a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from seqmlm.errors import ConfigError


@dataclass(frozen=True)
class RateSchedule:
    """A rate that goes from one value to another over the run.

    Args:
        start: rate of the first step, in (0, 1].
        end: rate of the last step, in (0, 1].
        shape: ``linear``, or ``cosine`` (half a wave: slow at both ends).

    Raises:
        ConfigError: a rate is out of range, or the shape is unknown.
    """

    start: float
    end: float
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            check_share(getattr(self, name), f"rate.{name}")
        if self.shape not in ("linear", "cosine"):
            raise ConfigError(f"rate.shape = {self.shape!r}: it is 'linear' or 'cosine'.")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> RateSchedule:
        """Build a schedule from the table that stands in the place of a rate.

        Raises:
            ConfigError: a key is unknown or missing, or a value out of range.
        """
        unknown = sorted(settings.keys() - {"start", "end", "shape"})
        if unknown or not {"start", "end"} <= settings.keys():
            raise ConfigError(
                f"rate = {dict(settings)}: give a number, or a table of start, end and perhaps "
                "shape, such as { start = 0.5, end = 0.1, shape = 'cosine' }."
            )
        return cls(**settings)

    @property
    def mean(self) -> float:
        """Mean rate over a run; both shapes are symmetric about their middle."""
        return (self.start + self.end) / 2

    def at(self, progress: float) -> float:
        """Return the rate at a point of the run; ``progress`` goes from 0 to 1."""
        done = progress if self.shape == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return self.start + (self.end - self.start) * done


def check_share(value: object, name: str) -> None:
    """Refuse what is no number in (0, 1]; ``name`` says which setting it is.

    Raises:
        ConfigError: names the setting, the value and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ConfigError(f"{name} = {value!r}: must be a number in (0, 1]; a usual rate is 0.15.")
