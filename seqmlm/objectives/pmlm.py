"""Pseudo-masked language modelling: fill in, and predict block by block, in one pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from seqmlm.domain import Domain
from seqmlm.encoding import EncodingBatch, IntArray
from seqmlm.errors import ConfigError
from seqmlm.masking.arguments import check_number
from seqmlm.masking.selectors import random_places
from seqmlm.objectives.policy_objective import PolicyObjective
from seqmlm.objectives.rows import LossSum, Row, RowVisibility, Targets
from seqmlm.randomness import Streams

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.model import Model

NEVER = np.iinfo(np.int32).max
"""Step of a pseudo token: no content query reaches it."""

_CONTENT, _PSEUDO, _TRUE = range(3)  # in the order in which they stand within a step


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
        ConfigError: the token is unknown or could be data, or a weight is not a
            number of 0 or more, or both are 0.
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
        weights = {"auto_encoding": auto_encoding, "autoregressive": autoregressive}
        for key, weight in weights.items():
            check_number(f"objectives.{self.name}.{key}", weight, high=math.inf)
        if not any(weights.values()):
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

    def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
        """Return for each sequence ``n + 2 m - (tokens of the last block)`` tokens."""
        masked = self.hide(batch, streams)
        is_hidden = masked.ids[masked.positions] != batch.ids[masked.positions]
        positions = masked.positions[is_hidden]
        _, first, block = np.unique(
            masked.groups[is_hidden], return_index=True, return_inverse=True
        )
        sequences = batch.encoding_of_token[positions[first]]
        places = random_places(sequences, streams)
        is_last = places + 1 == np.bincount(sequences, minlength=len(batch))[sequences]
        row, filled, pseudo = pseudo_masked_rows(
            batch,
            masked.ids,
            positions,
            places[block] + 1,
            pseudo_id=self._pseudo_id,
            is_shown=~is_last[block],
        )
        labels = batch.ids[np.concatenate([masked.positions, positions])]
        targets = Targets(
            np.concatenate([filled[masked.positions], pseudo]),
            labels,
            self._domain.allowed_at(labels),
            weights=self._target_weights(len(masked.positions), len(pseudo)),
            masking=masked.counts,
        )
        return replace(row, targets={self.name: targets})

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


def pseudo_masked_rows(
    batch: EncodingBatch,
    ids: IntArray,
    positions: IntArray,
    step: npt.NDArray[np.integer],
    *,
    pseudo_id: int,
    is_shown: npt.NDArray[np.bool_],
) -> tuple[Row, IntArray, IntArray]:
    """Append pseudo and true tokens to every sequence, block by block.

    Args:
        batch: the true sequences, ``n`` tokens.
        ids: int32 ``[n]``, corrupted.
        positions: int32 ``[m]``, hidden, increasing.
        step: int ``[m]``, from 1: when each is predicted; those of a sequence with the same step
            are a block.
        pseudo_id: id of the pseudo tokens.
        is_shown: bool ``[m]``, whose true tokens are appended.

    Returns:
        Rows without targets, and where in them stand the tokens of the sequences, int32 ``[n]``,
        and the pseudo tokens, int32 ``[m]``.
    """
    n, m, shown = len(ids), len(positions), positions[is_shown]
    source = np.concatenate([np.arange(n), positions, shown])
    kind = np.repeat([_CONTENT, _PSEUDO, _TRUE], [n, m, len(shown)])
    step = np.concatenate([np.zeros(n, np.int64), step, step[is_shown]])
    # Sorted by step, because the kernels skip tiles that no query of a tile reaches.
    order = np.lexsort((source, kind, step, batch.encoding_of_token[source]))
    places = np.empty(len(order), np.int32)
    places[order] = np.arange(len(order))
    source, kind, step = source[order], kind[order], step[order]
    is_pseudo = kind == _PSEUDO
    visibility = RowVisibility(
        step=np.where(is_pseudo, NEVER, step).astype(np.int32),
        reach=(step - is_pseudo).astype(np.int32),
        group=np.where(is_pseudo, step, -1).astype(np.int32),
    )
    row = Row(
        np.where(kind == _CONTENT, ids[source], batch.ids[source]),
        batch.position_ids[source],
        batch.segment_ids[source],
        visibility,
        role_ids=None if batch.role_ids is None else batch.role_ids[source],
        lengths=np.bincount(batch.encoding_of_token[source], minlength=len(batch)),
    )
    row.ids[is_pseudo] = pseudo_id
    return row, places[:n], places[n : n + m]
