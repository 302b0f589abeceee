"""Reads source files and parses them whole; long ones become several records."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seqmlm.data.report import ReadReport
from seqmlm.data.text_source import STANDARD_INPUT, source_name
from seqmlm.domain import Record
from seqmlm.errors import ConfigError
from seqmlm_domains.code.parser_process import ParserProcess, ParsingFailed
from seqmlm_domains.code.repository import find_source_files, printable
from seqmlm_domains.code.source_file import Unusable, read_source, source_text
from seqmlm_domains.code.syntax import IdentifierArray

SHORTEST_PASSAGE_LIMIT: Final = 100

PART_MARK: Final = " \N{SECTION SIGN}"
"""Between the name of a file and the number of a passage, from the second one on."""

_IS_LATER_PASSAGE = re.compile(rf".*{PART_MARK}(\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class CodeRecord(Record):
    """A passage of a source file whose identifiers are known.

    The file was parsed as a whole, so that the roles at a passage's borders are right.

    Args:
        identifiers: of the passage, counted in its own characters.
    """

    identifiers: IdentifierArray


@dataclass(frozen=True)
class CodeReader:
    """Yields the passages of source files as records.

    Args:
        language: of standard input.
        max_file_bytes: larger files are skipped.
        max_line_characters: files with longer lines are skipped as minified.
        passage_characters: a longer file becomes several records, cut between lines, at a blank
            line if one is near.
        parse_timeout_s: seconds that parsing a file may take.
        parse_memory_mib: address space of the process that parses, MiB.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    language: str
    max_file_bytes: int
    max_line_characters: int
    passage_characters: int
    parse_timeout_s: float
    parse_memory_mib: int

    def __post_init__(self) -> None:
        for name, least in (
            ("max_file_bytes", 1),
            ("max_line_characters", SHORTEST_PASSAGE_LIMIT),
            ("passage_characters", SHORTEST_PASSAGE_LIMIT),
        ):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} = {value!r}: it is a whole number of at least {least}.")
        self._parser()  # refuses limits that are too small

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield the records of files, folders, glob patterns or ``-``, in order.

        Every file that is no source text, or that the parser does not survive, is one dropped
        record with its reason and place.

        Raises:
            DataError: see :func:`~seqmlm_domains.code.repository.find_source_files`.
        """
        with self._parser() as parser:
            for source in sources:
                if str(source) == STANDARD_INPUT:
                    yield from self._standard_input(parser, report)
                    continue
                for file in find_source_files([source], report):
                    place = printable(file.path)
                    try:
                        text = read_source(
                            file.path,
                            max_bytes=self.max_file_bytes,
                            max_line_characters=self.max_line_characters,
                        )
                        identifiers = parser.parse(text, file.language)
                    except (Unusable, ParsingFailed) as error:
                        _drop(error, place, report)
                        continue
                    yield from self._records(
                        text, identifiers, name=file.name, source=place, report=report
                    )

    def _standard_input(self, parser: ParserProcess, report: ReadReport) -> Iterator[Record]:
        place = source_name(STANDARD_INPUT)
        try:
            text = source_text(
                sys.stdin.buffer.read(), place, max_line_characters=self.max_line_characters
            )
            identifiers = parser.parse(text, self.language)
        except (Unusable, ParsingFailed) as error:
            _drop(error, place, report)
            return
        yield from self._records(text, identifiers, name=place, source=place, report=report)

    def _records(
        self, text: str, identifiers: IdentifierArray, *, name: str, source: str, report: ReadReport
    ) -> Iterator[Record]:
        if not text:
            report.read += 1
            report.drop("empty file", source)
        bounds = passage_bounds(text, self.passage_characters)
        first_identifiers = identifiers[:, 0].searchsorted(bounds)
        for number in range(1, len(bounds)):
            start, end = bounds[number - 1], bounds[number]
            own = identifiers[first_identifiers[number - 1] : first_identifiers[number]].copy()
            own[:, :2] -= start
            report.read += 1
            suffix = f"{PART_MARK}{number}" if number > 1 else ""
            yield CodeRecord(name + suffix, text[start:end], source, number, own)

    def _parser(self) -> ParserProcess:
        return ParserProcess(timeout_s=self.parse_timeout_s, memory_mib=self.parse_memory_mib)


def passage_bounds(text: str, limit: int) -> list[int]:
    """Return where the passages of a text begin, and its end: at most ``limit`` characters each.

    A passage ends behind the last blank line of its second half, else behind a line, else, where
    one line is longer than the limit, behind a character that no name holds.
    """
    bounds = [0] if text else []
    while bounds and bounds[-1] < len(text):
        start, most = bounds[-1], bounds[-1] + limit
        if most >= len(text):
            bounds.append(len(text))
            break
        blank = text.rfind("\n\n", start + limit // 2, most)
        end = blank + 2 if blank >= 0 else text.rfind("\n", start, most) + 1
        bounds.append(end if end > start else _behind_a_sign(text, start, most))
    return bounds


def _behind_a_sign(text: str, start: int, most: int) -> int:
    for end in range(most, start, -1):
        if not text[end - 1].isidentifier() and not text[end - 1].isdigit():
            return end
    return most


def file_of(record_name: str) -> str:
    """Return the name of the file that a record is a passage of."""
    later = _IS_LATER_PASSAGE.fullmatch(record_name)
    return record_name[: later.start(1) - len(PART_MARK)] if later else record_name


def _drop(error: Unusable | ParsingFailed, place: str, report: ReadReport) -> None:
    report.read += 1
    if isinstance(error, Unusable):
        report.drop(error.reason, printable(error.place))
    else:
        report.drop(str(error), place)
