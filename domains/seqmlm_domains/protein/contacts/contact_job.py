"""Predicts the contacts of whole files into a folder, and judges those that are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmlm.atomic_files import new_directory
from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.inference.records import encoded_records
from seqmlm.model.model import Model
from seqmlm_domains.protein.contacts.evaluation import (
    ContactPrecision,
    KnownContacts,
    check_known_contacts,
    contact_precision,
)
from seqmlm_domains.protein.contacts.output import write_contacts
from seqmlm_domains.protein.contacts.prediction import contact_measure, predict_contacts


@dataclass(frozen=True)
class WrittenContacts:
    """What :func:`write_predicted_contacts` wrote.

    Args:
        proteins: how many.
        measure: what the scores are, see :class:`ContactMap`.
        precision: of the proteins with known contacts; None where none were given.
        report: what became of the records.
    """

    proteins: int
    measure: str
    precision: ContactPrecision | None
    report: ReadReport

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; ``known`` is null where no contacts were given."""
        known = None if self.precision is None else self.precision.to_json()
        return {"proteins": self.proteins, "measure": self.measure, "known": known}


def write_predicted_contacts(
    model: Model,
    sources: Sequence[str],
    output: Path,
    *,
    known: KnownContacts | None,
    min_separation: int,
    per_residue: float,
    on_progress: Callable[[int, int], None] = lambda done, proteins: None,
) -> WrittenContacts:
    """Predict the contacts of every protein of ``sources`` and write them to a new folder.

    Args:
        model: of proteins.
        sources: files, folders, glob patterns, or ``-`` for standard input.
        output: must not exist; it appears when everything is written.
        known: contacts to compare with; checked against the proteins before anything is predicted.
        min_separation: residues from one of a listed pair to the other.
        per_residue: pairs listed, times the length of the protein.
        on_progress: called with the proteins done and those to do.

    Raises:
        ConfigError: ``output`` exists or cannot be written.
        DataError: a source cannot be used, a known contact belongs to no residue of it, or a
            protein is too long for the model.
    """
    report = ReadReport()
    longest = model.encoder.config.longest_sequence
    records = list(encoded_records(model.domain, sources, report, longest=longest))
    if known is not None:
        check_known_contacts(known, _lengths(records))
    judged = []
    with new_directory(output, error=ConfigError) as folder:
        maps = (predict_contacts(model, record.name, encoding) for record, encoding in records)
        written = write_contacts(
            folder, maps, min_separation=min_separation, per_residue=per_residue
        )
        for done, found in enumerate(written, start=1):
            if known is not None and found.name in known.pairs:
                judged.append(found)
            on_progress(done, len(records))
    precision = None if known is None else contact_precision(judged, known)
    return WrittenContacts(len(records), contact_measure(model), precision, report)


def _lengths(records: Iterable[tuple[Record, Encoding]]) -> dict[str, list[int]]:
    """Residues of the proteins of each name; an encoding has a special token at either end."""
    lengths: defaultdict[str, list[int]] = defaultdict(list)
    for record, encoding in records:
        lengths[record.name].append(len(encoding) - 2)
    return lengths
