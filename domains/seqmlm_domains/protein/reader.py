"""Reads protein records from FASTA and UniProt flat files, plain or gzip-compressed."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, NoReturn, TextIO, get_args

import numpy as np

from seqmlm.data.report import ReadReport
from seqmlm.data.sources import find_files
from seqmlm.data.text_source import open_text, source_name
from seqmlm.domain import Record
from seqmlm.errors import ConfigError, DataError

NucleotidePolicy = Literal["refuse", "read"]

SUFFIXES: Final = (
    *(".fasta", ".fa", ".faa", ".fas", ".fsa", ".mpfa", ".pep", ".pro"),
    *(".dat", ".swiss", ".sprot"),
)
"""What is read from a folder, each also with ``.gz``.

``.txt`` is not among them: next to sequences it is mostly a README. Name such files, or use a
pattern.
"""

NUCLEOTIDES: Final = "ACGTUN"
"""Letters of DNA and RNA; every one of them is a residue too."""

NUCLEOTIDE_SHARE: Final = 0.9
"""Of its letters, from which a record is taken for DNA or RNA.

Among 46,985 real proteins (UniProt, NCBI) the highest share is 0.70.
"""

NUCLEOTIDES_JUDGED_FROM: Final = 30
"""Letters below which a record is too short to tell."""

_LETTERS_SEEN_FIRST = 200

_UNIPROT_ANNOTATION = frozenset(
    {"**", "CC", "DE", "DR", "DT", "FT", "GN", "KW", "OC", "OG", "OH", "OS", "OX"}
    | {"PE", "RA", "RC", "RG", "RL", "RN", "RP", "RT", "RX", "SQ"}
)


def read_records(
    sources: Sequence[str | Path], report: ReadReport, *, nucleotides: NucleotidePolicy = "refuse"
) -> Iterator[Record]:
    """Yield the records of files, folders, glob patterns or ``-`` (standard input), in order.

    The format is recognised by content: FASTA starts with ``>``, a UniProt flat file with
    ``ID``. Names are the first word of a FASTA header, or the primary accession. Memory: one
    record, and 8 bytes per record for counting repeated names.

    Args:
        sources: a folder is searched recursively for :data:`SUFFIXES`, in sorted order.
        report: gets the number of records, and notes on files skipped, missing and repeated names.
        nucleotides: ``refuse`` a record that is DNA or RNA by its letters, or ``read`` it as the
            protein that it could be.

    Raises:
        DataError: a source is missing, unreadable, damaged, in no known format or without records,
            or holds DNA or RNA.
    """
    name_hashes = array("q")
    sources_read: list[tuple[int, str]] = []
    for path in find_files(sources, report, suffixes=SUFFIXES, noun="sequence"):
        place = source_name(path)
        sources_read.append((len(name_hashes), place))
        for record in _read_file(path):
            if nucleotides == "refuse" and _looks_like_nucleotides(record.content):
                _refuse_nucleotides(record)
            # 64 bits: the odds that two of a million names collide are 1 in 10 million.
            name_hashes.append(hash(record.name or record.place))
            report.read += 1
            yield record if record.name else _named_by_number(record, report)
        if len(name_hashes) == sources_read[-1][0]:
            raise DataError(f"{place}: the file is empty (0 records).")
    _note_repeated_names(name_hashes, sources_read, report)


def _read_file(path: str | Path) -> Iterator[Record]:
    place = source_name(path)
    with open_text(path) as text:
        first_line, parse = _recognise(text, place)
        if parse is None:
            return
        items = parse(itertools.chain([first_line], text), place)
        for number, (name, content) in enumerate(items, start=1):
            yield Record(name, content, place, number)


_Parser = Callable[[Iterator[str], str], Iterator[tuple[str, str]]]


def _recognise(text: TextIO, place: str) -> tuple[str, _Parser | None]:
    """Return the first line that is not blank and the parser for it, None at the end of file."""
    line_number = 1
    # One character at a time: a binary file need not have a line end within memory.
    while (character := text.read(1)).isspace():
        line_number += character == "\n"
    if not character:
        return "", None
    if character == ">":
        return character + text.readline(), _parse_fasta
    start = character + text.read(4)
    if start == "ID   ":
        return start + text.readline(), _parse_uniprot
    raise DataError(
        f"{place}: line {line_number} begins with {start!r}. A FASTA file begins with '>', a "
        "UniProt flat file with 'ID   '."
    )


def _parse_fasta(lines: Iterator[str], place: str) -> Iterator[tuple[str, str]]:
    from Bio.SeqIO.FastaIO import SimpleFastaParser  # 0.3 s: only when something is read

    for title, sequence in SimpleFastaParser(lines):
        yield title.split(None, 1)[0] if title else "", sequence


def _parse_uniprot(lines: Iterator[str], place: str) -> Iterator[tuple[str, str]]:
    from Bio import SwissProt  # 0.3 s: only when something is read

    entries = SwissProt.parse(_UniProtLines(lines))
    for number in itertools.count(1):
        try:
            entry = next(entries, None)
        except ValueError as error:
            raise DataError(
                f"{place}, record {number}: not a valid UniProt entry ({error})."
            ) from error
        if entry is None:
            return
        name = entry.accessions[0] if entry.accessions else entry.entry_name
        if len(entry.sequence) != entry.sequence_length:
            raise DataError(
                f"{place}, record {number} ({name}): the ID line promises "
                f"{entry.sequence_length} residues, the entry has {len(entry.sequence)}."
            )
        yield name, entry.sequence


class _UniProtLines(Iterator[str]):
    """Lines of a flat file without annotation: most of it, and what a new release may change."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = (
            line for line in lines if line[:2] not in _UNIPROT_ANNOTATION and not line.isspace()
        )

    def __next__(self) -> str:
        return next(self._lines)

    def read(self, size: int) -> str:
        """Answer the ``read(0)`` by which Bio.SwissProt tells text from bytes."""
        return ""


def require_nucleotide_policy(given: object) -> None:
    """Refuse a value of ``domain.nucleotides`` that means nothing.

    Raises:
        ConfigError: it is none of :data:`NucleotidePolicy`.
    """
    if given not in get_args(NucleotidePolicy):
        raise ConfigError(
            f"domain.nucleotides is {given!r}; allowed: {', '.join(get_args(NucleotidePolicy))}."
        )


def _looks_like_nucleotides(sequence: str) -> bool:
    # Nearly every protein is told by its first letters, without counting all of them.
    return _nucleotide_share(sequence[:_LETTERS_SEEN_FIRST]) >= NUCLEOTIDE_SHARE and (
        _nucleotide_share(sequence) >= NUCLEOTIDE_SHARE
    )


def _nucleotide_share(text: str) -> float:
    """Share of the letters in either case, gaps aside; 0 where they are too few or too alike."""
    letters = len(text) - text.count("-") - text.count(".")
    counts = [*map(text.upper().count, NUCLEOTIDES)]
    # Runs of one or two letters are no evidence: there are such stretches in proteins too.
    if letters < NUCLEOTIDES_JUDGED_FROM or sum(count > 0 for count in counts) < 3:
        return 0.0
    return sum(counts) / letters


def _refuse_nucleotides(record: Record) -> NoReturn:
    share = _nucleotide_share(record.content)
    raise DataError(
        f"{record.place}: {share:.0%} of its letters are {NUCLEOTIDES}: this is DNA or RNA, not "
        "protein. Translate it first; if it is a protein, set domain.nucleotides to 'read'."
    )


def _named_by_number(record: Record, report: ReadReport) -> Record:
    name = f"record {record.number}"
    report.note("header without a name", f"{record.source}, {name}")
    return replace(record, name=name)


def _note_repeated_names(
    name_hashes: array[int], sources_read: Sequence[tuple[int, str]], report: ReadReport
) -> None:
    hashes = np.frombuffer(name_hashes, dtype=np.int64)
    order = np.argsort(hashes, kind="stable")
    is_repeated = hashes[order[1:]] == hashes[order[:-1]]
    firsts = [first for first, _ in sources_read]
    for record in np.sort(order[1:][is_repeated]).tolist():
        first, place = sources_read[bisect.bisect_right(firsts, record) - 1]
        report.note("name of an earlier record", f"{place}, record {record - first + 1}")
