"""Pseudo-masked language modelling: fill in, and predict block by block, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, IntArray
from seqmlm.errors import ConfigError
from seqmlm.objectives.policy_objective import PolicyObjective
from seqmlm.objectives.rows import LossSum, Row, RowVisibility, Targets

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model

NEVER = np.iinfo(np.int32).max
"""Step of a pseudo token: no content query reaches it."""


class PseudoMaskedLanguageModelling(PolicyObjective):
    """The pre-training objective of UniLM-v2 (Bao et al. 2020, arXiv 2002.12804).

    One row holds the corrupted sequence and, behind it, for each hidden block in the order of a
    drawn factorisation a pseudo token per position and then the true tokens; all carry the
    position ids of the originals. Auto-encoding targets are predicted in the corrupted sequence,
    which sees nothing else; partially autoregressive ones at the pseudo tokens, which see the
    corrupted sequence and the true tokens of earlier blocks. A block is what the selector chose
    together.

    The true tokens of the last block are seen by nobody and left out: m hidden tokens make a row
    longer by less than 2 m. A position that the corruptor kept is visible in the sequence itself,
    so it gets no pseudo token: its prediction could be copied.

    The loss is the mean over both kinds of targets, half of the paper's sum of two means.

    Args:
        domain: gives vocabulary and range.
        policy: settings of :meth:`MaskingPolicy.from_settings`; by default 15 % in blocks, all of
            them mask tokens.
        pseudo_token: the token that stands for the paper's [P]. By default it is the mask token:
            the two differ in what they see. A domain with a spare token outside its range may
            give the pseudo mask an embedding of its own.
        auto_encoding: weight of the auto-encoding targets.
        autoregressive: weight of the partially autoregressive targets.

    Raises:
        ConfigError: the token is unknown or could be data, or a weight is negative, or both are 0.
    """

    name = "pmlm"
    default_policy = MappingProxyType(
        {
            "selector": {"name": "block"},
            "corruptor": {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0},
        }
    )

    def __init__(
        self,
        domain: Domain,
        policy: Mapping[str, Any] = MappingProxyType({}),
        pseudo_token: str | None = None,
        auto_encoding: float = 1.0,
        autoregressive: float = 1.0,
    ) -> None:
        super().__init__(domain, policy)
        if min(auto_encoding, autoregressive) < 0 or auto_encoding + autoregressive == 0:
            raise ConfigError(
                f"objectives.{self.name}: auto_encoding = {auto_encoding}, autoregressive = "
                f"{autoregressive}: they must be 0 or more, and not both 0."
            )
        self._weights = (auto_encoding, autoregressive)
        self._pseudo_id = self._vocabulary.special.mask
        if pseudo_token is not None:
            self._pseudo_id = self._checked_pseudo_id(pseudo_token)

    @property
    def mask_token_rate(self) -> float:
        """Expected share of mask tokens in a whole row, whose length grows by the appended ones."""
        pseudo_is_mask = self._pseudo_id == self._vocabulary.special.mask
        masks = self.policy.mask_token_rate + pseudo_is_mask * self.policy.mean_rate
        return masks / (1 + 2 * self.policy.mean_rate)

    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        """Return one row, of ``n + 2 m - (tokens of the last block)`` tokens."""
        masked = self.hide(encoding, generator)
        hidden = masked.ids[masked.positions] != encoding.ids[masked.positions]
        positions, groups = masked.positions[hidden], masked.groups[hidden]
        blocks, block = np.unique(groups, return_inverse=True)
        step = generator.permutation(len(blocks))[block] + 1
        row, pseudo = pseudo_masked_row(
            encoding, masked.ids, positions, step, pseudo_id=self._pseudo_id
        )
        predicted = np.concatenate([masked.positions, positions[np.argsort(step, kind="stable")]])
        targets = Targets(
            np.concatenate([masked.positions, pseudo]),
            encoding.ids[predicted],
            self._domain.allowed_at(encoding.ids[predicted]),
            weights=self._target_weights(len(masked.positions), len(pseudo)),
            masking=masked.counts,
        )
        seen = len(row.ids) - int((step == len(blocks)).sum())
        return [_first_tokens(row, seen, {self.name: targets})]

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the weighted cross-entropy of both kinds of targets, nats, and their weight."""
        return model.token_loss(hidden, batch.targets_for(self.name))

    def _target_weights(
        self, auto_encoding: int, autoregressive: int
    ) -> npt.NDArray[np.float32] | None:
        if self._weights == (1, 1):
            return None
        return np.repeat(self._weights, [auto_encoding, autoregressive]).astype(np.float32)

    def _checked_pseudo_id(self, token: str) -> int:
        special = self._vocabulary.special
        taken = (special.padding, special.unknown, special.start, special.end)
        pseudo_id = self._vocabulary.id_of(token)
        is_data = any(low <= pseudo_id < high for low, high in self._vocabulary.ranges.values())
        if token not in self._vocabulary or pseudo_id in taken or is_data:
            raise ConfigError(
                f"objectives.{self.name}.pseudo_token = {token!r}: it must be a token of the "
                "vocabulary that stands for nothing else, such as "
                f"{self._vocabulary.tokens[special.mask]!r}."
            )
        return pseudo_id


def pseudo_masked_row(
    encoding: Encoding,
    ids: IntArray,
    positions: IntArray,
    step: npt.NDArray[np.integer],
    *,
    pseudo_id: int,
) -> tuple[Row, IntArray]:
    """Append pseudo and true tokens of every block, the last one's included.

    Args:
        encoding: the true sequence, ``n`` tokens.
        ids: int32 ``[n]``, corrupted.
        positions: int32 ``[m]``, hidden, increasing.
        step: int ``[m]``, from 1: when each is predicted; those of one step are a block.
        pseudo_id: id of the pseudo tokens.

    Returns:
        A row of ``n + 2 m`` tokens without targets, and int32 ``[m]``, where in it the pseudo
        tokens stand, block by block.
    """
    content = Row.of(encoding, ids)
    n, m = len(ids), len(positions)
    # Sorted by step, because the kernels skip tiles that no query of a tile reaches.
    order = np.lexsort((np.tile(positions, 2), np.repeat([0, 1], m), np.tile(step, 2)))
    is_pseudo, source = order < m, np.tile(positions, 2)[order]
    step = np.tile(step, 2)[order]
    visibility = RowVisibility(
        step=_after(np.zeros(n), np.where(is_pseudo, NEVER, step)),
        reach=_after(np.zeros(n), step - is_pseudo),
        group=_after(np.full(n, -1), np.where(is_pseudo, step, -1)),
    )
    roles = content.role_ids
    row = Row(
        _after(ids, np.where(is_pseudo, pseudo_id, encoding.ids[source])),
        _after(content.position_ids, content.position_ids[source]),
        _after(content.segment_ids, content.segment_ids[source]),
        visibility,
        role_ids=None if roles is None else _after(roles, roles[source]),
    )
    return row, (n + np.flatnonzero(is_pseudo)).astype(np.int32)


def _after(content: npt.NDArray[Any], appended: npt.NDArray[Any]) -> IntArray:
    return np.concatenate([content, appended]).astype(np.int32)


def _first_tokens(row: Row, length: int, targets: Mapping[str, Targets]) -> Row:
    """The first ``length`` tokens of a row, with targets."""
    assert row.visibility is not None
    visible = row.visibility
    return Row(
        row.ids[:length],
        row.position_ids[:length],
        row.segment_ids[:length],
        RowVisibility(visible.step[:length], visible.reach[:length], visible.group[:length]),
        targets,
        role_ids=None if row.role_ids is None else row.role_ids[:length],
    )
