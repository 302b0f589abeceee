"""Checks of the arguments that selectors, corruptors and objectives take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from seqmlm.errors import ConfigError


def is_number(value: object) -> TypeGuard[int | float]:
    """Say whether a value is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_number(
    argument: str, given: object, *, low: float = 0, high: float = 1, excluded: float | None = None
) -> None:
    """Refuse what is no number between two bounds.

    Args:
        argument: name, with what it belongs to.
        given: its value.
        low: smallest value.
        high: largest value; may be infinite, which is not allowed itself.
        excluded: the bound that is not allowed itself.

    Raises:
        ConfigError: says the argument, the value and what is allowed.
    """
    if is_number(given) and low <= given <= high and given != excluded:
        return
    if math.isinf(high):
        allowed = f"above {low:g}" if excluded == low else f"{low:g} or more"
    else:
        allowed = (
            f"in {'(' if excluded == low else '['}{low:g}, "
            f"{high:g}{')' if excluded == high else ']'}"
        )
    raise ConfigError(f"{argument} = {given!r}: must be {allowed}, and a finite number.")


def check_shares(part: str, shares: Mapping[str, object]) -> None:
    """Refuse shares that are no numbers from 0 to 1, or do not add up to 1.

    Args:
        part: what they are arguments of.
        shares: by the name of the argument.

    Raises:
        ConfigError: says them all.
    """
    if not add_up(list(shares.values())):
        given = ", ".join(f"{name} = {share!r}" for name, share in shares.items())
        raise ConfigError(
            f"{part}: {given}; they must be 0 or more and add up to 1, "
            "those at their defaults included."
        )


def add_up(shares: Sequence[object]) -> bool:
    """Say whether shares are finite numbers of 0 or more that add up to 1."""
    numbers = [share for share in shares if is_number(share)]
    return (
        len(numbers) == len(shares)
        and min(numbers, default=-1) >= 0
        and (abs(sum(numbers) - 1) <= 1e-6)
    )


def check_text(argument: str, given: object, allowed: str) -> None:
    """Refuse what is no text.

    Raises:
        ConfigError: says the argument, the value and what is allowed.
    """
    if not isinstance(given, str):
        raise ConfigError(f"{argument} = {given!r}: it is {allowed}, as a text.")
