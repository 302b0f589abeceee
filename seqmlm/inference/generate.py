"""Continuing texts token by token, with the keys and values of all earlier tokens kept."""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqmlm.data.packing import PackedBatch, pack
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference.sampling import Sampling, TokenSampler
from seqmlm.inference.texts import given_texts
from seqmlm.model.key_value_cache import KeyValueCache
from seqmlm.objectives.rows import PrefixContext, Row, RowVisibility
from seqmlm.randomness import Purpose, stream

if TYPE_CHECKING:
    from seqmlm.model.model import Model

_MAY_STILL_CHANGE = string.whitespace + "\N{REPLACEMENT CHARACTER}"
"""At the end of a decoded text: half a character, or a blank that a later token takes away."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a model wrote after a prefix.

    Args:
        prefix: as the tokenizer gives it back.
        text: what follows it.
        tokens: of ``text``, as written in the vocabulary; with the end token if it was drawn.
        log_probabilities: of each token given all before it, nats, at temperature 1, among the
            domain's tokens and the end token.
        is_finished: whether it ends with the end token, not at the limit.
    """

    prefix: str
    text: str
    tokens: tuple[str, ...]
    log_probabilities: tuple[float, ...]
    is_finished: bool

    @property
    def log_likelihood(self) -> float:
        """Sum over the tokens, nats: log p of this continuation, by the chain rule."""
        return math.fsum(self.log_probabilities)


@dataclass(frozen=True, slots=True)
class Prefix:
    """A text to be continued.

    Args:
        row: as the encoder reads it.
        segment: of the tokens to come.
        role: of the tokens to come.
    """

    row: Row
    segment: int
    role: int


def generate(
    model: Model,
    prefixes: Sequence[str | Encoding],
    *,
    max_tokens: int,
    sampling: Sampling,
    samples: int,
    seed: int,
    context: PrefixContext | None,
) -> list[list[Continuation]]:
    """See :meth:`seqmlm.model.model.Model.generate`."""
    if samples < 1:
        raise ConfigError(f"samples = {samples}: must be at least 1.")
    context = prefix_context(model, context)
    rows = [read_prefix(model, text, context) for text in given_texts(prefixes)]
    if not rows:
        return []
    with model.inference():
        decoding = Decoding(
            model, rows, max_tokens=max_tokens, sampling=sampling, samples=samples, seed=seed
        )
        while not decoding.is_done:
            decoding.step()
    found = [decoding.continuation(index) for index in range(len(rows) * samples)]
    return [found[start : start + samples] for start in range(0, len(found), samples)]


def stream_text(
    model: Model,
    prefix: str,
    *,
    max_tokens: int,
    sampling: Sampling,
    seed: int,
    context: PrefixContext | None,
) -> Iterator[str]:
    """Yield the prefix, then the first sample of :func:`generate` in pieces as it grows."""
    row = read_prefix(model, prefix, prefix_context(model, context))
    with model.inference():
        decoding = Decoding(
            model, [row], max_tokens=max_tokens, sampling=sampling, samples=1, seed=seed
        )
    shown = ""
    while True:
        found = decoding.continuation(0)
        text = found.prefix + found.text
        if not decoding.is_done:
            text = text.rstrip(_MAY_STILL_CHANGE)
        if len(text) > len(shown):
            yield text[_common_length(shown, text) :]
            shown = text
        if decoding.is_done:
            return
        with model.inference():  # not around the yield: the caller's own work is none of it
            decoding.step()


def prefix_context(model: Model, asked: PrefixContext | None) -> PrefixContext:
    """Return how a model reads a prefix: as asked for, else as its first objective that can.

    Raises:
        ConfigError: it was not trained to continue a text, or not from a prefix read so.
    """
    learned = [
        objective.prefix_context
        for objective in model.trained_objectives
        if objective.causal_direction == "left_to_right" and objective.prefix_context is not None
    ]
    if not learned:
        raise ConfigError(f"This model cannot continue a text: {_why_not(model)}")
    if asked is not None and asked not in learned:
        raise ConfigError(
            f"context = {asked!r}: this model has learned to continue texts with context = "
            f"{' or '.join(map(repr, dict.fromkeys(learned)))} alone. Leave it out."
        )
    return asked or learned[0]


def _why_not(model: Model) -> str:
    remedy = "Train with objectives = [{name = 'clm'}] or [{name = 'prefix_lm'}]."
    if not model.trained_objectives:
        return f"it does not say with which objectives it was trained. {remedy}"
    names = ", ".join(objective.name for objective in model.trained_objectives)
    if any(objective.causal_direction for objective in model.trained_objectives):
        return (
            f"it was trained with {names} from right to left, and generation goes from left to "
            "right. Train with direction = 'left_to_right'."
        )
    return (
        f"it was trained with {names}, which does not predict what comes next. {remedy} "
        "To fill masks inside a text use infill."
    )


def read_prefix(model: Model, text: str | Encoding, context: PrefixContext) -> Prefix:
    """Encode a text without its end, so that more can follow; an empty one is a mere start.

    An encoding is taken as it is, such as that of a dialogue to be answered.

    Raises:
        DataError: the text cannot be encoded, holds a mask, or the domain gives it no token.
    """
    domain, special = model.domain, model.vocabulary.special
    if isinstance(text, Encoding):
        encoding, text = text, domain.decode(text.ids.tolist())
    elif text:
        encoding = domain.parse(text)
    else:
        nothing = np.empty(0, domain.token_dtype)
        encoding = domain.assemble(nothing, max_length=1 + domain.special_tokens_per_sequence)
    if (encoding.ids == special.mask).any():
        raise DataError(
            f"{text!r} holds {model.vocabulary.tokens[special.mask]}, and generation only adds to "
            "the end. Fill the masks first, with infill."
        )
    length = len(encoding)
    if encoding.response_start != length and length and encoding.ids[-1] == special.end:
        length -= 1
    if not length:
        raise DataError(f"{text!r} has no token that something could follow.")
    return _prefix(encoding, length, context)


def _prefix(encoding: Encoding, length: int, context: PrefixContext) -> Prefix:
    """The first ``length`` tokens, as the objective of this context has them."""
    row = Row.of(encoding)
    order = np.arange(length, dtype=np.int32)
    is_response = encoding.response_start is not None
    if context == "bidirectional":
        known = min(encoding.response_start or length, length)
        order = np.maximum(order - np.int32(known - 1), np.int32(0))
    roles = None if row.role_ids is None else row.role_ids[:length]
    return Prefix(
        replace(
            row,
            ids=row.ids[:length],
            position_ids=row.position_ids[:length],
            segment_ids=row.segment_ids[:length],
            visibility=RowVisibility(order, order, np.full_like(order, -1)),
            role_ids=roles,
        ),
        segment=1 if is_response else int(row.segment_ids[length - 1]),
        role=0 if is_response or roles is None else int(roles[-1]),
    )


class Decoding:
    """Continuations of several prefixes, one forward pass a token for all of them together.

    Built and used inside :meth:`seqmlm.model.model.Model.inference`.

    Args:
        model: trained to continue.
        prefixes: at least one.
        max_tokens: most new tokens of each, the end token included.
        sampling: how a token is drawn.
        samples: continuations of each prefix.
        seed: what sample i of a prefix is depends on the prefix, the seed and i alone.

    Raises:
        ConfigError: ``max_tokens`` is below 1 or more than the model has positions for.
    """

    def __init__(
        self,
        model: Model,
        prefixes: Sequence[Prefix],
        *,
        max_tokens: int,
        sampling: Sampling,
        samples: int,
        seed: int,
    ) -> None:
        _check_positions(model, prefixes, max_tokens)
        low, high = model.vocabulary.ranges[model.domain.name]
        self._model = model
        self._end = model.vocabulary.special.end
        self._sampler = TokenSampler(model, sorted([*range(low, high), self._end]), sampling)
        self._prefixes = [prefix for prefix in prefixes for _ in range(samples)]
        self._generators = [
            stream(seed, Purpose.SAMPLING, sample=number)
            for _ in prefixes
            for number in range(samples)
        ]
        self._ids: list[list[int]] = [[] for _ in self._prefixes]
        self._log_probabilities: list[list[float]] = [[] for _ in self._prefixes]
        self._max_tokens = max_tokens
        self._going = list(range(len(self._prefixes)))
        self._cache = KeyValueCache(len(model.encoder.layers), new_tokens=max_tokens - 1)
        self._hidden = self._read(prefixes, samples)

    @property
    def is_done(self) -> bool:
        """Whether every continuation has ended or reached the limit."""
        return not self._going

    def step(self) -> None:
        """Draw the next token of each continuation that is not done."""
        uniforms = [self._generators[index].random() for index in self._going]
        every = torch.arange(len(self._going), device=self._model.device)
        ids, log_probabilities = self._sampler.draw(self._hidden, every, uniforms)
        for index, token, value in zip(self._going, ids, log_probabilities, strict=True):
            self._ids[index].append(token)
            self._log_probabilities[index].append(value)
        kept = [
            position
            for position, (index, token) in enumerate(zip(self._going, ids, strict=True))
            if token != self._end and len(self._ids[index]) < self._max_tokens
        ]
        if len(kept) < len(self._going):
            self._going = [self._going[position] for position in kept]
            self._cache.select(torch.tensor(kept, dtype=torch.int64, device=every.device))
        if self._going:
            self._hidden = self._model.encoder(self._next_batch(), cache=self._cache)

    def continuation(self, index: int) -> Continuation:
        """Return what there is of one continuation; sample i of prefix p is p * samples + i."""
        model, ids = self._model, self._ids[index]
        known = self._prefixes[index].row.ids.tolist()
        prefix = model.domain.decode(known)
        whole = model.domain.decode([*known, *ids])
        # A token may reach back into the prefix: of WordPiece it continues the last word.
        common = _common_length(prefix, whole)
        return Continuation(
            prefix=whole[:common],
            text=whole[common:],
            tokens=tuple(model.vocabulary.tokens[token] for token in ids),
            log_probabilities=tuple(self._log_probabilities[index]),
            is_finished=bool(ids) and ids[-1] == self._end,
        )

    def _read(self, prefixes: Sequence[Prefix], samples: int) -> Tensor:
        """Read each prefix once; every sample of it goes on from there."""
        batch = pack([prefix.row for prefix in prefixes]).to(self._model.device)
        hidden = self._model.encoder(batch, cache=self._cache)
        owners = torch.arange(len(prefixes), device=hidden.device).repeat_interleave(samples)
        if samples > 1:
            self._cache.select(owners)
        last = batch.cu_seqlens[1:].long() - 1
        return hidden[last[owners]]  # type: ignore[no-any-return]

    def _next_batch(self) -> PackedBatch:
        """The token drawn last of each continuation that is not done."""
        prefixes = [self._prefixes[index] for index in self._going]
        rows = [
            Row(
                np.array(self._ids[index][-1:], np.int32),
                prefix.row.position_ids[-1:] + np.int32(len(self._ids[index])),
                np.array([prefix.segment], np.int32),
                role_ids=None if prefix.row.role_ids is None else np.array([prefix.role], np.int32),
            )
            for index, prefix in zip(self._going, prefixes, strict=True)
        ]
        return pack(rows).to(self._model.device)


def _common_length(left: str, right: str) -> int:
    """Number of characters that two texts begin with in common."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))


def _check_positions(model: Model, prefixes: Sequence[Prefix], max_tokens: int) -> None:
    if max_tokens < 1:
        raise ConfigError(f"max_tokens = {max_tokens}: must be at least 1.")
    learned = model.encoder.config.longest_sequence
    used = max(int(prefix.row.position_ids[-1]) + 1 for prefix in prefixes)
    # The last new token is not read, so it needs no position.
    if learned is not None and used + max_tokens - 1 > learned:
        raise ConfigError(
            f"max_tokens = {max_tokens}: the longest prefix takes {used} of the "
            f"{learned} positions that this model has learned; "
            f"{max(learned - used + 1, 0)} new tokens fit."
        )
