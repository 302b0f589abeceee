"""Attention weights against what the layers do with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from seqmlm.analysis.attention import analyse_attention, attention_weights, queries_keys_values
from seqmlm.analysis.layers import attention_blocks, recorded_layers
from seqmlm.analysis.run import AnalysedRun
from seqmlm.data.packing import pack
from seqmlm.errors import DataError

Runs = Callable[..., AnalysedRun]
TEXT = "the quick brown fox. jumps"


@pytest.mark.parametrize("direction", [None, "left_to_right", "right_to_left"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heads": 4, "key_value_heads": 2},
        {"window": 3, "global_every": 2},
        {"positions": "learned", "max_positions": 64, "biases": True},
        {"normalisation_placement": "post", "normalisation": "layer"},
    ],
    ids=["rotary", "grouped", "window", "learned positions", "post-norm"],
)
def test_weights_times_values_are_what_the_layer_computes(
    analysed: Runs, options: dict[str, Any], direction: str | None
) -> None:
    run = analysed(direction=direction, **options)
    model = run.model
    with torch.no_grad(), recorded_layers(model.encoder) as record:
        model(pack([run.row(model.domain.parse(TEXT))]))
        for block, (hidden, context), output in zip(
            attention_blocks(model.encoder),
            record.attention_inputs,
            record.attention_outputs,
            strict=True,
        ):
            weights = attention_weights(block, hidden, context)
            _, _, values = queries_keys_values(block, hidden, context)
            values = values.repeat_interleave(weights.shape[0] // values.shape[1], dim=1)
            mixed = torch.einsum("hij,jhd->ihd", weights, values)
            torch.testing.assert_close(block.output(mixed.flatten(-2)), output, rtol=0, atol=1e-5)


def test_a_causal_run_attends_to_nothing_that_follows(analysed: Runs) -> None:
    run = analysed(direction="left_to_right")
    maps = analyse_attention(run, run.model.domain.parse(TEXT))
    assert maps.weights.shape == (2, 2, 28, 28)
    assert torch.equal(maps.weights, maps.weights.tril())
    torch.testing.assert_close(maps.weights.sum(-1), torch.ones(2, 2, 28))


def test_local_layers_attend_to_nothing_beyond_their_window(analysed: Runs) -> None:
    run = analysed(window=3, global_every=2)
    maps = analyse_attention(run, run.model.domain.parse(TEXT))
    assert maps.windows == (None, 3)
    assert maps.weights[1][:, maps.distances > 3].abs().max() == 0
    assert maps.weights[0][:, maps.distances > 3].min() > 0


def test_summaries_of_uniform_attention_are_those_of_a_coin(analysed: Runs) -> None:
    """Without queries every key gets 1 / n: entropy log n, and distance (n^2 - 1) / 3n."""
    run = analysed()
    with torch.no_grad():
        for block in attention_blocks(run.model.encoder):
            saved = block.query_key_value.weight.clone()
            block.query_key_value.weight.zero_()
            assert not torch.equal(saved, block.query_key_value.weight)
    maps = analyse_attention(run, run.model.domain.parse("abcdef"))
    torch.testing.assert_close(maps.entropy_nats, torch.full((2, 2), math.log(8)))
    torch.testing.assert_close(maps.mean_distance, torch.full((2, 2), 63 / 24))
    torch.testing.assert_close(maps.special_share, torch.full((2, 2), 0.25))
    head = maps.to_json()["layers"][1]["heads"][0]
    assert head["mean_distance_tokens"] == pytest.approx(63 / 24)


def test_an_empty_text_is_refused(analysed: Runs) -> None:
    run = analysed()
    with pytest.raises(DataError, match="empty: there is nothing to attend to"):
        analyse_attention(run, run.model.domain.parse(""))


def test_recording_gives_every_layer_and_leaves_no_hook(analysed: Runs) -> None:
    run = analysed()
    model, batch = run.model, pack([run.row(run.model.domain.parse(TEXT))])
    with torch.no_grad(), recorded_layers(model.encoder) as record:
        hidden = model(batch)
    assert len(record.states) == 3
    torch.testing.assert_close(record.states[0], model.encoder.embed(batch))
    torch.testing.assert_close(model.encoder.final_norm(record.states[2]), hidden)
    with torch.no_grad():
        model(batch)
    assert len(record.states) == 3
