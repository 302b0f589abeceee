"""What a policy really did: counts that add up over samples, ranks and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from operator import add
from typing import Any, Self

import numpy as np
import numpy.typing as npt

LONGEST_COUNTED = 10
"""Units of the runs that are counted apart; longer ones are counted with these."""


@dataclass(frozen=True, slots=True)
class MaskCounts:
    """Numbers of tokens, and of the sequences that they are from.

    Args:
        maskable: that might have been selected.
        selected: by the policy; the sum of the next three.
        masked: selected, and the encoder sees the mask token.
        replaced: selected, and the encoder sees another token.
        kept: selected, and the encoder sees the true token, also where it was drawn by chance.
        predicted: selected and part of the loss.
        without_candidate: selected, and random tokens stand there because a table of similar units
            has nothing for the unit; among the replaced and the kept.
        sequences: that a policy was applied to.
        without_target: sequences of which nothing is predicted.
        units_in_runs: selected as part of a run; 0 unless the selector chooses runs of units.
        runs: of 1, 2, 3, ... units; the last number is that of :data:`LONGEST_COUNTED` and more.
    """

    maskable: int = 0
    selected: int = 0
    masked: int = 0
    replaced: int = 0
    kept: int = 0
    predicted: int = 0
    without_candidate: int = 0
    sequences: int = 0
    without_target: int = 0
    units_in_runs: int = 0
    runs: Sequence[int] = (0,) * LONGEST_COUNTED

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", tuple(self.runs))  # a checkpoint gives a list

    def __add__(self, other: MaskCounts) -> MaskCounts:
        # Named one by one: astuple() took a sixth of the time of building batches of short rows.
        return MaskCounts(
            maskable=self.maskable + other.maskable,
            selected=self.selected + other.selected,
            masked=self.masked + other.masked,
            replaced=self.replaced + other.replaced,
            kept=self.kept + other.kept,
            predicted=self.predicted + other.predicted,
            without_candidate=self.without_candidate + other.without_candidate,
            sequences=self.sequences + other.sequences,
            without_target=self.without_target + other.without_target,
            units_in_runs=self.units_in_runs + other.units_in_runs,
            runs=tuple(map(add, self.runs, other.runs)),
        )

    @classmethod
    def of_runs(cls, lengths: npt.NDArray[np.int64]) -> Self:
        """Return the counts of runs alone, given the units of each, int64 ``[runs]``."""
        counted = np.minimum(lengths, LONGEST_COUNTED)
        runs = np.bincount(counted, minlength=LONGEST_COUNTED + 1)[1:]
        return cls(units_in_runs=int(lengths.sum()), runs=runs.tolist())

    def numbers(self) -> list[int]:
        """Return all counts one after the other, for a sum over ranks."""
        *single, runs = (getattr(self, field.name) for field in fields(self))
        return [*single, *runs]

    @classmethod
    def from_numbers(cls, numbers: Sequence[int]) -> Self:
        """Return the counts that :meth:`numbers` gave."""
        *single, _ = (field.name for field in fields(cls))
        values: dict[str, Any] = dict(zip(single, numbers, strict=False))
        return cls(**values, runs=numbers[len(values) :])

    def describe(self) -> str:
        """Return the rates as one line for people."""
        selected = max(self.selected, 1)
        random = ""
        if self.without_candidate:
            random = f", {self.without_candidate / selected:.2%} at random for want of a candidate"
        return (
            f"{self.selected / max(self.maskable, 1):.2%} of {self.maskable:,} maskable tokens "
            f"selected ({self.predicted / selected:.1%} of these predicted): "
            f"{self.masked / selected:.2%} masked, {self.replaced / selected:.2%} replaced, "
            f"{self.kept / selected:.2%} kept{random}{self._describe_runs()}"
        )

    def _describe_runs(self) -> str:
        """The shares of the lengths, if the selector chooses runs."""
        total = sum(self.runs)
        if not total:
            return ""
        shares = ", ".join(
            f"{length}{'+' if length == LONGEST_COUNTED else ''}: {number / total:.1%}"
            for length, number in enumerate(self.runs, start=1)
            if number
        )
        return f"; runs by units {shares} (mean {self.units_in_runs / total:.2f})"

    def warning(self) -> str | None:
        """Return what is wrong if most sequences, or all of them, have nothing to predict."""
        if 2 * self.without_target <= self.sequences:
            return None
        found = (
            f"nothing to predict in {self.without_target / self.sequences:.1%} of "
            f"{self.sequences:,} sequences ({self.maskable:,} maskable tokens, "
            f"{self.selected:,} selected)"
        )
        if self.predicted:
            return f"{found}: raise policy.rate, or take longer sequences"
        return (
            f"{found}: the objective learns nothing. Do the types, the table or the lexicon of its "
            "policy occur in this data?"
        )


def add_counts(
    done: Mapping[str, Mapping[str, Any]], step: Mapping[str, MaskCounts]
) -> dict[str, dict[str, Any]]:
    """Add the counts of one more step to those of a run so far.

    Args:
        done: by objective, counts as plain values, as a checkpoint holds them.
        step: by objective.
    """
    total = {name: MaskCounts(**counts) for name, counts in done.items()}
    for name, counts in step.items():
        total[name] = total.get(name, MaskCounts()) + counts
    return {name: asdict(counts) for name, counts in total.items()}


NUM_COUNTS = len(MaskCounts().numbers())
