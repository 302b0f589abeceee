"""A complete domain in one file: melodies, one per line, as note names (C D E F G A B, - rest)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from seqmlm import Domain, Encoding, Record, SpecialTokens, TokenBlock, Vocabulary
from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError

NOTES = "CDEFGAB-"
MASK = "_"


class MusicDomain(Domain):
    """Melodies: every note is a token and a unit."""

    name: ClassVar[str] = "music"
    summary: ClassVar[str] = "Melodies from text files, one per line"
    token_dtype = np.uint8
    vocabulary = Vocabulary(
        tokens=("<pad>", "<unk>", "<start>", "<end>", MASK, *NOTES),
        special=SpecialTokens(padding=0, unknown=1, start=2, end=3, mask=4),
        ranges={"music": (5, 5 + len(NOTES))},
    )
    special_tokens_per_sequence = 2

    @property
    def options(self) -> Mapping[str, Any]:
        return {}

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        return {"model": {"layers": 1, "hidden_size": 16, "heads": 2}}

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        for source in map(Path, sources):
            try:
                lines = source.read_text().splitlines()
            except OSError as error:
                raise DataError(f"{source}: cannot be read ({error.strerror}).") from error
            for number, line in enumerate(lines, start=1):
                report.read += 1
                yield Record(f"line {number}", line.strip(), str(source), number)

    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        parts = [self._ids(record.content, record.place) for record in records]
        for record, part in zip(records, parts, strict=True):
            if not part:
                report.drop("empty line", record.place)
        return TokenBlock(
            np.array([id for part in parts for id in part], np.uint8),
            np.array([len(part) for part in parts], np.int64),
        )

    def assemble(
        self,
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        *,
        max_length: int,
        generator: np.random.Generator | None = None,
    ) -> Encoding:
        room = max_length - self.special_tokens_per_sequence
        start = 0
        if generator is not None and len(tokens) > room:
            start = int(generator.integers(len(tokens) - room + 1))
        return self._encoding(tokens[start : start + room].tolist())

    def parse(self, text: str) -> Encoding:
        return self._encoding(self._ids(text, "the melody"))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.vocabulary.tokens[id] for id in ids if id >= 4)

    def _ids(self, text: str, place: str) -> list[int]:
        for position, note in enumerate(text, start=1):
            if note not in NOTES + MASK:
                raise DataError(f"{place}: {note!r} at position {position} is not a note.")
        return [self.vocabulary.id_of(note) for note in text]

    def _encoding(self, notes: list[int]) -> Encoding:
        special = self.vocabulary.special
        ids = np.array([special.start, *notes, special.end], np.int32)
        maskable = ids > special.mask
        units = np.where(maskable, np.cumsum(maskable) - 1, -1).astype(np.int32)
        return Encoding(ids, units, np.zeros_like(ids))
