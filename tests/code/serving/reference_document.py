"""A document as an editor keeps it: an array of UTF-16 code units, and no clever ideas."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

LINE_FEED, CARRIAGE_RETURN = 10, 13
PIECES = (
    *("name", "x", " ", "(", "'", "é", "ß", "\u4e2d", "\N{PILE OF POO}", "\N{GOTHIC LETTER AHSA}"),
    *("\n", "\r\n", "\r", "\x0c", "\u2028", "\x85", "\N{SMILING FACE WITH OPEN MOUTH}" * 3),
)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Text in the place of a range; positions are line and UTF-16 unit."""

    start: tuple[int, int]
    end: tuple[int, int]
    text: str


def to_units(text: str) -> list[int]:
    data = text.encode("utf-16-le", "surrogatepass")
    return [data[i] + 256 * data[i + 1] for i in range(0, len(data), 2)]


class ReferenceDocument:
    """Applies edits unit by unit, as the specification says."""

    def __init__(self, text: str) -> None:
        self.units = to_units(text)
        self.bounds = self._bounds()

    @property
    def text(self) -> str:
        data = b"".join(unit.to_bytes(2, "little") for unit in self.units)
        return data.decode("utf-16-le", "surrogatepass")

    def _bounds(self) -> list[tuple[int, int]]:
        """First unit of each line, and the one after its last, without its end."""
        bounds, start, at = [], 0, 0
        while at < len(self.units):
            is_pair = self.units[at : at + 2] == [CARRIAGE_RETURN, LINE_FEED]
            if self.units[at] in (LINE_FEED, CARRIAGE_RETURN):
                bounds.append((start, at))
                start = at + 1 + is_pair
            at += 1 + is_pair
        return [*bounds, (start, len(self.units))]

    def length(self, line: int) -> int:
        """Units of a line."""
        start, end = self.bounds[line]
        return end - start

    def apply(self, edit: Edit) -> None:
        first, last = sorted(self._index(*position) for position in (edit.start, edit.end))
        self.units[first:last] = to_units(edit.text)
        self.bounds = self._bounds()

    def _index(self, line: int, unit: int) -> int:
        if line >= len(self.bounds):
            return len(self.units)
        start, end = self.bounds[line]
        index = min(start + unit, end)
        within = 0 < index < len(self.units) and (
            self.units[index] & 0xFC00 == 0xDC00 and self.units[index - 1] & 0xFC00 == 0xD800
        )
        return index - within


def random_edit(
    document: ReferenceDocument, generator: random.Random, *, pieces: Sequence[str] = PIECES
) -> Edit:
    """Draw an edit as one types: mostly small, sometimes over lines, past ends, or turned round."""
    lines = len(document.bounds)
    first = generator.randrange(lines + 1)
    over = generator.choice((0, 0, 0, 1, 2)) if lines > 40 else 0
    start = (first, generator.randrange(12))
    end = (first + over, start[1] + generator.choice((0, 0, 0, 1, 2, 5)))
    if generator.random() < 0.05:
        start, end = end, start
    text = "".join(generator.choices(pieces, k=generator.choice((0, 1, 1, 2, 5))))
    return Edit(start=start, end=end, text=text)
