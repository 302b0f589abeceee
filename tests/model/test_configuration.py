"""Options of the encoder: defaults, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from seqmlm.errors import ConfigError
from seqmlm.model.configuration import EncoderConfig


def config(**options: Any) -> EncoderConfig:
    return EncoderConfig(**{"vocabulary_size": 33, "mask_token": 32} | options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"activation": "gelu", "hidden_size": 128}, 512),
        ({"activation": "geglu", "hidden_size": 128}, 344),
        ({"activation": "geglu", "hidden_size": 48}, 128),
        ({"activation": "geglu", "feed_forward_size": 100}, 100),
    ],
    ids=["4 x", "8/3 x, rounded up to 8", "8/3 x, exact", "given"],
)
def test_feed_forward_size_follows_from_the_hidden_size(
    options: dict[str, Any], expected: int
) -> None:
    assert config(**options).feed_forward_size == expected


def test_keys_and_values_have_as_many_heads_as_queries_unless_said_otherwise() -> None:
    assert config(heads=4).key_value_heads == 4
    assert config(heads=4, key_value_heads=2).key_value_heads == 2


def test_every_third_layer_is_global_from_the_first_on() -> None:
    local = config(layers=7, window=8)
    windows = [local.window_of_layer(layer) for layer in range(7)]
    assert windows == [None, 8, 8, None, 8, 8, None]
    assert {config().window_of_layer(layer) for layer in range(4)} == {None}


def test_json_round_trip_keeps_every_option() -> None:
    given = config(positions="learned", max_positions=9, heads=2, key_value_heads=1, dropout=0.1)
    assert EncoderConfig.from_json(json.loads(json.dumps(given.to_json()))) == given
    rotary = config(hidden_size=8, heads=2, rotary_frequencies=[1.0, 0.1])
    assert EncoderConfig.from_json(json.loads(json.dumps(rotary.to_json()))) == rotary


def test_the_longest_sequence_is_what_learned_positions_leave() -> None:
    learned = {"positions": "learned", "max_positions": 9}
    assert config(**learned).longest_sequence == 9
    assert config(**learned, position_offset=2).longest_sequence == 7
    assert config().longest_sequence is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu"}, "activation = 'relu': it is 'gelu' or 'geglu'"),
        ({"positions": "none"}, "positions = 'none': it is 'rotary' or 'learned'"),
        ({"layers": 0}, "layers = 0: must be at least 1"),
        ({"global_every": 0}, "global_every = 0: must be at least 1"),
        ({"key_value_heads": -2}, "key_value_heads = -2: must be at least 0"),
        ({"feed_forward_size": -8}, "feed_forward_size = -8: must be at least 0"),
        ({"window": -1}, "window = -1: must be at least 0"),
        ({"segments": -1}, "segments = -1: must be at least 0"),
        ({"dropout": 1.0}, r"dropout = 1\.0: must be in \[0, 1\)"),
        ({"dropout": float("nan")}, r"dropout = nan: must be in \[0, 1\)"),
        ({"mask_token_rate": 1.1}, r"mask_token_rate = 1\.1: must be in \[0, 1\]"),
        ({"normalisation_epsilon": 0.0}, r"normalisation_epsilon = 0\.0: must be above 0"),
        ({"rotary_base": float("inf")}, "rotary_base = inf"),
        ({"heads": 5}, "heads = 5 does not divide model.hidden_size = 128"),
        ({"heads": 4, "key_value_heads": 3}, "key_value_heads = 3 does not divide model.heads"),
        ({"hidden_size": 12, "heads": 4}, "= 3 is odd: rotary positions turn pairs"),
        ({"positions": "learned"}, "max_positions must be set"),
        ({"max_positions": 8}, "max_positions = 8 has no effect with model.positions = 'rotary'"),
        ({"position_offset": 2}, "position_offset = 2 has no effect with model.positions = 'rot"),
        (
            {"positions": "learned", "max_positions": 2, "position_offset": 2},
            "position_offset = 2 leaves no row of model.max_positions = 2",
        ),
        (
            {"positions": "learned", "max_positions": 2, "local_rotary_base": 1e4},
            r"local_rotary_base = 10000\.0 has no effect with model.positions = 'learned'",
        ),
        ({"local_rotary_base": -1.0}, r"local_rotary_base = -1\.0: must be at least 0"),
        ({"rotary_frequencies": (1.0,)}, "rotary_frequencies has 1 numbers; heads of size 32 turn"),
        (
            {"heads": 32, "rotary_frequencies": (1.0, 0.1), "local_rotary_base": 1e4},
            "cannot both be set",
        ),
        ({"token_dropout": True, "mask_token_rate": 1.0}, "nothing would be left"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.{message}|{message}"):
        config(**options)


def test_every_token_may_be_masked_without_token_dropout() -> None:
    """A policy of rate 1 and mask tokens alone was refused once."""
    assert config(mask_token_rate=1.0).mask_token_rate == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"hidden": 8}, "model.hidden: unknown option. Did you mean 'hidden_size'"),
        ({"layers": "4"}, "model: .*not supported between"),
        ({}, "model: .*missing 2 required"),
    ],
    ids=["unknown", "type", "missing"],
)
def test_damaged_json_is_refused(content: dict[str, Any], message: str) -> None:
    complete = {"vocabulary_size": 33, "mask_token": 32} if content else {}
    with pytest.raises(ConfigError, match=message):
        EncoderConfig.from_json(complete | content)
