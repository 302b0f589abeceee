"""Statements of RDF files: N-Triples line by line, Turtle and RDF/XML through rdflib."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seqmlm.data.text_source import open_text, source_name
from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.kg.n_triples import Statement, parse_n_triple

if TYPE_CHECKING:
    from rdflib.term import Node

N_TRIPLES_SUFFIX: Final = ".nt"
RDFLIB_FORMATS: Final = {".ttl": "turtle", ".rdf": "xml", ".owl": "xml", ".xml": "xml"}
RDF_SUFFIXES: Final = (N_TRIPLES_SUFFIX, *RDFLIB_FORMATS)
"""Formats of RDF, each also with ``.gz``."""

NAME_IRIS: Final = (
    "http://www.w3.org/2004/02/skos/core#prefLabel",
    "http://www.w3.org/2000/01/rdf-schema#label",
)
DESCRIPTION_IRIS: Final = ("http://www.w3.org/2000/01/rdf-schema#comment",)
TEXT_IRIS: Final = (*NAME_IRIS, *DESCRIPTION_IRIS)
"""Properties whose literals are names and descriptions; the first of a kind wins."""

BLANK: Final = "_:"
"""How the names of blank nodes begin."""

_BASE: Final = "relative:///"

# Namespaces are declared as entities; entities within entities grow without bounds.
_NESTED_ENTITY: Final = re.compile(r"<!ENTITY\s[^>]*?&(?!#)")


@dataclass(frozen=True, slots=True)
class PlacedStatement:
    """A statement and where it was read.

    Args:
        statement: subject, predicate and object.
        number: of the line, or of the statement where the format has no lines; from 1.
        place: file and number, for messages.
    """

    statement: Statement
    number: int
    place: str


def is_rdf(path: str | Path) -> bool:
    """Say whether a file's suffix is one of RDF."""
    return _suffix(path) in RDF_SUFFIXES


def read_statements(path: str | Path) -> Iterator[PlacedStatement]:
    """Yield the statements of an RDF file, literals included.

    N-Triples are read line by line; Turtle and RDF/XML are held in memory as a whole. Blank nodes
    of the latter are labelled ``b0``, ``b1`` and so on, in their order; relative IRIs stay as they
    are written where the file names no base. A blank node is known within its file alone, so it is
    named after it, ``_:train-3f2a91c0-b0``: file, start of the content's SHA-256, label.

    Raises:
        DataError: the file is malformed or cannot be read.
        ConfigError: the format needs rdflib, which is not installed.
    """
    own = _BlankNodes(Path(path))
    read = _n_triples if _suffix(path) == N_TRIPLES_SUFFIX else _through_rdflib
    for placed in read(path):
        head, tail = placed.statement.head, placed.statement.tail
        has_blank_tail = tail.startswith(BLANK) and not placed.statement.is_literal
        if head.startswith(BLANK):
            placed = replace(placed, statement=replace(placed.statement, head=own.named(head)))
        if has_blank_tail:
            placed = replace(placed, statement=replace(placed.statement, tail=own.named(tail)))
        yield placed


@dataclass(frozen=True)
class _BlankNodes:
    """Names the blank nodes of a file, which those of another are not."""

    path: Path

    def named(self, node: str) -> str:
        """An identifier that no other file has."""
        return f"{BLANK}{self._file}-{node.removeprefix(BLANK)}"

    @cached_property
    def _file(self) -> str:
        # The content, not the folder: a graph that is moved keeps its entities.
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"{self.path.name.split('.')[0]}-{digest[:8]}"


def _suffix(path: str | Path) -> str:
    return Path(str(path).lower().removesuffix(".gz")).suffix


def _n_triples(path: str | Path) -> Iterator[PlacedStatement]:
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if (text := line.strip()) and not text.startswith("#"):
                place = f"{source_name(path)}, line {number}"
                yield PlacedStatement(parse_n_triple(text, place), number, place)


def _through_rdflib(path: str | Path) -> Iterator[PlacedStatement]:
    statements = _parsed(path)
    import rdflib

    blanks: dict[str, str] = {}

    def named(term: Node) -> str:
        if isinstance(term, rdflib.BNode):
            return blanks.setdefault(str(term), f"{BLANK}b{len(blanks)}")
        return str(term).removeprefix(_BASE)

    for number, (head, relation, tail) in enumerate(statements, start=1):
        if isinstance(tail, rdflib.Literal):
            language = (tail.language or "").lower()
            statement = Statement(named(head), named(relation), str(tail), True, language)
        else:
            statement = Statement(named(head), named(relation), named(tail))
        yield PlacedStatement(statement, number, f"{source_name(path)}, statement {number}")


def _parsed(path: str | Path) -> list[tuple[Node, Node, Node]]:
    """Statements in the order of the file, which a graph of rdflib does not keep."""
    try:
        import rdflib
    except ModuleNotFoundError as error:
        if error.name != "rdflib":
            raise
        raise ConfigError(
            f"{path}: Turtle and RDF/XML need rdflib: pip install 'seqmlm[kg]', or convert the "
            "file to N-Triples (.nt)."
        ) from error
    from xml.sax import SAXParseException

    from rdflib.exceptions import ParserError
    from rdflib.plugins.parsers.notation3 import BadSyntax
    from rdflib.plugins.stores.memory import SimpleMemory

    class InOrder(SimpleMemory):
        """Keeps every statement once, in the order in which they come."""

        def __init__(self) -> None:
            super().__init__()
            self.statements: dict[tuple[Node, Node, Node], None] = {}

        def add(self, triple: Any, context: Any, quoted: bool = False) -> None:
            self.statements[triple] = None

    store = InOrder()
    with open_text(path) as file:
        content = "".join(file)
    if RDFLIB_FORMATS[_suffix(path)] == "xml" and _NESTED_ENTITY.search(content):
        raise DataError(f"{path}: an entity is declared by means of another one. Expand them.")
    try:
        rdflib.Graph(store).parse(
            data=content, format=RDFLIB_FORMATS[_suffix(path)], publicID=_BASE
        )
    except BadSyntax as error:
        reason = str(error._why)
        raise DataError(f"{path}, line {error.lines + 1}: not valid Turtle ({reason}).") from error
    except SAXParseException as error:
        line = error.getLineNumber()
        raise DataError(f"{path}, line {line}: not valid XML ({error.getMessage()}).") from error
    except (ParserError, ValueError) as error:
        raise DataError(f"{path}: not valid RDF ({error}).") from error
    return list(store.statements)


@dataclass
class LiteralTexts:
    """Names and descriptions that the literals of statements give.

    Of several literals for one purpose the one without a language wins, then English, then the
    one whose property comes first in :data:`TEXT_IRIS`, then the first.

    Args:
        names: by identifier.
        descriptions: by identifier.
    """

    names: dict[str, str] = field(default_factory=dict)
    descriptions: dict[str, str] = field(default_factory=dict)
    _preference: dict[tuple[str, bool], tuple[int, int]] = field(default_factory=dict)

    def add(self, statement: Statement) -> bool:
        """Take in a statement; say whether it is a name or a description."""
        if not statement.is_literal or statement.relation not in TEXT_IRIS:
            return False
        is_name = statement.relation in NAME_IRIS
        key = statement.head, is_name
        rank = _language_rank(statement.language), TEXT_IRIS.index(statement.relation)
        if statement.tail.strip() and (key not in self._preference or rank < self._preference[key]):
            self._preference[key] = rank
            (self.names if is_name else self.descriptions)[statement.head] = statement.tail
        return True


def _language_rank(language: str) -> int:
    if not language:
        return 0
    return 1 if language == "en" or language.startswith("en-") else 2
