"""Mean likelihood of every entity from one encoder pass per query (MLMLM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmlm_domains.kg.entities import NO_TOKEN
from seqmlm_domains.kg.linearisation import Slots
from seqmlm_domains.kg.options import Normalise as Normalise

if TYPE_CHECKING:
    from seqmlm.model.model import Model
    from seqmlm_domains.kg.entities import EntityTable
    from seqmlm_domains.kg.text_scale import TextScale


@dataclass(frozen=True)
class EntityScorer:
    r"""Sums of log-likelihoods as a sparse matrix times a small dense table.

    With ``L[q, i, v]`` = log p of token v in slot i of query q, the score of entity e is
    ``sum_i w_e,i L[q, i, t_e,i]``, where ``w_e,i`` is one over its number of tokens (mean) or 1
    (sum), unless own tokens have a weight of their own; see :meth:`of`.
    Only the pairs of slot and token that some entity uses are computed: ``columns`` of them. Cost
    per query: one gather and addition per token of every entity.

    Args:
        slots: int32 ``[columns]``, slot of each pair.
        tokens: int64 ``[columns]``, token of each pair; grouped by slot.
        entries: int32 ``[entries]``, columns that make up each entity, one entity after another.
        offsets: int64 ``[entities + 1]``, where each entity begins.
        weights: float32 ``[entries]``.
        bias: float32 ``[entities]``, added to each score: minus infinity for an entity without a
            single token, which can only be guessed last; what puts texts on the scale of own
            tokens, see :class:`~seqmlm_domains.kg.text_scale.TextScale`; else 0.
    """

    slots: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int64]
    entries: Tensor
    offsets: Tensor
    weights: Tensor
    bias: Tensor

    @classmethod
    def of(
        cls,
        entities: EntityTable,
        slots: Slots,
        *,
        normalise: Normalise = "mean",
        own_weight: float | None = None,
        text_scale: TextScale | None = None,
    ) -> EntityScorer:
        """Lay out the tokens of all entities; time and memory in proportion to them.

        Args:
            entities: to score.
            slots: how a missing entity is written, and which end is scored.
            normalise: ``mean`` over an entity's tokens (the paper), or their ``sum``; ``pmi`` is a
                mean too, of columns from which those of an uninformative query were taken.
            own_weight: of an entity's own token, in [0, 1]; its text, normalised by itself, has
                the rest. A deviation from the paper, whose entities have text alone: in a mean
                over all tokens a name of five words outvotes the one token that says exactly who
                is meant. For entities with both only; None takes all tokens alike.
            text_scale: of entities that have a text but, unlike others, no own token. Without it
                the mean of a text stands beside the likelihood of a token, which is another
                quantity: whoever nobody trained on is then first or last for no good reason.
        """
        slot, token, lengths = _layout(entities, slots)
        # Columns by a table instead of a sort: 5 million entities have 30 million tokens.
        size = int(token.max(initial=0)) + 1
        keys = slot * size + token
        is_used = np.zeros(slots.total * size, np.bool_)
        is_used[keys] = True
        columns = np.flatnonzero(is_used)
        entries = (np.cumsum(is_used, dtype=np.int32) - 1)[keys]
        is_own = (slot < slots.own) if own_weight is not None else np.zeros(len(slot), np.bool_)
        weights = _weights(is_own, lengths, normalise, own_weight or 0.0)
        scorer = cls(
            (columns // size).astype(np.int32),
            columns % size,
            torch.from_numpy(entries),
            torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])),
            torch.from_numpy(weights.astype(np.float32)),
            torch.from_numpy(np.where(lengths, 0, -np.inf).astype(np.float32)),
        )
        if text_scale is None:
            return scorer
        return scorer._scaled(text_scale, torch.from_numpy(entities.id_tokens == NO_TOKEN))

    @property
    def num_entities(self) -> int:
        """How many are scored."""
        return len(self.offsets) - 1

    def to(self, device: torch.device) -> EntityScorer:
        """Return the same scorer with its tensors on another device."""
        return EntityScorer(
            self.slots,
            self.tokens,
            self.entries.to(device),
            self.offsets.to(device),
            self.weights.to(device),
            self.bias.to(device),
        )

    def column_log_likelihoods(self, model: Model, hidden: Tensor, slot_rows: Tensor) -> Tensor:
        """Project the slots of some queries; never more than the used columns is kept.

        Args:
            model: its token head projects.
            hidden: float ``[tokens, hidden_size]``.
            slot_rows: int64 ``[queries, slots]``, the packed token of each slot.

        Returns:
            float32 ``[columns, queries]``, log p, nats, normalised over the whole range.
        """
        parts = []
        queries = len(slot_rows)
        for slot in range(slot_rows.shape[1]):
            used = self.tokens[self.slots == slot]
            if not len(used):
                continue
            tokens = torch.from_numpy(used).to(hidden.device)
            likelihoods = model.token_head.log_probabilities(
                hidden,
                slot_rows[:, slot],
                tokens.expand(queries, len(tokens)),
                # All tokens of a slot are of one set: entities in the first, words in the others.
                allowed=allowed_like(model, used),
                backend=model.encoder.backend,
            )
            parts.append(likelihoods.float().T)
        return torch.cat(parts).contiguous()

    def score(self, columns: Tensor, entities: slice | Tensor | None = None) -> Tensor:
        """Return the scores of entities, float32 ``[entities, queries]``, nats.

        An entity's score does not depend on which others are scored with it.

        Args:
            columns: float32 ``[columns, queries]``.
            entities: a range of them, or int64 ``[n]`` numbers; all if None.
        """
        if isinstance(entities, Tensor):
            return self._of_numbers(columns, entities)
        start, stop, _ = (entities or slice(None)).indices(self.num_entities)
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        sums = F.embedding_bag(
            self.entries[first:last],
            columns,
            (self.offsets[start : stop + 1] - first).to(self.entries.dtype),
            mode="sum",
            per_sample_weights=self.weights[first:last],
            include_last_offset=True,
        )
        return sums.add_(self.bias[start:stop, None])

    def _scaled(self, scale: TextScale, is_text: Tensor) -> EntityScorer:
        """The same scorer with another scale of some entities, bool ``[entities]``."""
        prior = self.score(scale.prior.columns(self.slots, self.tokens))[:, 0]
        of_text = torch.repeat_interleave(is_text, torch.diff(self.offsets))
        return replace(
            self,
            weights=torch.where(of_text, self.weights * scale.scale, self.weights),
            bias=torch.where(
                is_text, self.bias + scale.offset - scale.prior_share * prior, self.bias
            ),
        )

    def _of_numbers(self, columns: Tensor, numbers: Tensor) -> Tensor:
        """Scores of single entities, by the same sums as those of ranges."""
        lengths = self.offsets[numbers + 1] - self.offsets[numbers]
        ends = torch.cumsum(lengths, 0)
        within = torch.arange(int(lengths.sum()), device=columns.device)
        within = within - torch.repeat_interleave(ends - lengths, lengths)
        places = torch.repeat_interleave(self.offsets[numbers], lengths) + within
        sums = F.embedding_bag(
            self.entries[places],
            columns,
            (ends - lengths).to(self.entries.dtype),
            mode="sum",
            per_sample_weights=self.weights[places],
        )
        return sums.add_(self.bias[numbers, None])


def _layout(
    entities: EntityTable, slots: Slots
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Slots and tokens of all entities one after another, and how many each has.

    The same as :meth:`Slots.targets` entity by entity.
    """
    has_own = (entities.id_tokens != NO_TOKEN) & bool(slots.own)
    own = has_own.astype(np.int64)
    words = ends = np.zeros(len(entities), np.int64)
    if slots.representation != "id":
        words = entities.name_tokens.lengths
        ends = {"ignore": ends, "eos": ends + 1, "pad": slots.name - words}[slots.end]
    lengths = own + words + ends
    starts = np.cumsum(lengths) - lengths
    slot = np.zeros(lengths.sum(), np.int64)
    token = np.full(len(slot), slots.end_token, np.int64)
    token[starts[has_own]] = entities.id_tokens[has_own]
    within = np.arange(len(slot)) - np.repeat(starts + own, lengths)
    slot[within >= 0] = within[within >= 0] + slots.own
    if slots.representation != "id":
        token[(within >= 0) & (within < np.repeat(words, lengths))] = entities.name_tokens.flat
    return slot, token, lengths


def _weights(
    is_own: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int64],
    normalise: Normalise,
    own_weight: float,
) -> npt.NDArray[np.float64]:
    """Weight of each token of each entity; those marked as own share nothing with the text."""
    entity = np.repeat(np.arange(len(lengths)), lengths)
    own = np.bincount(entity[is_own], minlength=len(lengths))
    text = lengths - own
    weights = np.ones(len(entity)) if normalise == "sum" else 1 / np.maximum(text, 1)[entity]
    has_both = (own > 0) & (text > 0)
    weights[has_both[entity]] *= 1 - own_weight
    weights[is_own] = np.where(has_both, own_weight, 1.0)[entity[is_own]]
    return weights


def allowed_like(model: Model, ids: npt.NDArray[np.int64]) -> Tensor:
    """Return the prediction set that ids are of, a bitset int32 ``[1, words]``."""
    domain = model.domain
    chosen = domain.prediction_sets[int(domain.prediction_set(ids[:1])[0])]
    return torch.from_numpy(chosen.words)[None].to(model.device)


def padded_mean(
    log_probabilities: Tensor, entities: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> Tensor:
    """Return the scores by a loop over entities: the definition, for tests and benchmarks.

    Args:
        log_probabilities: float ``[queries, slots, vocabulary]``.
        entities: slots and tokens of each.

    Returns:
        float ``[queries, entities]``.
    """
    return torch.stack(
        [
            log_probabilities[:, torch.as_tensor(slots), torch.as_tensor(tokens)].mean(-1)
            for slots, tokens in entities
        ],
        dim=-1,
    )
