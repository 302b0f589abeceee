"""The texts that a client has open, kept in step with it edit by edit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lsprotocol import types

from seqmlm_domains.code.languages import language_of
from seqmlm_domains.code.serving.language_names import language_named
from seqmlm_domains.code.serving.positions import (
    PositionEncoding,
    column_from_units,
    units_from_column,
)

# LSP ends lines at these three alone; str.splitlines also does at form feeds and others.
_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_REPLACEMENT_CHARACTER: Final = "\ufffd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cursor in a document as a completer sees it; later edits do not change it.

    Args:
        source: the document with ``\\n`` line ends, without surrogates.
        offset: of the cursor, code points of ``source``.
        language: key of :data:`~seqmlm_domains.code.languages.LANGUAGES`.
        line: number of the cursor's line, from 0.
        line_start: the cursor's line up to the cursor.
        encoding: of the client's columns.
    """

    source: str
    offset: int
    language: str
    line: int
    line_start: str
    encoding: PositionEncoding

    def range_around(self, *, before: int, behind: int = 0) -> types.Range:
        """Return the client's range of so many code points on both sides of the cursor.

        Args:
            before: how far it goes back, to the start of the line at most.
            behind: how far it goes on; that much is on the cursor's line.
        """
        column = len(self.line_start)
        text = self.line_start + self.source[self.offset : self.offset + behind]
        first, last = (
            types.Position(self.line, units_from_column(text, at, self.encoding))
            for at in (max(column - before, 0), len(text))
        )
        return types.Range(first, last)


class Document:
    """One open text, in lines: an edit costs what the lines it touches cost.

    Positions past the end of a line or of the text are clamped, a range whose end comes first is
    turned around; no edit fails.

    Args:
        text: all of it, with any mixture of line ends.
        language: as of :class:`Place`; None if the editor's language is none of them.
        encoding: of the client's columns.
    """

    def __init__(self, text: str, *, language: str | None, encoding: PositionEncoding) -> None:
        self.language = language
        self._encoding = encoding
        self._lines = _split(text)
        self._characters = len(text)

    @property
    def text(self) -> str:
        """The whole text as the client has it, line ends and surrogates included."""
        return "".join(self._lines)

    @property
    def characters(self) -> int:
        """Length of :attr:`text` in code points."""
        return self._characters

    def replace_all(self, text: str) -> None:
        """Take another text."""
        self._lines = _split(text)
        self._characters = len(text)

    def replace(self, span: types.Range, text: str) -> None:
        """Put a text in the place of a range of the client's."""
        first, last = self._clamp(span.start), self._clamp(span.end)
        if last < first:
            first, last = last, first
        (first_line, first_column), (last_line, last_column) = first, last
        # An edit can make or part a \r\n, or the halves of a character, with its neighbours.
        before = max(first_line - 1, 0)
        old = self._lines[before : last_line + 1]
        head = "".join(old[: first_line - before]) + self._lines[first_line][:first_column]
        changed = _split(_with_joined_surrogates(head + text + old[-1][last_column:]))
        if last_line + 1 < len(self._lines):
            changed.pop()  # the empty rest after the last line end
        self._lines[before : last_line + 1] = changed
        self._characters += sum(map(len, changed)) - sum(map(len, old))

    def place(self, position: types.Position) -> Place | None:
        """Return where a completer is to look for a client's position.

        Returns:
            None if the document is in none of the languages.
        """
        if self.language is None:
            return None
        line, column = self._clamp(position)
        contents = [content.rstrip("\r\n") for content in self._lines]
        return Place(
            source=_SURROGATE.sub(_REPLACEMENT_CHARACTER, "\n".join(contents)),
            offset=sum(map(len, contents[:line])) + line + column,
            language=self.language,
            line=line,
            line_start=contents[line][:column],
            encoding=self._encoding,
        )

    def _clamp(self, position: types.Position) -> tuple[int, int]:
        if position.line >= len(self._lines):
            return len(self._lines) - 1, len(self._lines[-1])
        content = self._lines[position.line].rstrip("\r\n")
        return position.line, column_from_units(content, position.character, self._encoding)


class Documents:
    """The documents that one client has open, by URI.

    Args:
        encoding: of the client's columns.
    """

    def __init__(self, encoding: PositionEncoding = "utf-16") -> None:
        self._encoding = encoding
        self._open: dict[str, Document] = {}

    def open(self, item: types.TextDocumentItem) -> None:
        """Keep a text; one that is open under the URI already is replaced."""
        self._open[item.uri] = Document(
            item.text, language=_language(item.language_id, item.uri), encoding=self._encoding
        )

    def change(self, uri: str, changes: Sequence[types.TextDocumentContentChangeEvent]) -> None:
        """Apply edits in order; a text that is not open has no use for them."""
        document = self._open.get(uri)
        if document is None:
            return
        for change in changes:
            if isinstance(change, types.TextDocumentContentChangePartial):
                document.replace(change.range, change.text)
            else:
                document.replace_all(change.text)

    def close(self, uri: str) -> None:
        """Forget a text; one that is not open is none of ours."""
        self._open.pop(uri, None)

    def get(self, uri: str) -> Document | None:
        """Return an open document; None if it is not: files are never read from the disk."""
        return self._open.get(uri)


def _split(text: str) -> list[str]:
    """Lines with their ends, and the text after the last end, perhaps empty."""
    lines = _LINE.findall(text)
    lines.append(text[sum(map(len, lines)) :])
    return lines


def _with_joined_surrogates(text: str) -> str:
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _language(language_id: str, uri: str) -> str | None:
    name = language_named(language_id)
    if name is not None:
        return name
    language = language_of(uri)
    return None if language is None else language.name
