"""Masked language modelling in two stages: the declared type of a unit, then its tokens."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmlm.domain import Domain
from seqmlm.encoding import EncodingBatch, IntArray
from seqmlm.errors import ConfigError
from seqmlm.masking.arguments import check_number
from seqmlm.model.type_cascade import TypeCascade
from seqmlm.objectives.policy_objective import PolicyObjective
from seqmlm.objectives.rows import LossSum, Row, Targets
from seqmlm.randomness import Streams

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch, PackedTargets
    from seqmlm.model.configuration import EncoderConfig
    from seqmlm.model.model import Model

TypeSource = Literal["gold", "predicted", "none"]


class Condition(IntEnum):
    """What the tokens of a hidden unit are predicted from, besides their states."""

    NOTHING = 0
    DECLARED = 1
    """The embedding of the declared type."""
    PREDICTED = 2
    """The expected embedding under the predicted distribution of types."""


class TypedMaskedLanguageModelling(PolicyObjective):
    """The cascade of CugLM (Liu et al. 2020, arXiv 2012.14631), corrected.

    The state of the first hidden token of each unit predicts the unit's declared type, where there
    is one; the tokens are then predicted from their states and a type. The loss is

        mean over hidden tokens of their cross-entropy
        + type_weight x mean over hidden units with a declared type of the type's cross-entropy

    Deviations from the paper. Its token stage reads the embedding of the most probable type, which
    drops every second guess; here it reads the expected embedding. In both, no gradient passes from
    tokens to type scores. The declared type is given in place of the predicted one in a share of
    cases that falls to 0 over the run (scheduled sampling, arXiv 1506.03099), for the first
    predictions mean nothing. A few units get no type, so that the model also fills in masks
    without this objective. Units without a declared type are hidden too.

    Args:
        domain: declares types of units.
        policy: settings of :meth:`MaskingPolicy.from_settings`.
        types: which type the tokens are predicted from: ``predicted``; ``gold``, the declared one,
            an upper bound that no one can use; ``none``, which is plain ``mlm``.
        type_weight: of the mean over types; 1 in the paper. Short runs learn tokens slowly beside
            types: after 500 steps on Java (``benchmarks/code_type_ablation.py``) a model that is
            given the types predicts tokens worse than one without types at 1, and better at 0.2.
        teacher_forcing: share of units with a declared type that get it at the start of the run,
            under ``predicted``; in [0, 1].
        type_dropout: share of units whose tokens get no type, in [0, 1).

    Raises:
        ConfigError: a value is out of range, or the domain declares no types.
    """

    name = "typed_mlm"

    def __init__(
        self,
        domain: Domain,
        policy: Mapping[str, Any] = MappingProxyType({}),
        types: TypeSource = "predicted",
        type_weight: float = 0.2,
        teacher_forcing: float = 0.5,
        type_dropout: float = 0.1,
    ) -> None:
        super().__init__(domain, policy)
        where = f"objectives.{self.name}"
        if types not in get_args(TypeSource):
            allowed = ", ".join(get_args(TypeSource))
            raise ConfigError(f"{where}.types = {types!r}: it is one of {allowed}.")
        check_number(f"{where}.type_weight", type_weight, high=math.inf, excluded=0)
        check_number(f"{where}.teacher_forcing", teacher_forcing)
        check_number(f"{where}.type_dropout", type_dropout, excluded=1)
        if not domain.declared_types:
            raise ConfigError(
                f"{where}: domain {domain.registered_name!r} declares no types of units. Use mlm."
            )
        self._num_types = len(domain.declared_types)
        self._types: TypeSource = types
        self._type_weight = type_weight
        self._forced_share = teacher_forcing
        self._type_dropout = type_dropout

    @property
    def terms(self) -> Mapping[str, float]:
        """See :attr:`Objective.terms`: the mean over tokens, then that over types."""
        if self._types == "none":
            return {self.name: 1.0}
        return {self.name: 1.0, self._of_types: self._type_weight}

    def build_module(self, encoder: EncoderConfig) -> nn.Module | None:
        """Return the type stage; see :meth:`Objective.build_module`."""
        if self._types == "none":
            return None
        return TypeCascade(encoder, num_types=self._num_types)

    def at(self, progress: float) -> Self:
        """See :meth:`PolicyObjective.at`; the forced share falls linearly to 0."""
        moved = copy.copy(super().at(progress))
        moved._forced_share = self._forced_share * (1 - progress)
        return moved

    def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
        """Return the hidden tokens, and the type and condition of each hidden unit."""
        masked = self.hide(batch, streams)
        labels = batch.ids[masked.positions]
        targets = {
            self.name: Targets(
                masked.positions, labels, self._domain.allowed_at(labels), masking=masked.counts
            )
        }
        if self._types != "none":
            units, first = np.unique(batch.unit_ids[masked.positions], return_index=True)
            positions = masked.positions[first]
            types = _types_of(batch)[units]
            uniform = streams.uniform(2 * batch.count(positions)).reshape(-1, 2)
            weights = (types > 0).astype(np.float32)
            targets[self._of_types] = Targets(positions, types, weights=weights)
            targets[self._of_conditions] = Targets(positions, self._conditions(types, uniform))
        return Row.of(batch, masked.ids, targets)

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return the summed cross-entropies of tokens and types, nats, and their numbers."""
        targets = batch.targets_for(self.name)
        if self._types == "none":
            return model.token_loss(hidden, targets)
        typed = batch.targets_for(self._of_types)
        scores = self.type_scores(model, hidden, batch)
        type_losses = F.cross_entropy(scores, typed.labels, ignore_index=0, reduction="sum")
        num_typed = (typed.labels > 0).sum()
        states = self._conditioned(model, hidden, batch, scores)
        tokens = model.token_loss(states, in_order(targets))
        return LossSum(
            torch.stack([tokens.total, type_losses.to(tokens.total.dtype)]),
            torch.stack([tokens.count, num_typed.to(tokens.count.dtype)]),
        )

    def type_scores(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return the logits of the types of each hidden unit, float32 ``[units, types]``."""
        states = hidden.index_select(0, batch.targets_for(self._of_types).rows)
        return self._cascade(model).scores(states)

    def token_states(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """Return the states from which the token head predicts, ``[hidden tokens, hidden_size]``.

        In the order of the targets of this objective.
        """
        if self._types == "none":
            return hidden.index_select(0, batch.targets_for(self.name).rows)
        return self._conditioned(model, hidden, batch, self.type_scores(model, hidden, batch))

    def _conditioned(
        self, model: Model, hidden: Tensor, batch: PackedBatch, scores: Tensor
    ) -> Tensor:
        cascade = self._cascade(model)
        rows = batch.targets_for(self.name).rows
        typed = batch.targets_for(self._of_types)
        conditions = batch.targets_for(self._of_conditions).labels
        states = hidden.index_select(0, rows)
        declared = cascade.type_embedding(typed.labels)
        is_declared = (conditions == Condition.DECLARED)[:, None]
        types = torch.where(is_declared, declared, cascade.expected(scores))
        # A unit's tokens lie between its first hidden one and that of the next unit.
        unit = torch.searchsorted(typed.rows, rows, right=True) - 1
        has_type = (conditions != Condition.NOTHING).index_select(0, unit)[:, None]
        return torch.where(has_type, cascade(states, types.index_select(0, unit)), states)

    def _conditions(self, types: IntArray, uniform: npt.NDArray[np.float64]) -> IntArray:
        """The condition of each unit, given its declared type and two random numbers."""
        keeps = uniform[:, 0] >= self._type_dropout
        is_forced = uniform[:, 1] < self._forced_share
        if self._types == "gold":
            return np.where(keeps & (types > 0), Condition.DECLARED, Condition.NOTHING).astype(
                np.int32
            )
        known = np.where(is_forced & (types > 0), Condition.DECLARED, Condition.PREDICTED)
        return np.where(keeps, known, Condition.NOTHING).astype(np.int32)

    @property
    def _of_types(self) -> str:
        """Key of the declared types among the targets of a batch."""
        return f"{self.name}.types"

    @property
    def _of_conditions(self) -> str:
        """Key of the units' conditions; not predicted, but known with the row."""
        return f"{self.name}.conditions"

    def _cascade(self, model: Model) -> TypeCascade:
        module = model.objective_modules[self.name]
        assert isinstance(module, TypeCascade)
        return module


def _types_of(batch: EncodingBatch) -> IntArray:
    assert batch.declared_types is not None, "the domain declares types"
    return batch.declared_types


def in_order(targets: PackedTargets) -> PackedTargets:
    """Return the same targets for the states of :meth:`TypedMaskedLanguageModelling.token_states`.

    Those are in the order of the targets.
    """
    return replace(targets, rows=torch.arange(len(targets.rows), device=targets.rows.device))
