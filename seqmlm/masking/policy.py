"""MaskingPolicy = Selector x Corruptor x budget: the only code that hides tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from seqmlm.encoding import Encoding, IntArray
from seqmlm.errors import ConfigError, suggestion
from seqmlm.masking.corruptors import Corruptor, MixedCorruptor
from seqmlm.masking.selectors import Selector, TokenSelector
from seqmlm.registry import CORRUPTORS, SELECTORS
from seqmlm.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Masked:
    """A corrupted sequence and where it must be restored.

    Args:
        ids: int32 ``[n]``, what the encoder sees.
        positions: int32 ``[m]``, increasing; the true tokens are predicted here, also where the
            corruptor kept them.
    """

    ids: IntArray
    positions: IntArray


@dataclass(frozen=True)
class MaskingPolicy:
    """Hides a share of a sequence.

    Args:
        selector: which tokens.
        corruptor: what replaces them.
        rate: share that is predicted, in (0, 1].
        per: what the rate is a share of: the maskable tokens, or the units.

    Raises:
        ConfigError: the rate is out of range, or ``per`` does not fit the selector.
    """

    selector: Selector
    corruptor: Corruptor
    rate: float
    per: Literal["token", "unit"] = "token"

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ConfigError(f"rate = {self.rate}: must be in (0, 1]. A usual value is 0.15.")
        if self.per not in ("token", "unit"):
            raise ConfigError(f"per = {self.per!r}: it is 'token' or 'unit'.")
        if self.per == "unit" and isinstance(self.selector, TokenSelector):
            raise ConfigError("per = 'unit' with selector 'token': choose selector 'unit' instead.")

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> MaskingPolicy:
        """Build a policy from plain values.

        Args:
            settings: ``rate``, ``per``, and tables ``selector`` and ``corruptor``, each with a
                ``name`` and its options. Absent: rate 0.15 per token, token selector, 80/10/10.
            where: dotted path of the settings in the configuration, for messages.

        Raises:
            ConfigError: an unknown key or name, or a value out of range; names the path.
        """
        known = ("rate", "per", "selector", "corruptor")
        if not isinstance(settings, Mapping):
            raise ConfigError(f"{where} = {settings!r}: it must be a table of {', '.join(known)}.")
        for key in settings:
            if key not in known:
                raise ConfigError(
                    f"{where}.{key}: unknown key.{suggestion(key, known)} "
                    f"Known: {', '.join(known)}."
                )
        try:
            return cls(
                selector=SELECTORS.build(
                    settings.get("selector", {"name": "token"}), where=f"{where}.selector"
                ),
                corruptor=CORRUPTORS.build(
                    settings.get("corruptor", {"name": "mixed"}), where=f"{where}.corruptor"
                ),
                rate=settings.get("rate", 0.15),
                per=settings.get("per", "token"),
            )
        except TypeError as error:
            raise ConfigError(f"{where}: a value has the wrong type ({error}).") from error

    @property
    def mask_token_rate(self) -> float:
        """Expected share of maskable tokens that become the mask token."""
        return self.rate * self.corruptor.mask_share

    def apply(
        self,
        encoding: Encoding,
        *,
        vocabulary: Vocabulary,
        token_range: tuple[int, int],
        generator: np.random.Generator,
    ) -> Masked:
        """Hide part of ``encoding``.

        The budget rate x size is rounded up or down at random, so that its expectation is exact
        and short sequences are not over-masked (as in fairseq).

        Args:
            encoding: the true sequence.
            vocabulary: gives the mask token.
            token_range: where random replacements are drawn from.
            generator: the only source of randomness.
        """
        units = encoding.unit_ids[encoding.unit_ids >= 0]
        sizes = np.bincount(units)
        costs = sizes if self.per == "token" else np.ones_like(sizes)
        budget = int(self.rate * costs.sum() + generator.random())
        selection = self.selector.select(encoding, costs, budget, generator)
        ids = self.corruptor.corrupt(
            encoding.ids,
            selection,
            mask_id=vocabulary.special.mask,
            token_range=token_range,
            generator=generator,
        )
        return Masked(ids, selection.positions)


UNIFORM_MASKS = MaskingPolicy(
    TokenSelector(), MixedCorruptor(mask=1.0, random=0.0, keep=0.0), rate=0.15
)
"""What every validation uses, whatever the training policy: uniform, mask token only.

With 10 % of the targets left visible a validation loss can be met by copying them.
"""
