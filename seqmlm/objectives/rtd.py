"""Replaced token detection: which tokens of a sequence did a small generator write?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmlm.domain import Domain
from seqmlm.encoding import EncodingBatch
from seqmlm.errors import ConfigError
from seqmlm.masking.arguments import check_number
from seqmlm.model.generator import Generator
from seqmlm.model.output_head import OutputHead, OutputHeadConfig
from seqmlm.objectives.policy_objective import PolicyObjective
from seqmlm.objectives.rows import Decisions, LossSum, Row, Targets
from seqmlm.randomness import Streams

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch
    from seqmlm.model.configuration import EncoderConfig
    from seqmlm.model.model import Model


class ReplacedTokenDetection(PolicyObjective):
    """The objective of ELECTRA (Clark et al. 2020, arXiv 2003.10555).

    A generator fills in the tokens that the policy hides; the encoder sees what it has sampled,
    and tells for every token that may be masked whether it is the true one. A sample that happens
    to be right counts as true. The generator learns masked language modelling and nothing from the
    discriminator. The loss is

        mean over hidden tokens of the generator's cross-entropy
        + discriminator_weight x mean over all tokens of the discriminator's

    Deviations from the paper: special and unmaskable tokens are never replaced, so they are not
    asked about; the generator owns no output layer but uses the model's token head.

    Args:
        domain: gives vocabulary and range.
        policy: settings of :meth:`MaskingPolicy.from_settings`; hides behind the mask token alone
            unless it says otherwise.
        generator_width: share of the encoder's heads and sizes, in (0, 1].
        generator_depth: share of its layers, in (0, 1].
        discriminator_weight: 50 in the paper, because its loss per token is small.

    Raises:
        ConfigError: a value is out of range, or the policy hides tokens that it does not predict.
    """

    name = "rtd"
    default_policy = MappingProxyType(
        {"corruptor": {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0}}
    )
    predicts_tokens = False
    mask_token_rate = 0.0  # the encoder sees samples; the generator alone sees mask tokens

    def __init__(
        self,
        domain: Domain,
        policy: Mapping[str, Any] = MappingProxyType({}),
        generator_width: float = 0.25,
        generator_depth: float = 1.0,
        discriminator_weight: float = 50.0,
    ) -> None:
        super().__init__(domain, policy)
        where = f"objectives.{self.name}"
        shares = {"generator_width": generator_width, "generator_depth": generator_depth}
        for key, share in shares.items():
            check_number(f"{where}.{key}", share, excluded=0)
        check_number(
            f"{where}.discriminator_weight", discriminator_weight, high=math.inf, excluded=0
        )
        if self.policy.predict_rate is not None:
            raise ConfigError(
                f"{where}.policy.predict_rate = {self.policy.predict_rate}: the generator "
                "replaces every hidden token, so it predicts every one. Leave it out."
            )
        self._generator_width, self._generator_depth = generator_width, generator_depth
        self._discriminator_weight = discriminator_weight

    @property
    def terms(self) -> Mapping[str, float]:
        """See :attr:`Objective.terms`: the discriminator's mean, then the generator's."""
        return {self.name: self._discriminator_weight, self._hidden: 1.0}

    def build_module(self, encoder: EncoderConfig) -> nn.Module:
        """Return generator and discriminator; see :meth:`Objective.build_module`."""
        return _GeneratorAndDiscriminator(
            encoder, width=self._generator_width, depth=self._generator_depth
        )

    def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
        """Return the sequences with their hidden tokens, and with the true ids of all others."""
        masked = self.hide(batch, streams)
        asked = np.flatnonzero(batch.unit_ids >= 0).astype(np.int32)
        labels = batch.ids[masked.positions]
        hidden = Targets(
            masked.positions,
            labels,
            self._domain.allowed_at(labels),
            draws=streams.uniform(batch.count(masked.positions)),
        )
        questions = Targets(asked, batch.ids[asked], masking=masked.counts)
        return Row.of(batch, masked.ids, {self.name: questions, self._hidden: hidden})

    def complete(self, model: Model, batch: PackedBatch) -> PackedBatch:
        """Write the generator's samples over the hidden tokens; keep its losses with them.

        The generator reads all rows of the batch, also those of other objectives.
        """
        targets = batch.targets_for(self._hidden)
        states = self._modules_of(model).generator(model.encoder, batch)
        losses = model.token_losses(states, targets)
        sampled = model.token_head.sample(
            states,
            targets.rows,
            losses.new_empty(0).double() if targets.draws is None else targets.draws,
            allowed=targets.allowed,
            allowed_index=targets.allowed_index,
            backend=model.encoder.backend,
        )
        return replace(
            batch,
            ids=batch.ids.index_copy(0, targets.rows, sampled),
            targets={**batch.targets, self._hidden: replace(targets, losses=losses)},
        )

    def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
        """Return discriminator's and generator's summed cross-entropies, nats, and the numbers.

        Args:
            model: see :class:`Objective`, as for ``hidden``.
            hidden: of the completed batch.
            batch: completed.
        """
        found = self.decisions(model, hidden, batch)
        losses = batch.targets_for(self._hidden).losses
        assert losses is not None, "complete() comes before loss()"
        discriminator = F.binary_cross_entropy_with_logits(
            found.scores, found.labels.float(), reduction="sum"
        )
        total = torch.stack([discriminator, losses.sum().float()])
        return LossSum(total, total.new_tensor([len(found.labels), len(losses)]))

    def decisions(self, model: Model, hidden: Tensor, batch: PackedBatch) -> Decisions:
        """Return for every token asked about how likely it was replaced, and whether it was."""
        asked = batch.targets_for(self.name)
        states = hidden.index_select(0, asked.rows)
        scores = self._modules_of(model).discriminator(states)[:, 0].float()
        return Decisions(scores, batch.ids[asked.rows] != asked.labels)

    @property
    def _hidden(self) -> str:
        """Key of the hidden tokens among the targets of a batch."""
        return f"{self.name}.generator"

    def _modules_of(self, model: Model) -> _GeneratorAndDiscriminator:
        modules = model.objective_modules[self.name]
        assert isinstance(modules, _GeneratorAndDiscriminator)
        return modules


class _GeneratorAndDiscriminator(nn.Module):
    def __init__(self, encoder: EncoderConfig, *, width: float, depth: float) -> None:
        super().__init__()
        self.generator = Generator(encoder, width=width, depth=depth)
        self.discriminator = OutputHead(encoder, OutputHeadConfig(outputs=1, transform="gelu"))
