"""MaskingPolicy = Selector x Corruptor x budget: the only code that hides tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import Encoding, EncodingBatch, IntArray
from seqmlm.errors import ConfigError, suggestion
from seqmlm.masking.corruptors import Corruption, Corruptor, MixedCorruptor
from seqmlm.masking.counts import MaskCounts
from seqmlm.masking.fitting import Fitted
from seqmlm.masking.rate import RateSchedule, check_share
from seqmlm.masking.runs import RunSelector, units_of_groups
from seqmlm.masking.selectors import (
    Selection,
    Selector,
    TokenSelector,
    draw,
    select_in_batch,
)
from seqmlm.masking.unit_table import UnitCorruptor
from seqmlm.randomness import Streams
from seqmlm.registry import CORRUPTORS, SELECTORS
from seqmlm.vocabulary import Vocabulary

if TYPE_CHECKING:
    from seqmlm.domain import Domain


@dataclass(frozen=True, slots=True)
class Masked:
    """A corrupted sequence, or a batch of them, and where they must be restored.

    Args:
        ids: int32 ``[n]``, what the encoder sees.
        positions: int32 ``[m]``, increasing; the true tokens are predicted here, also where the
            corruptor kept them.
        groups: int32 ``[m]``; positions of one group were chosen together.
        counts: what was done.
    """

    ids: IntArray
    positions: IntArray
    groups: IntArray
    counts: MaskCounts


@dataclass(frozen=True)
class MaskingPolicy:
    """Hides a share of a sequence.

    Args:
        selector: which tokens.
        corruptor: what replaces them.
        rate: share that is selected and given to the corruptor, in (0, 1]; of a schedule, that of
            the first step until :meth:`at` says otherwise.
        per: what the rate is a share of: the maskable tokens, or the units.
        predict_rate: share that is predicted, in (0, rate]; the rate itself if None. The groups
            to predict are drawn uniformly among the selected ones (Wettig et al., arXiv
            2202.08005). More than the rate is refused: what is not hidden can be copied.
        schedule: of the rate over the run.
        copies: 0 draws new masks in every epoch (RoBERTa); n uses n sets of masks in turn: 1 is
            static masking, 10 the ``dupe_factor`` of BERT.

    Raises:
        ConfigError: a rate is out of range, or ``per`` does not fit the selector.
    """

    selector: Selector
    corruptor: Corruptor
    rate: float
    per: Literal["token", "unit"] = "token"
    predict_rate: float | None = None
    schedule: RateSchedule | None = None
    copies: int = 0

    def __post_init__(self) -> None:
        check_share(self.rate, "rate")
        if self.per not in ("token", "unit"):
            raise ConfigError(f"per = {self.per!r}: it is 'token' or 'unit'.")
        if self.per == "unit" and not self.selector.chooses_whole_units:
            raise ConfigError(
                "per = 'unit' with a selector of tokens: choose selector 'unit' instead."
            )
        if self.predict_rate is not None:
            check_share(self.predict_rate, "predict_rate")
            lowest_rate = self._lowest_rate
            if self.predict_rate > lowest_rate:
                raise ConfigError(
                    f"predict_rate = {self.predict_rate}: must be in (0, {lowest_rate}], at most "
                    "the lowest rate, because a token that is not hidden can be copied."
                )
        if type(self.copies) is not int or self.copies < 0:
            raise ConfigError(
                f"copies = {self.copies!r}: it is 0 (new masks in every epoch), 1 (static masks) "
                "or a larger whole number."
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> MaskingPolicy:
        """Build a policy from plain values.

        Args:
            settings: ``rate`` (a number, or a table of :class:`RateSchedule`), ``per``,
                ``predict_rate``, ``copies``, and tables ``selector`` and ``corruptor``, each with
                a ``name`` and its options. Absent: rate 0.15 per token, token selector, 80/10/10.
            where: dotted path of the settings in the configuration, for messages.

        Raises:
            ConfigError: an unknown key or name, or a value out of range; names the path.
        """
        known = ("rate", "per", "predict_rate", "copies", "selector", "corruptor")
        if not isinstance(settings, Mapping):
            raise ConfigError(f"{where} = {settings!r}: it must be a table of {', '.join(known)}.")
        for key in settings:
            if key not in known:
                raise ConfigError(
                    f"{where}.{key}: unknown key.{suggestion(key, known)} "
                    f"Known: {', '.join(known)}."
                )
        try:
            selector = SELECTORS.build(
                settings.get("selector", {"name": "token"}), where=f"{where}.selector"
            )
            corruptor = CORRUPTORS.build(
                settings.get("corruptor", {"name": "mixed"}), where=f"{where}.corruptor"
            )
            rate = settings.get("rate", 0.15)
            try:
                schedule = RateSchedule.from_settings(rate) if isinstance(rate, Mapping) else None
                return cls(
                    selector,
                    corruptor,
                    rate=rate if schedule is None else schedule.start,
                    per=settings.get("per", "token"),
                    predict_rate=settings.get("predict_rate"),
                    schedule=schedule,
                    copies=settings.get("copies", 0),
                )
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from error
        except TypeError as error:
            raise ConfigError(
                f"{where} = {dict(settings)}: a value has the wrong type ({error})."
            ) from error

    @property
    def mean_rate(self) -> float:
        """The rate, or the mean of its schedule over the run."""
        return self.rate if self.schedule is None else self.schedule.mean

    @property
    def _lowest_rate(self) -> float:
        return self.rate if self.schedule is None else min(self.schedule.start, self.schedule.end)

    @property
    def mask_token_rate(self) -> float:
        """Expected share of maskable tokens that become the mask token, over the whole run."""
        return self.mean_rate * self.corruptor.mask_share

    def at(self, progress: float) -> MaskingPolicy:
        """Return the policy at a point of the run; ``progress`` goes from 0 to 1."""
        if self.schedule is None:
            return self
        return replace(self, rate=self.schedule.at(progress))

    def mask_epoch(self, epoch: int) -> int:
        """Return the epoch whose masks are used in ``epoch``."""
        return epoch % self.copies if self.copies else epoch

    def fit(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> None:
        """Let selector and corruptor read what they need; see :class:`Fitted`.

        Raises:
            ConfigError: the selector chooses parts of units, which the corruptor cannot replace.
        """
        takes_parts = not self.selector.chooses_whole_units and self._lowest_rate < 1
        if takes_parts and isinstance(self.corruptor, UnitCorruptor):
            self.corruptor.refuse_parts(domain, sequences)
        for part in (self.selector, self.corruptor):
            if isinstance(part, Fitted):
                part.fit(domain, sequences)

    def apply(
        self,
        encoding: Encoding,
        *,
        vocabulary: Vocabulary,
        token_range: tuple[int, int],
        generator: np.random.Generator,
    ) -> Masked:
        """Hide part of one encoding; see :meth:`apply_to_batch`."""
        return self.apply_to_batch(
            EncodingBatch([encoding]),
            vocabulary=vocabulary,
            token_range=token_range,
            streams=Streams.of_one(generator),
        )

    def apply_to_batch(
        self,
        batch: EncodingBatch,
        *,
        vocabulary: Vocabulary,
        token_range: tuple[int, int],
        streams: Streams,
    ) -> Masked:
        """Hide part of every sequence of a batch.

        The budget rate x size is rounded up or down at random, so that its expectation is exact
        and short sequences are not over-masked (as in fairseq).

        Args:
            batch: the true sequences.
            vocabulary: gives the mask token.
            token_range: where random replacements are drawn from.
            streams: the only source of randomness; what is hidden in a sequence depends on its own
                stream and on nothing else in the batch.
        """
        chosen = self._selected(batch, streams)
        corruption = self.corruptor.corrupt(
            batch.ids,
            chosen,
            mask_id=vocabulary.special.mask,
            token_range=token_range,
            uniform=streams.uniform(2 * batch.count(chosen.positions)).reshape(-1, 2),
        )
        ids, selection = corruption.ids, corruption.selection
        is_predicted = self._predicted(batch, selection, streams)
        counts = _count(batch, corruption, is_predicted, mask_id=vocabulary.special.mask)
        if isinstance(self.selector, RunSelector):
            units = batch.unit_ids[chosen.positions]
            counts += MaskCounts.of_runs(units_of_groups(chosen.groups, units))
        return Masked(
            ids, selection.positions[is_predicted], selection.groups[is_predicted], counts
        )

    def _selected(self, batch: EncodingBatch, streams: Streams) -> Selection:
        """What the selector chooses for the rate, with the units."""
        sizes = batch.unit_sizes
        costs = sizes if self.per == "token" else np.ones_like(sizes)
        totals = np.bincount(batch.encoding_of_unit, weights=costs, minlength=len(batch))
        rounding = streams.uniform(np.ones(len(batch), np.int64))
        budgets = (self.rate * totals + rounding).astype(np.int64)
        selection = select_in_batch(self.selector, batch, costs, budgets, streams)
        return replace(selection, units=batch.unit_ids[selection.positions], batch=batch)

    def _predicted(
        self, batch: EncodingBatch, selection: Selection, streams: Streams
    ) -> npt.NDArray[np.bool_]:
        """Whether each selected position is predicted: whole groups, rounded at random."""
        if self.predict_rate is None or self.predict_rate == self.rate:
            return np.ones(len(selection.positions), np.bool_)
        _, first, group = np.unique(selection.groups, return_index=True, return_inverse=True)
        first_positions = selection.positions[first]
        rounding = streams.uniform(np.ones(len(batch), np.int64))
        share = self.predict_rate / self.rate
        numbers = (batch.count(first_positions) * share + rounding).astype(np.int64)
        return draw(batch.encoding_of_token[first_positions], numbers, streams)[group]


def _count(
    batch: EncodingBatch,
    corruption: Corruption,
    is_predicted: npt.NDArray[np.bool_],
    *,
    mask_id: int,
) -> MaskCounts:
    positions = corruption.selection.positions
    seen = corruption.ids[positions]
    masked = int(np.count_nonzero(seen == mask_id))
    kept = int(np.count_nonzero(seen == batch.ids[positions]))
    predicted = batch.count(positions[is_predicted])
    return MaskCounts(
        maskable=int(np.count_nonzero(batch.unit_ids >= 0)),
        selected=len(positions),
        masked=masked,
        replaced=len(positions) - masked - kept,
        kept=kept,
        predicted=int(predicted.sum()),
        without_candidate=corruption.without_candidate,
        sequences=len(batch),
        without_target=int(np.count_nonzero(predicted == 0)),
    )


UNIFORM_MASKS = MaskingPolicy(
    TokenSelector(), MixedCorruptor(mask=1.0, random=0.0, keep=0.0), rate=0.15
)
"""What every validation uses, whatever the training policy: uniform, mask token only.

With 10 % of the targets left visible a validation loss can be met by copying them.
"""
