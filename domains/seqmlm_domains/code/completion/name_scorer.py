"""Log-likelihoods of whole names from one forward pass of a masked model.

A name of k tokens is scored behind k masks: the sum of log p(token i | context, k masks), the
product of marginals of :mod:`seqmlm.inference.infill`; of a name of more than :data:`MOST_MASKS`
the first tokens count, which is an upper bound. Sums of different k are no probabilities of one
space: the mixture weighs each kind by itself.

The packed batch holds two rows for a place. One has a single mask, as in training. In the other,
with half the context, groups of 2, 3 and 4 masks stand at the same positions: they see the context
and their own group, and no one sees them. How far apart the sides of the gap are tells the model
how many tokens are missing, so a single mask cannot share a row with more: at a distance of 2 its
mean reciprocal rank fell from .50 to .40, while a group that the context does not see loses nothing
(.494 against .496 for the row of training, 108 names).

A model that was trained by ``typed_mlm`` expects the type of each group's name at its first mask,
and its tokens given that; see :mod:`.type_stage`.

Without code behind the cursor, a model that was also trained from left to right gives
log p(first token | what is before), and the frequencies of the names that begin with it the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row, RowVisibility
from seqmlm.vocabulary import AllowedTokens, SpecialTokens
from seqmlm_domains.code.completion.completion import ExpectedType
from seqmlm_domains.code.completion.evidence import Evidence, FloatArray
from seqmlm_domains.code.completion.type_stage import TypeStage
from seqmlm_domains.code.condensed import condensed
from seqmlm_domains.code.domain import CodeDomain

MOST_CONTEXT: Final = 256
"""Tokens of a row, special tokens and masks included."""

MOST_MASKS: Final = 4

LENGTHS: Final = MOST_MASKS + 1
"""Classes of names by their number of tokens; the last one holds all longer names."""

_LONG_GROUPS: Final = tuple(range(2, MOST_MASKS + 1))

_CHARACTERS_PER_TOKEN: Final = 8  # at most, but for rare texts, whose context is then shorter


@dataclass(frozen=True, eq=False)
class NameTokens:
    """Tokens of names.

    Args:
        ids: int64 ``[names, MOST_MASKS]``, the first ones; 0 where there are fewer.
        lengths: int64 ``[names]``, how many each has, at most :data:`LENGTHS`.
    """

    ids: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, names: Sequence[str], domain: CodeDomain) -> NameTokens:
        """Cut names into tokens; about 200,000 a second."""
        tokens = domain.encode_texts(names)
        ids = np.zeros((len(names), MOST_MASKS), np.int64)
        owner = np.repeat(np.arange(len(names)), tokens.lengths)
        place = np.arange(len(owner)) - np.repeat(
            np.cumsum(tokens.lengths) - tokens.lengths, tokens.lengths
        )
        fits = place < MOST_MASKS
        ids[owner[fits], place[fits]] = tokens.ids[fits]
        return cls(ids, np.minimum(tokens.lengths, LENGTHS))

    def followed_by(self, others: NameTokens) -> NameTokens:
        """Return these names and then others."""
        return NameTokens(
            np.concatenate([self.ids, others.ids]), np.concatenate([self.lengths, others.lengths])
        )


@dataclass(frozen=True, eq=False)
class Scores:
    """What the model says at one cursor.

    Args:
        log_likelihoods: of each known name, nats, float64 ``[names]``.
        types: that a name of one token has most probably; none where no types are expected.
    """

    log_likelihoods: FloatArray
    types: tuple[ExpectedType, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of a place.

    Args:
        row: without targets.
        positions: that are to be scored.
        groups: how many of them each name takes whose type is expected.
    """

    row: Row
    positions: range
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _MaskedName:
    """Masks of one name among the targets of a batch, and the types that it may have."""

    targets: range
    types: AllowedTokens | None


class NameScorer:
    """Scores all known names at cursors.

    Args:
        model: of domain ``code``, trained to fill in masks.
        trained_length: see :class:`~seqmlm_domains.code.completion.completer.Completer`.
        type_stage: of the model, if it has one.
    """

    def __init__(
        self,
        model: Model,
        *,
        trained_length: int | None = None,
        type_stage: TypeStage | None = None,
    ) -> None:
        assert isinstance(model.domain, CodeDomain), "the completer has checked it"
        self._model = model
        self._type_stage = type_stage
        self._domain = model.domain
        self._context_tokens = MOST_CONTEXT
        learned_positions = model.encoder.config.longest_sequence
        if learned_positions is not None:
            self._context_tokens = min(MOST_CONTEXT, trained_length or learned_positions)
        self._is_causal = any(
            objective.causal_direction == "left_to_right" for objective in model.trained_objectives
        )
        low, high = model.vocabulary.ranges[self._domain.name]
        self._range = slice(low, high)

    def score(self, places: Sequence[tuple[Evidence, NameTokens]]) -> list[Scores]:
        """Return the scores of all known names for each place, from one forward pass.

        Args:
            places: what is known there, and the tokens of its names.
        """
        rows: list[Row] = []
        targets: list[int] = []
        allowed: list[AllowedTokens | None] = []
        masked: list[_MaskedName] = []
        end = 0
        for evidence, tokens in places:
            own = self._allowed_tokens(evidence, tokens)
            types = self._allowed_types(evidence)
            for each in self._rows(evidence):
                first = len(targets)
                for count in each.groups:
                    masked.append(_MaskedName(range(first, first + count), types))
                    first += count
                rows.append(each.row)
                targets += [end + position for position in each.positions]
                allowed += [own] * len(each.positions)
                end += len(each.row.ids)
        predicted, expected = self._predict(rows, targets, allowed, masked)
        log_probabilities, types_of_groups = iter(predicted), iter(expected)
        scores = []
        for evidence, tokens in places:
            if self._reads_causally(evidence):
                begun = _begun(
                    next(log_probabilities), tokens, evidence.frequency, self._range.start
                )
                scores.append(Scores(begun, ()))
            else:
                groups = range(1, MOST_MASKS + 1)
                table = [[next(log_probabilities) for _ in range(count)] for count in groups]
                told = [next(types_of_groups) for _ in groups]
                product = _product_of_marginals(table, tokens, self._range.start)
                scores.append(Scores(product, told[0]))
        return scores

    def _allowed_tokens(self, evidence: Evidence, tokens: NameTokens) -> AllowedTokens | None:
        """The tokens of the names that may stand at a place; None where any may."""
        if not evidence.is_constrained:
            return None
        ids, lengths = tokens.ids[evidence.is_visible], tokens.lengths[evidence.is_visible]
        is_there = np.arange(MOST_MASKS) < lengths[:, None]
        return AllowedTokens.of(np.unique(ids[is_there]).tolist(), len(self._model.vocabulary))

    def _allowed_types(self, evidence: Evidence) -> AllowedTokens | None:
        """The types of the names that may stand at a place; None where any may."""
        if self._type_stage is None:
            return None
        if evidence.types is not None:
            return self._type_stage.allowed(evidence.types)
        due = evidence.syntax.due_type
        return None if due is None else self._type_stage.allowed([due])

    def _reads_causally(self, evidence: Evidence) -> bool:
        return self._is_causal and not len(evidence.cursor.right)

    def _rows(self, evidence: Evidence) -> list[_Row]:
        """Rows of a place."""
        special = self._model.vocabulary.special
        left, right = self._context(evidence)
        if self._reads_causally(evidence):
            ids = np.concatenate([[special.start], left]).astype(np.int32)
            order = np.arange(len(ids), dtype=np.int32)
            visibility = RowVisibility(order, order, np.full_like(order, -1))
            row = Row(ids, order, np.zeros_like(order), visibility)
            return [_Row(row, range(len(ids) - 1, len(ids)), groups=())]
        near = len(left) // 2, len(right) // 2
        return [
            _gap(special, left, right, groups=(1,)),
            _gap(special, left[len(left) - near[0] :], right[: near[1]], groups=_LONG_GROUPS),
        ]

    def _context(self, evidence: Evidence) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Tokens before and behind the cursor, as many as a row takes, more of those before."""
        cursor = evidence.cursor
        room = self._context_tokens - MOST_MASKS - self._domain.special_tokens_per_sequence
        tokens = cursor.tokens
        first = max(0, cursor.piece - 2 * room)
        last = min(len(tokens.numbers), cursor.next_piece + 2 * room)
        if self._domain.is_condensed:
            before = condensed(tokens, first, cursor.piece)
            behind = condensed(tokens, cursor.next_piece, last)
        else:
            before = tokens.text[tokens.span(first)[0] if len(tokens.numbers) else 0 : cursor.start]
            behind = tokens.text[_end(evidence) : tokens.span(last - 1)[1] if last else 0]
        left, right = self._domain.encode_around(
            before[-_CHARACTERS_PER_TOKEN * room :], behind[: _CHARACTERS_PER_TOKEN * room]
        )
        behind_tokens = min(len(right), max(room * 2 // 5, room - len(left)))
        return left[-(room - behind_tokens) :], right[:behind_tokens]

    def _predict(
        self,
        rows: Sequence[Row],
        targets: Sequence[int],
        allowed: Sequence[AllowedTokens | None],
        masked: Sequence[_MaskedName],
    ) -> tuple[list[npt.NDArray[np.float32]], list[tuple[ExpectedType, ...]]]:
        """Log-probabilities of the domain's tokens at packed positions, and types of names.

        Of tokens that are not allowed, they are the least finite number.
        """
        if not rows:
            return [], []
        model = self._model
        with model.inference():
            hidden = model(pack(rows).to(model.device))
            states = hidden.index_select(0, torch.tensor(targets, device=model.device))
            types = self._condition(states, masked)
            # Some ten positions, and mostly any token of the domain: there is nothing to leave out
            # that the fused projection could save.
            features = model.token_head.features(
                states, torch.arange(len(targets), device=model.device)
            )
            weight = model.encoder.token_embedding.weight[self._range]
            scores = F.linear(features, weight, model.token_head.bias[self._range]).float()
            for target, own in zip(scores, allowed, strict=True):
                if own is not None:
                    outside = torch.from_numpy(~own.mask()[self._range]).to(scores.device)
                    target.masked_fill_(outside, torch.finfo(scores.dtype).min)
            return list(scores.log_softmax(1).cpu().numpy()), types

    def _condition(
        self, states: Tensor, masked: Sequence[_MaskedName]
    ) -> list[tuple[ExpectedType, ...]]:
        """Let the states of masks know the expected types, in place; return these."""
        stage = self._type_stage
        if stage is None or not masked:
            return [()] * len(masked)
        probabilities = stage.probabilities(
            states[[name.targets.start for name in masked]], [name.types for name in masked]
        )
        places = [place for name in masked for place in name.targets]
        owners = [number for number, name in enumerate(masked) for _ in name.targets]
        states[places] = stage.conditioned(states[places], probabilities[owners])
        return [stage.told(own) for own in probabilities]


def _gap(
    special: SpecialTokens,
    left: npt.NDArray[np.uint32],
    right: npt.NDArray[np.uint32],
    *,
    groups: tuple[int, ...],
) -> _Row:
    """A row with groups of masks between two sides.

    The smallest group fills the gap; of a larger one the last masks stand beside the right side.
    """
    first = 1 + len(left)
    masks = sum(groups)
    ids = np.concatenate([[special.start], left, right, [special.end], [special.mask] * masks])
    context = len(ids) - masks
    positions = np.arange(len(ids), dtype=np.int32)
    positions[first:context] += groups[0]
    positions[context:] = np.concatenate([first + np.arange(count) for count in groups])
    group = np.full(len(ids), -1, np.int32)
    group[context:] = np.repeat(np.arange(len(groups)), groups)
    nothing = np.zeros(len(ids), np.int32)
    row = Row(ids.astype(np.int32), positions, nothing, RowVisibility(nothing, nothing, group))
    return _Row(row, range(context, len(ids)), groups)


def _end(evidence: Evidence) -> int:
    """Where what is behind the name begins."""
    cursor = evidence.cursor
    return cursor.tokens.span(cursor.next_piece - 1)[1] if cursor.next_piece else 0


def _product_of_marginals(
    table: Sequence[Sequence[npt.NDArray[np.float32]]], tokens: NameTokens, low: int
) -> FloatArray:
    """Sums over the tokens of each name, behind as many masks as it has tokens."""
    scores = np.zeros(len(tokens.lengths))
    masks = np.minimum(tokens.lengths, MOST_MASKS)
    for count, predictions in enumerate(table, start=1):
        chosen = np.flatnonzero(masks == count)
        for place, log_probabilities in enumerate(predictions):
            scores[chosen] += log_probabilities[tokens.ids[chosen, place] - low]
    return scores


def _begun(
    log_probabilities: npt.NDArray[np.float32],
    tokens: NameTokens,
    frequency: FloatArray,
    low: int,
) -> FloatArray:
    """The first token as predicted, the rest as frequent as in the names that begin with it."""
    first = tokens.ids[:, 0] - low
    shares = np.bincount(first, weights=frequency, minlength=len(log_probabilities))
    shares_of_rest: FloatArray = np.log(frequency) - np.log(shares[first])
    return shares_of_rest + log_probabilities[first]
