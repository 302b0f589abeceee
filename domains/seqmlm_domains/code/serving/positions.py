"""Columns of editors, counted in code units, and columns of Python, counted in code points."""

from __future__ import annotations

from typing import Final, Literal

PositionEncoding = Literal["utf-8", "utf-16", "utf-32"]
"""What a client counts a line in; UTF-16 unless both sides agree on another one (LSP 3.17)."""

# How a line is encoded, and the bytes of one unit. Lone surrogates occur in editors' buffers.
_CODECS: Final[dict[PositionEncoding, tuple[str, int]]] = {
    "utf-8": ("utf-8", 1),
    "utf-16": ("utf-16-le", 2),
    "utf-32": ("utf-32-le", 4),
}


def column_from_units(line: str, units: int, encoding: PositionEncoding) -> int:
    """Return the column of a client's ``character`` in code points.

    Args:
        line: without its line end.
        units: code units before the position. Past the end of the line counts as the end, as LSP
            has it; within a character counts as before it.
        encoding: of the units.
    """
    if encoding == "utf-32" or line.isascii():
        return min(max(units, 0), len(line))
    codec, width = _CODECS[encoding]
    encoded = line.encode(codec, "surrogatepass")
    end = min(max(units, 0) * width, len(encoded))
    while _is_within_character(encoded, end, encoding):
        end -= width
    return len(encoded[:end].decode(codec, "surrogatepass"))


def units_from_column(line: str, column: int, encoding: PositionEncoding) -> int:
    """Return how many code units the first ``column`` code points of a line take."""
    before = line[:column]
    if encoding == "utf-32" or before.isascii():
        return len(before)
    codec, width = _CODECS[encoding]
    return len(before.encode(codec, "surrogatepass")) // width


def _is_within_character(encoded: bytes, position: int, encoding: PositionEncoding) -> bool:
    if not 0 < position < len(encoded):
        return False
    if encoding == "utf-8":
        return encoded[position] & 0xC0 == 0x80
    # Little-endian: the second byte of a unit tells a surrogate; low after high is one character.
    return encoded[position + 1] & 0xFC == 0xDC and encoded[position - 1] & 0xFC == 0xD8
