"""Which objectives train on which sample: all of them, one after the other, or one drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from seqmlm.errors import ConfigError, suggestion
from seqmlm.randomness import Purpose, stream

_BLOCKS = re.compile(r"[1-9]\d*[a-zA-Z_]\w*(,[1-9]\d*[a-zA-Z_]\w*)*")
_BLOCK = re.compile(r"(\d+)(\w+)")


class Schedule(Protocol):
    """A pure function of seed, epoch and record, so that resuming needs nothing to be saved."""

    @property
    def loss_shares(self) -> Sequence[float]:
        """Factor of each objective's mean loss."""
        ...

    def active(self, *, seed: int, epoch: int, record: int) -> Sequence[int]:
        """Return the positions of the objectives that make rows of a record in an epoch."""
        ...

    def never_active(self, epochs: int) -> Sequence[int]:
        """Return the positions of the objectives whose turn comes after so many epochs."""
        ...


@dataclass(frozen=True)
class Together:
    """Every objective on every sample.

    Args:
        objectives: their number.
    """

    objectives: int

    @property
    def loss_shares(self) -> Sequence[float]:
        """See :attr:`Schedule.loss_shares`: 1 for each."""
        return [1.0] * self.objectives

    def active(self, *, seed: int, epoch: int, record: int) -> Sequence[int]:
        """See :meth:`Schedule.active`."""
        return range(self.objectives)

    def never_active(self, epochs: int) -> Sequence[int]:
        """See :meth:`Schedule.never_active`: none."""
        return ()


@dataclass(frozen=True)
class Alternating:
    """One objective at a time, for whole epochs (AntLM, arXiv 2412.03275).

    Args:
        epochs: the objective of each epoch; from the start again after the last.
        objectives: number of objectives.
    """

    epochs: Sequence[int]
    objectives: int

    @classmethod
    def from_blocks(cls, blocks: str, labels: Sequence[str]) -> Alternating:
        """Read blocks such as ``4clm,16mlm,4clm``: 4 epochs of clm, 16 of mlm, 4 of clm.

        Raises:
            ConfigError: not of this form, an unknown label, or an objective that has no block.
        """
        text = blocks.replace(" ", "")
        if not _BLOCKS.fullmatch(text):
            raise ConfigError(
                f"schedule.blocks = {blocks!r}: write it as epochs and objective, such as "
                "'4clm,16mlm,4clm'."
            )
        epochs: list[int] = []
        for count, label in _BLOCK.findall(text):
            epochs += [_position(label, labels, "schedule.blocks")] * int(count)
        idle = [label for index, label in enumerate(labels) if index not in epochs]
        if idle:
            raise ConfigError(
                f"schedule.blocks = {blocks!r}: {', '.join(idle)} would never be trained. Add a "
                "block, or take it out of the objectives."
            )
        return cls(tuple(epochs), len(labels))

    @property
    def loss_shares(self) -> Sequence[float]:
        """See :attr:`Schedule.loss_shares`: 1 for each."""
        return [1.0] * self.objectives

    def active(self, *, seed: int, epoch: int, record: int) -> Sequence[int]:
        """See :meth:`Schedule.active`."""
        return (self.epochs[epoch % len(self.epochs)],)

    def never_active(self, epochs: int) -> Sequence[int]:
        """See :meth:`Schedule.never_active`."""
        return sorted(set(range(self.objectives)) - set(self.epochs[:epochs]))


@dataclass(frozen=True)
class Mixture:
    """One objective per sample, drawn anew in every epoch (UniLM, arXiv 1905.03197).

    The mean loss of an objective counts by its share: it would otherwise weigh as much however
    rarely it is drawn.

    Args:
        loss_shares: chance of each objective; they add up to 1.
    """

    loss_shares: Sequence[float]

    @classmethod
    def from_shares(cls, shares: Mapping[str, float], labels: Sequence[str]) -> Mixture:
        """Normalise shares by label; without any, every objective has the same.

        Raises:
            ConfigError: a share for an unknown label, none for a known one, or one of 0 or less.
        """
        given = dict(shares) or dict.fromkeys(labels, 1.0)
        for label in given:
            _position(label, labels, "schedule.shares")
        for label in labels:
            if not given.get(label, 0) > 0:
                raise ConfigError(
                    f"schedule.shares: {label} has no share above 0. Give every objective one."
                )
        total = sum(given.values())
        return cls(tuple(given[label] / total for label in labels))

    def active(self, *, seed: int, epoch: int, record: int) -> Sequence[int]:
        """See :meth:`Schedule.active`."""
        generator = stream(seed, Purpose.SCHEDULE, epoch=epoch, sample=record)
        return (int(generator.choice(len(self.loss_shares), p=self.loss_shares)),)

    def never_active(self, epochs: int) -> Sequence[int]:
        """See :meth:`Schedule.never_active`: none, for every epoch may draw any."""
        return ()


def build_schedule(
    kind: str, *, blocks: str, shares: Mapping[str, float], labels: Sequence[str]
) -> Schedule:
    """Construct a schedule from the ``[schedule]`` section.

    Args:
        kind: ``together``, ``alternate`` or ``mixture``.
        blocks: of ``alternate``.
        shares: of ``mixture``.
        labels: of the objectives, in order.

    Raises:
        ConfigError: an option is wrong, or belongs to another kind.
    """
    if blocks and kind != "alternate":
        raise ConfigError(f"schedule.blocks belongs to kind = 'alternate', not {kind!r}.")
    if shares and kind != "mixture":
        raise ConfigError(f"schedule.shares belongs to kind = 'mixture', not {kind!r}.")
    if kind == "alternate":
        return Alternating.from_blocks(blocks, labels)
    if kind == "mixture":
        return Mixture.from_shares(shares, labels)
    return Together(len(labels))


def _position(label: str, labels: Sequence[str], where: str) -> int:
    if label not in labels:
        raise ConfigError(
            f"{where}: there is no objective {label!r}.{suggestion(label, labels)} "
            f"Objectives of this run: {', '.join(labels)}."
        )
    return labels.index(label)
