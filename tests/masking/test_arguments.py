"""Arguments that are no numbers, or no finite ones, are refused by name, value and range."""

from __future__ import annotations

import math
from typing import Any

import pytest

from seqmlm.errors import ConfigError
from seqmlm.masking.arguments import add_up, check_number, check_text
from seqmlm.registry import CORRUPTORS, DOMAINS, OBJECTIVES, SELECTORS, Registry

NO_NUMBERS = [math.nan, math.inf, -math.inf, "x", True, None, [0.5], -1]

NUMBERS: list[tuple[Registry, str, str, str]] = [
    (SELECTORS, "span", "stop_probability", "must be in (0, 1]"),
    (SELECTORS, "span", "max_units", "it is a whole number from 1 to 100,000"),
    (SELECTORS, "block", "single", "must be in [0, 1]"),
    (SELECTORS, "block", "longest", "it is a whole number from 2 to 100,000"),
    (SELECTORS, "scored", "exponent", "must be 0 or more"),
    (CORRUPTORS, "mixed", "mask", "they must be 0 or more and add up to 1"),
    (CORRUPTORS, "similar", "keep", "they must be 0 or more and add up to 1"),
    (OBJECTIVES, "pmlm", "auto_encoding", "must be 0 or more"),
    (OBJECTIVES, "pmlm", "autoregressive", "must be 0 or more"),
    (OBJECTIVES, "rtd", "generator_width", "must be in (0, 1]"),
    (OBJECTIVES, "rtd", "generator_depth", "must be in (0, 1]"),
    (OBJECTIVES, "rtd", "discriminator_weight", "must be above 0"),
    (OBJECTIVES, "typed_mlm", "type_weight", "must be above 0"),
    (OBJECTIVES, "typed_mlm", "teacher_forcing", "must be in [0, 1]"),
    (OBJECTIVES, "typed_mlm", "type_dropout", "must be in [0, 1)"),
]


def build(registry: Registry, name: str, **options: Any) -> None:
    domain = [DOMAINS.load("protein")()] if registry is OBJECTIVES else []
    registry.build({"name": name, **options}, *domain, where="here")


@pytest.mark.parametrize("given", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(
    ("registry", "name", "argument", "allowed"), NUMBERS, ids=lambda value: str(value)[:20]
)
def test_what_is_no_number_of_the_range_is_refused(
    registry: Registry, name: str, argument: str, allowed: str, given: object
) -> None:
    with pytest.raises(ConfigError) as error:
        build(registry, name, **{argument: given})
    message = str(error.value)
    assert name in message
    assert f"{argument} = {given!r}" in message
    assert allowed in message


@pytest.mark.parametrize(
    "shares",
    [[math.nan], [math.nan, 0.5, 0.5], [math.inf], [True], ["1"], "1", 0.4, None, [], [1.5, -0.5]],
    ids=repr,
)
def test_shares_of_ngrams_that_are_no_shares_are_refused(shares: object) -> None:
    with pytest.raises(ConfigError, match=r"ngram selector: p = .*a list of the shares") as error:
        build(SELECTORS, "ngram", p=shares)
    assert repr(shares) in str(error.value)


@pytest.mark.parametrize("given", [0.25, 1])
def test_numbers_of_the_range_are_taken(given: float) -> None:
    check_number("share", given, excluded=0)


def test_an_excluded_bound_is_refused() -> None:
    check_number("share", 0)
    with pytest.raises(ConfigError, match=r"share = 0: must be in \(0, 1\]"):
        check_number("share", 0, excluded=0)


def test_rounded_shares_add_up() -> None:
    assert add_up([1 / 3] * 3)
    assert add_up([1])
    assert not add_up([0.3] * 3)


def test_what_is_no_text_is_refused() -> None:
    check_text("table", "corpus", "a path")
    with pytest.raises(ConfigError, match="table = 3: it is a path, as a text"):
        check_text("table", 3, "a path")
