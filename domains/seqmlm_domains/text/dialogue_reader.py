"""Reads dialogues: turns and who speaks them, from JSON Lines and from the scripts of plays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TextIO, get_args

from seqmlm.data.report import ReadReport
from seqmlm.data.sources import find_files
from seqmlm.data.text_source import open_text, source_name
from seqmlm.domain import Record
from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.text.reader import FORMAT_OF_SUFFIX, PART_MARK, json_values

DialogueFormat = Literal["auto", "jsonl", "script"]
Turn = tuple[str, str]
"""Who speaks, and what is said."""

PLAY_SPEAKER: Final = r"([^:]{1,60}):"
"""A line that holds a name and a colon alone, as in the plays of Shakespeare."""

_JSON_BEGINNING: Final = re.compile(r'\s*(\[\s*)?\{\s*"')

FEWEST_TURNS: Final = 2
MOST_SPEAKERS: Final = 256
"""In one record."""

_SUFFIXES = tuple(
    suffix for suffix, layout in FORMAT_OF_SUFFIX.items() if layout in ("text", "jsonl")
)


class _UnusableDialogueError(Exception):
    """Why a dialogue is left out."""


@dataclass(frozen=True)
class DialogueReader:
    """Yields dialogues as records, whose content :func:`turns_of` takes apart.

    White space inside a turn becomes single blanks.

    Args:
        file_format: ``jsonl``, ``script``, or ``auto``: by the suffix, ``.jsonl`` and ``.ndjson``
            or anything else.
        turns_field: field of JSON Lines that holds a list of objects with ``speaker`` and
            ``text``.
        speaker_line: of scripts: regular expression that the first line of a turn matches as a
            whole, and that is the first line of a paragraph. Its first group names the speaker.
            With a second group, which is text, any line that matches begins a turn. A script is
            one dialogue; what comes before the first speaker is left out.
        turns_per_record: a longer dialogue becomes several records of so many turns, the last of
            up to one more.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    file_format: DialogueFormat = "auto"
    turns_field: str = "turns"
    speaker_line: str = PLAY_SPEAKER
    turns_per_record: int = 32
    _speaker_line: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.file_format not in get_args(DialogueFormat):
            raise ConfigError(
                f"domain.file_format is {self.file_format!r}; allowed for dialogues: "
                f"{', '.join(get_args(DialogueFormat))}."
            )
        if not isinstance(self.turns_field, str):
            raise ConfigError(f"domain.turns_field is {self.turns_field!r}; it is a name.")
        limit = self.turns_per_record
        if not isinstance(limit, int) or limit < FEWEST_TURNS:
            raise ConfigError(
                f"domain.turns_per_record is {limit!r}; it is a whole number of at least "
                f"{FEWEST_TURNS}: one turn has nothing to respond to."
            )
        try:
            pattern = re.compile(self.speaker_line)
        except (re.error, TypeError) as error:
            raise ConfigError(
                f"domain.speaker_line is {self.speaker_line!r}, not a regular expression: {error}."
            ) from error
        if pattern.groups not in (1, 2):
            raise ConfigError(
                f"domain.speaker_line is {self.speaker_line!r}; it has one group, the speaker, or "
                f"two, the speaker and text, such as {PLAY_SPEAKER!r}."
            )
        object.__setattr__(self, "_speaker_line", pattern)

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield the dialogues of files, folders, glob patterns or ``-``, in order.

        Dialogues that cannot be used are dropped, turns without text left out; both are counted
        with file and line. Memory: one line of JSON Lines, or one record of a script.

        Raises:
            DataError: a source is missing, unreadable, damaged or without a dialogue, or a line
                is not an object with turns.
        """
        for path in find_files(sources, report, suffixes=_SUFFIXES, noun="dialogue"):
            place = source_name(path)
            number = 0
            with open_text(path) as text:
                for number, (name, turns) in enumerate(self._dialogues(text, place), start=1):
                    report.read += 1
                    record = Record(name, "", place, number)
                    try:
                        usable = _usable_turns(turns, record.place, report)
                    except _UnusableDialogueError as error:
                        report.drop(str(error), record.place)
                        continue
                    yield Record(name, json.dumps(usable, ensure_ascii=False), place, number)
            if not number:
                raise DataError(
                    f"{place}: no dialogue in the file. JSON Lines hold an object with "
                    f"{self.turns_field!r} on each line; in a script, a line that matches "
                    f"domain.speaker_line = {self.speaker_line!r} begins a turn."
                )

    def _dialogues(self, text: TextIO, place: str) -> Iterator[tuple[str, Any]]:
        """Yield name and turns, unchecked, of every record."""
        stem = Path(place).name
        suffix = Path(place.lower().removesuffix(".gz")).suffix
        is_table = FORMAT_OF_SUFFIX.get(suffix) == "jsonl"
        if self.file_format == "jsonl" or (self.file_format == "auto" and is_table):
            rows = json_values(text, self.turns_field, place, option="domain.turns_field")
            for line, turns in rows:
                yield from self._parts(f"{stem}:{line}", turns)
        else:
            yield from self._parts(stem, self._script_turns(text))

    def _parts(self, name: str, turns: Any) -> Iterator[tuple[str, Any]]:
        """Cut a dialogue so that no part has fewer than two turns."""
        if not isinstance(turns, Iterable) or isinstance(turns, str | dict):
            yield name, turns
            return
        waiting: list[Any] = []
        part = 1
        for turn in turns:
            waiting.append(turn)
            if len(waiting) == self.turns_per_record + FEWEST_TURNS:
                yield _part_name(name, part), waiting[: self.turns_per_record]
                del waiting[: self.turns_per_record]
                part += 1
        if waiting or (part == 1 and isinstance(turns, list)):
            yield _part_name(name, part), waiting

    def _script_turns(self, text: TextIO) -> Iterator[dict[str, str]]:
        speaker, lines = "", list[str]()
        is_paragraph_start = True
        for line in text:
            match = self._speaker_line.fullmatch(line.strip())
            if match and (is_paragraph_start or match.re.groups == 2):
                if speaker:
                    yield {"speaker": speaker, "text": "\n".join(lines)}
                speaker, lines = match[1], list(match.groups()[1:])
            else:
                lines.append(line)
            is_paragraph_start = line.isspace()
        if speaker:
            yield {"speaker": speaker, "text": "\n".join(lines)}


def turns_of(content: str) -> list[Turn]:
    """Return the turns of a record that :meth:`DialogueReader.read` yielded."""
    return [(speaker, text) for speaker, text in json.loads(content)]


def json_turns(text: str, *, turns_field: str) -> list[Turn] | None:
    """Return the turns of a typed text that looks like JSON; None for any other.

    Args:
        text: an object with a list of turns, or that list: objects with ``speaker`` and ``text``.
        turns_field: name of the list.

    Raises:
        DataError: it looks like JSON, and is not like that.
    """
    if not _JSON_BEGINNING.match(text):
        return None
    needed = (
        f"A dialogue in JSON is a list of objects with 'speaker' and 'text', or an object with "
        f"such a list as {turns_field!r}; otherwise type a turn a line."
    )
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"input: not JSON ({error}). {needed}") from error
    turns = content.get(turns_field) if isinstance(content, dict) else content
    if not isinstance(turns, list) or not turns:
        raise DataError(f"input: there is no list of turns. {needed}")
    try:
        return [_checked_turn(turn) for turn in turns]
    except _UnusableDialogueError as error:
        raise DataError(f"input: {error}. {needed}") from error


def _part_name(name: str, part: int) -> str:
    return f"{name}{PART_MARK}{part}" if part > 1 else name


def _usable_turns(turns: Any, place: str, report: ReadReport) -> list[Turn]:
    """Check the turns of a dialogue and leave out those that say nothing."""
    if not isinstance(turns, list):
        raise _UnusableDialogueError("turns that are not a list")
    usable: list[Turn] = []
    num_empty = 0
    for turn in turns:
        speaker, text = _checked_turn(turn)
        if text:
            usable.append((speaker, text))
        num_empty += not text
    if len(usable) < FEWEST_TURNS:
        raise _UnusableDialogueError("dialogue of fewer than two turns with text")
    if len({speaker for speaker, _ in usable}) > MOST_SPEAKERS:
        raise _UnusableDialogueError(f"dialogue of more than {MOST_SPEAKERS} speakers")
    if num_empty:
        report.note("turn without text, left out", place, num_empty)
    return usable


def _checked_turn(turn: Any) -> Turn:
    if not isinstance(turn, dict):
        raise _UnusableDialogueError("turn that is not an object with 'speaker' and 'text'")
    speaker, text = turn.get("speaker"), turn.get("text")
    if speaker is None or not str(speaker).strip():
        raise _UnusableDialogueError("turn without a speaker")
    if isinstance(speaker, bool) or not isinstance(speaker, str | int):
        raise _UnusableDialogueError("speaker that is neither a string nor a whole number")
    if not isinstance(text, str):
        raise _UnusableDialogueError("turn whose text is not a string")
    try:
        f"{speaker}{text}".encode()
    except UnicodeEncodeError as error:
        raise _UnusableDialogueError(
            "half a surrogate pair, which no Unicode text holds"
        ) from error
    if "\0" in text:
        raise _UnusableDialogueError("NUL character in the text of a turn")
    return str(speaker), " ".join(text.split())
