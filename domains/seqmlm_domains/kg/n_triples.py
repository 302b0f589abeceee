"""One line of N-Triples (W3C Recommendation, 2014) as a statement."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from seqmlm.errors import DataError

# Possessive, so that a line of any length and content is refused in linear time.
_IRI: Final = r"<((?:[^\x00-\x20<>\"{}|^`\\]++|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8})++)>"
_BLANK: Final = r"(_:[\w:](?:[\w:.\-\xb7]*[\w:\-\xb7])?)"
_LITERAL: Final = (
    r"\"([^\"\\\n\r]*+(?:\\.[^\"\\\n\r]*+)*+)\""
    r"(?:\^\^<[^<>\"\s]*+>|@([A-Za-z][A-Za-z0-9-]*+))?"
)
_STATEMENT: Final = re.compile(
    rf"(?:{_IRI}|{_BLANK})[ \t]*{_IRI}[ \t]*(?:{_IRI}|{_BLANK}|{_LITERAL})[ \t]*\.[ \t]*(?:#.*)?"
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_CHARACTERS: Final = {
    "t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\",
}  # fmt: skip
_NOT_IN_IRIS: Final = re.compile(r"[\x00-\x20<>\"{}|^`\\]")
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Statement:
    r"""Subject, predicate and object of RDF.

    IRIs come without angle brackets and with their escapes resolved, blank nodes as ``_:name``.

    Args:
        head: IRI or blank node.
        relation: IRI.
        tail: IRI or blank node; of a literal its text, without quotes and datatype.
        is_literal: whether the object is one.
        language: tag of the literal, lower-case; empty if it has none.
    """

    head: str
    relation: str
    tail: str
    is_literal: bool = False
    language: str = ""


def parse_n_triple(line: str, place: str) -> Statement:
    """Return the statement of a line; time in proportion to its length.

    Args:
        line: without white space around it; neither empty nor a comment.
        place: file and line, for messages.

    Raises:
        DataError: it is no statement, or an escape gives no character that may stand there.
    """
    found = _STATEMENT.fullmatch(line)
    if found is None:
        shown = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
        raise DataError(
            f"{place}: not an N-Triples statement: {shown!r}. It is <subject> <predicate> "
            "<object> and a full stop, each IRI in angle brackets."
        )
    iri_head, blank_head, relation, iri_tail, blank_tail, literal, language = found.groups()
    head = blank_head or _iri(iri_head, place)
    if literal is not None:
        text = _unescaped(literal, place)
        return Statement(head, _iri(relation, place), text, True, (language or "").lower())
    return Statement(head, _iri(relation, place), blank_tail or _iri(iri_tail, place))


def _iri(escaped: str, place: str) -> str:
    iri = _unescaped(escaped, place)
    if found := _NOT_IN_IRIS.search(iri):
        raise DataError(f"{place}: the IRI <{escaped}> may not hold {found[0]!r}, even escaped.")
    return iri


def _unescaped(text: str, place: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[3] is not None:
            if match[3] not in _CHARACTERS:
                raise DataError(f"{place}: {match[0]!r} is no escape of N-Triples.")
            return _CHARACTERS[match[3]]
        code = int(match[1] or match[2], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise DataError(f"{place}: {match[0]} is no Unicode character.")
        return chr(code)

    return _ESCAPE.sub(character, text) if "\\" in text else text
