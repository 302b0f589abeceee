"""Reading on with a cache: the same states as reading everything anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.model.key_value_cache import KeyValueCache
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row, RowVisibility

Models = Callable[..., Model]

OPTIONS: dict[str, dict[str, Any]] = {
    "rotary": {},
    "learned": {"positions": "learned", "max_positions": 40},
    "post-norm": {"normalisation_placement": "post", "normalisation": "layer", "biases": True},
    "grouped queries": {"heads": 4, "key_value_heads": 2},
    "window": {"layers": 4, "window": 3, "global_every": 2},
    "segments and roles": {"segments": 3, "roles": 2},
    "token dropout": {"token_dropout": True, "mask_token_rate": 0.12},
    "bert": {
        "positions": "learned",
        "max_positions": 40,
        "normalisation_placement": "post",
        "activation": "gelu",
        "embedding_normalisation": True,
    },
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
both_contexts = pytest.mark.parametrize("context", ["causal", "bidirectional"])

TEXTS = ["some words to read", "a", "left to right, then".replace(",", ""), "b c"]
PREFIX_LENGTHS = [12, 1, 9, 3]
NEW_TOKENS = 2


def row_of(model: Model, text: str, prefix_length: int, context: str) -> Row:
    """A row in which the tokens after the prefix see what comes before them."""
    row = Row.of(model.domain.parse(text))
    order = np.arange(len(row.ids), dtype=np.int32)
    if context == "bidirectional":
        order = np.maximum(order - prefix_length + 1, 0).astype(np.int32)
    return replace(
        row,
        segment_ids=(order % max(model.encoder.config.segments, 1)).astype(np.int32),
        visibility=RowVisibility(order, order, np.full_like(order, -1)),
        role_ids=(order // 2 % 2).astype(np.int32),
    )


def part(row: Row, start: int, stop: int) -> Row:
    assert row.visibility is not None
    assert row.role_ids is not None
    span = slice(start, stop)
    order = row.visibility.step[span]
    return Row(
        row.ids[span],
        row.position_ids[span],
        row.segment_ids[span],
        RowVisibility(order, order, np.full_like(order, -1)),
        role_ids=row.role_ids[span],
    )


def states_with_cache(model: Model, rows: list[Row], lengths: list[int]) -> list[list[Tensor]]:
    """For each row the state of the last prefix token and of each new one."""
    cache = KeyValueCache(len(model.encoder.layers), new_tokens=NEW_TOKENS)
    batch = pack([part(row, 0, length) for row, length in zip(rows, lengths, strict=True)])
    found = [model.encoder(batch, cache=cache)[batch.cu_seqlens[1:].long() - 1]]
    for new in range(NEW_TOKENS):
        batch = pack(
            [
                part(row, length + new, length + new + 1)
                for row, length in zip(rows, lengths, strict=True)
            ]
        )
        found.append(model.encoder(batch, cache=cache))
    return [list(states) for states in zip(*found, strict=True)]


@every_option
@both_contexts
@pytest.mark.parametrize("backend", ["torch", "reference"])
@torch.no_grad()
def test_states_are_those_of_reading_the_whole_row_anew(
    words: Domain, build_model: Models, options: dict[str, Any], context: str, backend: str
) -> None:
    """Rows of different lengths together against each row alone, at every token."""
    model = build_model(words, backend=backend, **options)
    rows = [
        row_of(model, text, length, context)
        for text, length in zip(TEXTS, PREFIX_LENGTHS, strict=True)
    ]
    found = states_with_cache(model, rows, PREFIX_LENGTHS)
    for row, length, states in zip(rows, PREFIX_LENGTHS, found, strict=True):
        for new, state in enumerate(states):
            whole = model(pack([part(row, 0, length + new)]))
            torch.testing.assert_close(state, whole[-1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_rows_can_be_dropped_and_doubled_between_passes(words: Domain, build_model: Models) -> None:
    model = build_model(words)
    rows = [row_of(model, text, 3, "causal") for text in ("abcde", "fghij", "klmno")]
    cache = KeyValueCache(2, new_tokens=1)
    model.encoder(pack([part(row, 0, 3) for row in rows]), cache=cache)
    cache.select(torch.tensor([2, 0, 2]))
    kept = [rows[2], rows[0], rows[2]]
    found = model.encoder(pack([part(row, 3, 4) for row in kept]), cache=cache)
    for row, state in zip(kept, found, strict=True):
        whole = model(pack([part(row, 0, 4)]))
        torch.testing.assert_close(state, whole[-1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_pass_that_does_not_fit_is_refused(words: Domain, build_model: Models) -> None:
    model = build_model(words)
    rows = [row_of(model, text, 3, "causal") for text in ("abcde", "fghij")]
    cache = KeyValueCache(2, new_tokens=1)
    model.encoder(pack([part(row, 0, 3) for row in rows]), cache=cache)
    with pytest.raises(ValueError, match="has 2 rows and the batch 4 tokens in 2 rows"):
        model.encoder(pack([part(row, 3, 5) for row in rows]), cache=cache)
    model.encoder(pack([part(row, 3, 4) for row in rows]), cache=cache)
    with pytest.raises(ValueError, match="made for 1 new tokens"):
        model.encoder(pack([part(row, 4, 5) for row in rows]), cache=cache)
