"""Whole records of files, encoded one by one for scoring and embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain, Record
from seqmlm.encoding import Encoding
from seqmlm.errors import DataError

RECORDS_PER_BLOCK = 256


def encoded_records(
    domain: Domain,
    sources: Sequence[str],
    report: ReadReport,
    *,
    longest: int | None = None,
) -> Iterator[tuple[Record, Encoding]]:
    """Yield each usable record with its encoding, uncut, in order of reading.

    Args:
        domain: reads and encodes.
        sources: files, folders, glob patterns, or ``-`` for standard input.
        report: counts the records, those left out included.
        longest: tokens of an encoding at most, special tokens included, as a model with learned
            positions has it; None if there is no limit.

    Raises:
        DataError: a source or record cannot be used, an encoding is longer than ``longest``, or
            no record is left.
    """
    records = domain.read(sources, report)
    found = False
    while block := list(islice(records, RECORDS_PER_BLOCK)):
        tokens = domain.tokenize(block, report)
        start = 0
        for record, length in zip(block, tokens.lengths.tolist(), strict=True):
            if length:
                found = True
                uncut = length + domain.special_tokens_per_sequence
                encoding = domain.assemble(tokens.tokens[start : start + length], max_length=uncut)
                if longest is not None and len(encoding) > longest:
                    raise DataError(
                        f"{record.place}: {len(encoding):,} tokens, special tokens included; this "
                        f"model has learned {longest:,} positions (model.max_positions). Give the "
                        "record in parts, or leave it out."
                    )
                yield record, encoding
            start += length
    if not found:
        raise DataError(f"{', '.join(map(str, sources))}: no usable record ({report.summary()}).")
