"""Types with arguments, and types that one file leaves open."""

from __future__ import annotations

import pytest

from seqmlm_domains.code.generic_types import (
    AWAITED,
    EACH,
    ITEM,
    ONLY,
    arguments_of,
    simple,
    spelled,
    taken,
)
from seqmlm_domains.code.member_paths import followed, member_of, taken_of
from seqmlm_domains.code.type_names import array_of


def test_a_type_is_told_from_its_arguments() -> None:
    inner = spelled(b"list", [b"Ship"])
    type_ = spelled(b"dict", [b"str", inner])
    assert type_ == b"dict<str,list<Ship>>"
    assert simple(type_) == b"dict"
    assert arguments_of(type_) == [b"str", inner]
    assert arguments_of(b"Ship") == []
    assert array_of(b"Ship", 2) == b"Ship[][]<Ship[]<Ship>>"


@pytest.mark.parametrize(
    ("type_", "step", "expected"),
    [
        (b"list<Ship>", EACH, b"Ship"),
        (b"dict<str,Ship>", EACH, b"str"),
        (b"dict<str,Ship>", ITEM, b"Ship"),
        (b"dict<str,Ship>", ONLY, None),
        (b"list<Ship>", ONLY, b"Ship"),
        (b"Promise<Ship>", AWAITED, b"Ship"),
        (b"Ship", AWAITED, b"Ship"),
        (b"Ship", ITEM, None),
        (b"Map<string,?>", ITEM, None),
    ],
)
def test_what_an_object_holds_has_the_type_of_its_argument(
    type_: bytes, step: bytes, expected: bytes | None
) -> None:
    assert taken(type_, step) == expected


TYPES = {
    b"Depot.ships": b"list<Ship>",
    b"Depot.heaviest()": b"Ship",
    b"Ship.next": b"Ship",
    b"Ship.home": b"make()",
    b"Ship.self": b"Ship.self",
    b"make()": b"Depot",
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"Depot.heaviest().next", b"Ship"),
        (b"Depot.ships", b"list<Ship>"),
        (b"Depot.ships.[each].next", b"Ship"),
        (b"Depot.unknown", b"typeof unknown"),
        (b"Depot.unknown.ships", b"typeof ships"),
        (b"Depot.unknown().[each]", None),
        (b"Depot.unknown().[each].[else]ship", b"typeof ship"),
        (b"Depot.unknown().[awaited]", b"unknown()"),
        (b"Ship.home.heaviest()", b"Ship"),
        (b"make().ships.[item]", b"Ship"),
        (b"make()", b"Depot"),
        (b"typeof Depot.heaviest()", b"Ship"),
        (b"Ship.self", b"typeof self"),
    ],
)
def test_what_is_left_open_is_followed_from_member_to_member(
    path: bytes, expected: bytes | None
) -> None:
    assert followed(path, TYPES.get) == expected


def test_a_way_that_is_too_long_is_not_noted() -> None:
    type_ = b"Depot"
    for _ in range(10):
        type_ = member_of(type_, b"next")
    assert type_.count(b".") <= 4
    for _ in range(10):
        type_ = taken_of(type_, EACH) or b""
    assert type_ == b""
