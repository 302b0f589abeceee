"""Rows one after the other in flat tensors, without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.masking.counts import MaskCounts
from seqmlm.objectives.rows import Row, Targets
from seqmlm.vocabulary import AllowedPerTarget, AllowedTokens
from seqmlm_kernels import Visibility

Batched = TypeVar("Batched", "PackedTargets", "PackedBatch", Visibility)


@dataclass(frozen=True, slots=True)
class PackedTargets:
    """The targets of one objective over a whole batch.

    Args:
        rows: int64 ``[m]``, which packed tokens are scored.
        labels: int64 ``[m]``, their true ids.
        weights: float32 ``[m]``, or absent where all are 1.
        allowed: int32 ``[sets, ceil(vocabulary / 32)]`` bitsets, or absent where every token is.
        allowed_index: int32 ``[m]``, the set of each target; absent where there is one set.
        masking: what a masking policy did to the rows; absent where there is none.
        draws: float64 ``[m]``, uniform in [0, 1); absent where nothing is sampled.
        losses: float ``[m]``, nats, differentiable, if completing the batch has scored them.
        values: float32 ``[m]``, the true numbers; absent where ids are predicted.
    """

    rows: Tensor
    labels: Tensor
    weights: Tensor | None = None
    allowed: Tensor | None = None
    allowed_index: Tensor | None = None
    masking: MaskCounts | None = None
    draws: Tensor | None = None
    losses: Tensor | None = None
    values: Tensor | None = None

    def to(self, device: torch.device) -> PackedTargets:
        """Return the same targets on another device."""
        return _to(self, device)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Many rows concatenated.

    Args:
        ids: int64 ``[tokens]``.
        position_ids: int32 ``[tokens]``, counted within each row.
        segment_ids: int32 ``[tokens]``.
        cu_seqlens: int32 ``[rows + 1]``, where each row starts; the last entry is ``tokens``.
        max_seqlen: tokens of the longest row.
        num_positions: one more than the largest position id; less than ``max_seqlen`` where rows
            repeat positions.
        visibility: absent where every token of a row sees every other.
        targets: by objective name.
        role_ids: int32 ``[tokens]``, 0 in rows without roles; absent where no row has any.
    """

    ids: Tensor
    position_ids: Tensor
    segment_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    num_positions: int
    visibility: Visibility | None
    targets: Mapping[str, PackedTargets]
    role_ids: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.cu_seqlens) - 1

    @property
    def num_tokens(self) -> int:
        """Number of tokens, special tokens included."""
        return len(self.ids)

    def targets_for(self, objective: str) -> PackedTargets:
        """Return the targets of one objective, none if no row has any."""
        nothing = self.ids.new_empty(0)
        return self.targets.get(objective, PackedTargets(rows=nothing, labels=nothing))

    def to(self, device: torch.device) -> PackedBatch:
        """Return the same batch on another device."""
        if self.ids.device == device:
            return self
        moved = _to(self, device)
        visibility = None if self.visibility is None else _to(self.visibility, device)
        targets = {name: targets.to(device) for name, targets in self.targets.items()}
        return replace(moved, visibility=visibility, targets=targets)


def pack(rows: Sequence[Row]) -> PackedBatch:
    """Concatenate rows in the order given; any number of rows, also none."""
    sizes = np.array([len(row.ids) for row in rows], np.int64)
    starts = np.cumsum(sizes) - sizes
    lengths = _lengths(rows)
    cu_seqlens = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=cu_seqlens[1:])
    names = list(dict.fromkeys(name for row in rows for name in row.targets))
    position_ids = _join([row.position_ids for row in rows], np.int32)
    return PackedBatch(
        ids=_join([row.ids for row in rows], np.int64),
        position_ids=position_ids,
        segment_ids=_join([row.segment_ids for row in rows], np.int32),
        cu_seqlens=torch.from_numpy(cu_seqlens),
        max_seqlen=int(lengths.max(initial=0)),
        num_positions=int(position_ids.max()) + 1 if len(position_ids) else 0,
        visibility=_pack_visibility(rows),
        targets={name: _pack_targets(name, rows, starts) for name in names},
        role_ids=_pack_roles(rows),
    )


def _lengths(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Tokens of every sequence."""
    parts = [np.array([len(row.ids)]) if row.lengths is None else row.lengths for row in rows]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _pack_targets(name: str, rows: Sequence[Row], starts: npt.NDArray[np.int64]) -> PackedTargets:
    present = [
        (row.targets[name], start)
        for row, start in zip(rows, starts.tolist(), strict=True)
        if name in row.targets
    ]
    parts = [targets for targets, _ in present]
    counts = [len(part.positions) for part in parts]
    allowed, allowed_index = _pack_allowed(parts, counts)
    weights = None
    if any(part.weights is not None for part in parts):
        weights = _join([_weights(part) for part in parts], np.float32)
    return PackedTargets(
        rows=_join([part.positions + start for part, start in present], np.int64),
        labels=_join([part.labels for part in parts], np.int64),
        weights=weights,
        allowed=allowed,
        allowed_index=allowed_index,
        masking=_add_masking(parts),
        draws=_pack_draws(parts),
        values=_pack_values(parts),
    )


def _pack_draws(parts: Sequence[Targets]) -> Tensor | None:
    draws = [part.draws for part in parts if part.draws is not None]
    return _join(draws, np.float64) if draws else None


def _pack_values(parts: Sequence[Targets]) -> Tensor | None:
    values = [part.values for part in parts if part.values is not None]
    return _join(values, np.float32) if values else None


def _add_masking(parts: Sequence[Targets]) -> MaskCounts | None:
    counts = [part.masking for part in parts if part.masking is not None]
    return sum(counts[1:], start=counts[0]) if counts else None


def _pack_allowed(
    parts: Sequence[Targets], counts: Sequence[int]
) -> tuple[Tensor | None, Tensor | None]:
    """One table of the different sets; by identity, because objectives reuse their sets."""
    of_parts = [_sets_of(part) for part in parts]
    sets = {id(chosen): chosen for choices in of_parts for chosen in choices}
    if all(chosen is None for chosen in sets.values()):
        return None, None
    size = next(chosen.size for chosen in sets.values() if chosen is not None)
    table = torch.from_numpy(
        np.stack(
            [
                (AllowedTokens.of(range(size), size) if chosen is None else chosen).words
                for chosen in sets.values()
            ]
        )
    )
    if len(sets) == 1:
        return table, None
    number = {key: position for position, key in enumerate(sets)}
    columns = []
    for part, choices, count in zip(parts, of_parts, counts, strict=True):
        places = np.array([number[id(chosen)] for chosen in choices], np.int32)
        if isinstance(part.allowed, AllowedPerTarget):
            columns.append(places[part.allowed.index])
        else:
            columns.append(np.repeat(places, count))
    return table, _join(columns, np.int32)


def _sets_of(part: Targets) -> tuple[AllowedTokens | None, ...]:
    if isinstance(part.allowed, AllowedPerTarget):
        return part.allowed.sets
    return (part.allowed,)


def _pack_visibility(rows: Sequence[Row]) -> Visibility | None:
    if all(row.visibility is None for row in rows):
        return None

    def column(name: str, bidirectional: int) -> Tensor:
        return _join(
            [
                np.full(len(row.ids), bidirectional, np.int32)
                if row.visibility is None
                else getattr(row.visibility, name)
                for row in rows
            ],
            np.int32,
        )

    return Visibility(step=column("step", 0), reach=column("reach", 0), group=column("group", -1))


def _pack_roles(rows: Sequence[Row]) -> Tensor | None:
    if all(row.role_ids is None for row in rows):
        return None
    return _join(
        [np.zeros_like(row.ids) if row.role_ids is None else row.role_ids for row in rows], np.int32
    )


def _weights(targets: Targets) -> npt.NDArray[np.float32]:
    if targets.weights is None:
        return np.ones(len(targets.positions), np.float32)
    return targets.weights


def _join(parts: Sequence[npt.NDArray[Any]], dtype: type[np.generic]) -> Tensor:
    if not parts:
        return torch.from_numpy(np.empty(0, dtype))
    return torch.from_numpy(np.concatenate(parts).astype(dtype, copy=False))


def _to(record: Batched, device: torch.device) -> Batched:
    moved: dict[str, Any] = {
        field.name: value.to(device, non_blocking=True)
        for field in fields(record)
        if isinstance(value := getattr(record, field.name), Tensor)
    }
    return replace(record, **moved)
