"""What became of every record read: used + truncated + dropped = read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from seqmlm.readable import counted

EXAMPLES_KEPT = 3


@dataclass
class ReadReport:
    """Counts of records, with the places of the first few of each kind.

    ``notes`` count changes that keep the record (a letter mapped to another, a stop character
    stripped); they may exceed the number of records.
    """

    read: int = 0
    truncated: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """Records that go into the data whole."""
        return self.read - self.truncated - self.dropped.total()

    def drop(self, reason: str, place: str) -> None:
        """Count one record that is left out."""
        self.dropped[reason] += 1
        self._keep_example(reason, place)

    def note(self, change: str, place: str, count: int = 1) -> None:
        """Count ``count`` changes of one kind made inside a record that is kept."""
        self.notes[change] += count
        self._keep_example(change, place)

    def lines(self) -> list[str]:
        """Return the report as lines for people."""
        parts = [f"{counted(self.read, 'record')} read", f"{self.used:,} used"]
        if self.truncated:
            parts.append(f"{self.truncated:,} truncated")
        if self.dropped:
            parts.append(f"{self.dropped.total():,} dropped")
        lines = [", ".join(parts)]
        for verb, counts in (("dropped", self.dropped), ("note", self.notes)):
            for reason, count in counts.most_common():
                places = "; ".join(self.examples[reason])
                lines.append(f"  {verb}: {reason}: {count:,} (first: {places})")
        return lines

    def summary(self) -> str:
        """Return the report as one line, for messages."""
        return "; ".join(line.strip() for line in self.lines())

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON values; :meth:`from_json` reverses it."""
        return {
            "read": self.read,
            "used": self.used,
            "truncated": self.truncated,
            "dropped": dict(self.dropped),
            "notes": dict(self.notes),
            "examples": self.examples,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ReadReport:
        """Rebuild a report from :meth:`to_json`."""
        return cls(
            read=content["read"],
            truncated=content["truncated"],
            dropped=Counter(content["dropped"]),
            notes=Counter(content["notes"]),
            examples=content["examples"],
        )

    def _keep_example(self, kind: str, place: str) -> None:
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES_KEPT:
            kept.append(place)
