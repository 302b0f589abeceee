"""Tokens, ids, special tokens, and sets of allowed tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.errors import ConfigError
from seqmlm.vocabulary import AllowedTokens, SpecialTokens, Vocabulary

SPECIAL = SpecialTokens(padding=0, unknown=1, start=2, end=2, mask=3)
TOKENS = ("<pad>", "<unk>", "<sep>", "<mask>", "a", "b", "ü", "#")


def vocabulary(**changes: Any) -> Vocabulary:
    content: dict[str, Any] = {
        "tokens": TOKENS,
        "special": SPECIAL,
        "ranges": {"letters": (4, 7), "signs": (7, 8)},
    }
    return Vocabulary(**content | changes)


def test_tokens_and_ids_are_one_to_one() -> None:
    letters = vocabulary()
    assert [letters.id_of(token) for token in TOKENS] == list(range(8))
    assert len(letters) == 8
    assert "ü" in letters
    assert "c" not in letters


def test_unknown_tokens_get_the_id_of_the_unknown_token() -> None:
    assert vocabulary().id_of("c") == SPECIAL.unknown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": (*TOKENS, "b", "a", "b")}, "occur more than once: a, b"),
        ({"ranges": {"x": (4, 4)}}, r"range of 'x' is \[4, 4\)"),
        ({"ranges": {"x": (5, 4)}}, r"range of 'x' is \[5, 4\)"),
        ({"ranges": {"x": (-1, 4)}}, r"non-empty part of \[0, 8\)"),
        ({"ranges": {"x": (4, 9)}}, r"range of 'x' is \[4, 9\)"),
        ({"ranges": {"x": (3, 8)}}, r"\[3, 8\) of 'x' holds a special token"),
        ({"special": replace(SPECIAL, mask=8)}, r"mask token has id 8; ids are in \[0, 8\)"),
        ({"special": replace(SPECIAL, padding=-1)}, "padding token has id -1"),
    ],
    ids=["repeated", "empty", "reversed", "below", "above", "special", "no id", "negative id"],
)
def test_inconsistent_vocabularies_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        vocabulary(**changes)


def test_ranges_cannot_be_changed_afterwards() -> None:
    ranges = {"letters": (4, 7)}
    letters = vocabulary(ranges=ranges)
    ranges["letters"] = (0, 8)
    assert letters.ranges["letters"] == (4, 7)
    with pytest.raises(TypeError):
        letters.ranges["letters"] = (0, 8)  # type: ignore[index]


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": (*TOKENS[:-1], "!")},
        {"tokens": (*TOKENS[:4], "b", "a", *TOKENS[6:])},
        {"special": replace(SPECIAL, end=1)},
        {"ranges": {"letters": (4, 6), "signs": (7, 8)}},
        {"ranges": {"letter": (4, 7), "signs": (7, 8)}},
    ],
    ids=["token", "order", "special", "range", "name"],
)
def test_fingerprint_changes_with_any_part(changes: dict[str, Any]) -> None:
    assert vocabulary(**changes).fingerprint() != vocabulary().fingerprint()


def test_fingerprint_does_not_depend_on_the_order_of_ranges() -> None:
    turned = vocabulary(ranges={"signs": (7, 8), "letters": (4, 7)})
    assert turned.fingerprint() == vocabulary().fingerprint()
    assert len(turned.fingerprint()) == 16


def test_json_round_trip_keeps_everything() -> None:
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary().to_json())))
    assert again == vocabulary()
    assert again.fingerprint() == vocabulary().fingerprint()


@given(st.data())
def test_allowed_tokens_give_back_exactly_the_ids_put_in(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 100))
    ids = data.draw(st.sets(st.integers(0, size - 1)))
    allowed = AllowedTokens.of(ids, size)
    assert set(np.flatnonzero(allowed.mask()).tolist()) == ids
    assert len(allowed.mask()) == size
    assert allowed.words.dtype == np.int32
    assert len(allowed.words) == -(-size // 32)


@pytest.mark.parametrize(
    ("ids", "words"),
    [([], [0, 0]), ([0], [1, 0]), ([31], [-(2**31), 0]), ([32, 33], [0, 3]), ([0, 0], [1, 0])],
    ids=["none", "first", "sign bit", "second word", "twice"],
)
def test_bits_are_laid_out_as_the_kernels_read_them(ids: list[int], words: list[int]) -> None:
    """Id i is bit i % 32 of word i // 32."""
    assert AllowedTokens.of(ids, 40).words.tolist() == words


@pytest.mark.parametrize("outside", [-1, 33, 1000])
def test_ids_outside_the_vocabulary_cannot_be_allowed(outside: int) -> None:
    with pytest.raises(ConfigError, match=rf"id {outside} is not in \[0, 33\)"):
        AllowedTokens.of([4, outside], 33)
