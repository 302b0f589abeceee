"""Reads source files and parses them whole; long ones become several records."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from seqmlm.data.report import ReadReport
from seqmlm.data.text_source import STANDARD_INPUT, source_name
from seqmlm.domain import Record
from seqmlm.errors import ConfigError
from seqmlm_domains.code.condensed import condensed
from seqmlm_domains.code.declared_types import DeclaredTypes
from seqmlm_domains.code.parsed_files import ParsedFiles
from seqmlm_domains.code.parser_process import ParserProcess, ParsingFailed
from seqmlm_domains.code.repository import SourceFile, find_source_files, printable
from seqmlm_domains.code.source_file import Unusable, read_source, source_text
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import IdentifierArray, ParsedText

SHORTEST_PASSAGE_LIMIT: Final = 100

PART_MARK: Final = " \N{SECTION SIGN}"
"""Between the name of a file and the number of a passage, from the second one on."""

_FILES_AHEAD: Final = 4  # that are parsed while the records of earlier ones are used

_Parse = Callable[[str, str], ParsedText]
"""Text and language to what the parser tells of it; raises :class:`ParsingFailed`."""

_IS_LATER_PASSAGE = re.compile(rf".*{PART_MARK}(\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class CodeRecord(Record):
    """A passage of a source file whose identifiers are known.

    The file was parsed as a whole, so that the roles at a passage's borders are right.

    Args:
        identifiers: of the passage, counted in its own characters.
        declared_types: of the identifiers, as the whole file declares them.
    """

    identifiers: IdentifierArray
    declared_types: DeclaredTypes


@dataclass(frozen=True, slots=True)
class _Opened:
    """A file that was read, and what the parser will tell of it, or why it is no source text."""

    file: SourceFile
    text: str
    parsed: Future[ParsedText]


@dataclass(frozen=True)
class CodeReader:
    """Yields the passages of source files as records.

    Args:
        language: of standard input.
        max_file_bytes: larger files are skipped.
        max_line_characters: files with longer lines are skipped as minified.
        passage_characters: a longer file becomes several records, cut between lines, at a blank
            line if one is near.
        content: ``whole``, or ``condensed``; see :mod:`~seqmlm_domains.code.condensed`.
        parse_timeout_s: seconds that parsing a file may take.
        parse_memory_mib: address space of the process that parses, MiB.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    language: str
    max_file_bytes: int
    max_line_characters: int
    passage_characters: int
    content: Literal["whole", "condensed"]
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

    def read(
        self,
        sources: Sequence[str | Path],
        report: ReadReport,
        *,
        parsed_files: ParsedFiles | None = None,
        is_first_pass: bool = False,
    ) -> Iterator[Record]:
        """Yield the records of files, folders, glob patterns or ``-``, in order.

        Every file that is no source text, or that the parser does not survive, is one dropped
        record with its reason and place. A few files are parsed ahead.

        Args:
            sources: what to read.
            report: counts records, and what is dropped.
            parsed_files: what an earlier pass has parsed, and where the first one keeps it.
            is_first_pass: whether the same sources will be read again.

        Raises:
            DataError: see :func:`~seqmlm_domains.code.repository.find_source_files`.
        """
        known = ParsedFiles() if parsed_files is None else parsed_files
        with self._parser() as parser:
            parse = partial(known.parse, parser, is_first_pass=is_first_pass)
            executor = ThreadPoolExecutor(max_workers=1)
            try:
                for source in sources:
                    if str(source) == STANDARD_INPUT:
                        yield from self._standard_input(parse, report)
                    else:
                        opened = self._opened(source, executor, parse, report)
                        for each in _ahead(opened):
                            yield from self._records_of_file(each, report)
            finally:
                executor.shutdown(cancel_futures=True)
        if not is_first_pass:
            known.forget()

    def _opened(
        self, source: str | Path, executor: ThreadPoolExecutor, parse: _Parse, report: ReadReport
    ) -> Iterator[_Opened]:
        """Read the files of a source, and let each be parsed."""
        for file in find_source_files([source], report):
            try:
                text = read_source(
                    file.path,
                    max_bytes=self.max_file_bytes,
                    max_line_characters=self.max_line_characters,
                )
            except Unusable as error:
                refused: Future[ParsedText] = Future()
                refused.set_exception(error)
                yield _Opened(file, "", refused)
                continue
            text = self._content(text, file.language)
            yield _Opened(file, text, executor.submit(parse, text, file.language))

    def _records_of_file(self, opened: _Opened, report: ReadReport) -> Iterator[Record]:
        place = printable(opened.file.path)
        try:
            parsed = opened.parsed.result()
        except (Unusable, ParsingFailed) as error:
            _drop(error, place, report)
            return
        yield from self._records(
            opened.text, parsed, name=opened.file.name, source=place, report=report
        )

    def _standard_input(self, parse: _Parse, report: ReadReport) -> Iterator[Record]:
        place = source_name(STANDARD_INPUT)
        try:
            text = source_text(
                sys.stdin.buffer.read(), place, max_line_characters=self.max_line_characters
            )
            text = self._content(text, self.language)
            parsed = parse(text, self.language)
        except (Unusable, ParsingFailed) as error:
            _drop(error, place, report)
            return
        yield from self._records(text, parsed, name=place, source=place, report=report)

    def _records(
        self, text: str, parsed: ParsedText, *, name: str, source: str, report: ReadReport
    ) -> Iterator[Record]:
        if not text:
            report.read += 1
            report.drop("empty file", source)
        bounds = passage_bounds(text, self.passage_characters)
        borders = parsed.identifiers[:, 0].searchsorted(bounds).tolist()
        for number in range(1, len(bounds)):
            start, end = bounds[number - 1], bounds[number]
            first, last = borders[number - 1], borders[number]
            own = parsed.identifiers[first:last].copy()
            own[:, :2] -= start
            report.read += 1
            suffix = f"{PART_MARK}{number}" if number > 1 else ""
            types = parsed.declared_types.part(first, last)
            yield CodeRecord(name + suffix, text[start:end], source, number, own, types)

    def _content(self, text: str, language: str) -> str:
        """What of a text is parsed and becomes records."""
        if self.content == "whole":
            return text
        tokens = SourceTokens.of(text, language)
        return condensed(tokens, 0, len(tokens.numbers))

    def _parser(self) -> ParserProcess:
        return ParserProcess(timeout_s=self.parse_timeout_s, memory_mib=self.parse_memory_mib)


def _ahead(opened: Iterator[_Opened]) -> Iterator[_Opened]:
    """The same files, each when the ones ahead of it are being parsed."""
    waiting = deque(islice(opened, _FILES_AHEAD))
    while waiting:
        waiting.extend(islice(opened, 1))
        yield waiting.popleft()


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
