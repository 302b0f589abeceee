"""Predicted contacts against known ones: precision of the best pairs, by separation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from seqmlm.errors import DataError
from seqmlm.finetuning.records import LabelledRecord, read_table
from seqmlm.finetuning.statistics import IndexArray, Metric, bootstrap
from seqmlm_domains.protein.contacts.prediction import ContactMap

Pairs = frozenset[tuple[int, int]]

SEPARATIONS: Final[Mapping[str, tuple[int, int | None]]] = {
    "short": (6, 12),
    "medium": (12, 24),
    "long": (24, None),
}
"""Residues between the two of a pair, half-open, as CASP names them."""

PAIRS_TAKEN: Final[Mapping[str, int]] = {"L": 1, "L/2": 2, "L/5": 5}
"""How many of the best pairs are judged: the length of the protein over this."""

COLUMNS: Final = ("name", "i", "j")


@dataclass(frozen=True)
class KnownContacts:
    """Pairs of residues that touch, by protein.

    Args:
        pairs: i < j, counted from 0, by the name of the protein.
        places: file and line of the first pair of each, for messages.
        longest: largest j of each, and where it is.
    """

    pairs: Mapping[str, Pairs]
    places: Mapping[str, str]
    longest: Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class ContactPrecision:
    """Precision of predicted contacts, the mean over proteins.

    Args:
        proteins: with known contacts at some separation of 6 or more.
        precision: by separation and number of pairs, such as ``long L/5``.
        by_chance: precision of pairs drawn at random, by separation.
    """

    proteins: int
    precision: Mapping[str, Metric]
    by_chance: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "proteins": self.proteins,
            "precision": {name: metric.to_json() for name, metric in self.precision.items()},
            "by_chance": dict(self.by_chance),
        }


def read_known_contacts(path: Path) -> KnownContacts:
    """Read a table with the columns ``name``, ``i`` and ``j``, residues counted from 1.

    Raises:
        DataError: the file cannot be used, or a line names no two different residues.
    """
    records = read_table(path, {})
    missing = [name for name in COLUMNS if name not in records[0].fields]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}. Known contacts have the columns "
            f"{', '.join(COLUMNS)}: a protein and two of its residues, counted from 1."
        )
    pairs: dict[str, set[tuple[int, int]]] = defaultdict(set)
    places: dict[str, str] = {}
    longest: dict[str, tuple[int, str]] = {}
    for record in records:
        name = record.text("name")
        first, second = sorted((_residue(record, "i"), _residue(record, "j")))
        if first == second:
            raise DataError(f"{record.place}: residue {first + 1} with itself is no contact.")
        pairs[name].add((first, second))
        places.setdefault(name, record.place)
        if second > longest.get(name, (-1, ""))[0]:
            longest[name] = second, record.place
    return KnownContacts({name: frozenset(each) for name, each in pairs.items()}, places, longest)


def check_known_contacts(known: KnownContacts, lengths: Mapping[str, Sequence[int]]) -> None:
    """Refuse contacts that belong to no residue, before anything is predicted.

    Args:
        known: as read.
        lengths: residues of the proteins of each name.

    Raises:
        DataError: a protein is missing or there are two of its name, or it is shorter.
    """
    for name, place in known.places.items():
        found = lengths.get(name, ())
        if len(found) != 1:
            what = "no sequence" if not found else f"{len(found)} sequences"
            raise DataError(f"{place}: {what} of the data is called {name!r}; one is needed.")
        last, where = known.longest[name]
        if last >= found[0]:
            raise DataError(f"{where}: residue {last + 1}, but {name} has {found[0]}.")


def contact_precision(
    maps: Sequence[ContactMap], known: KnownContacts, *, seed: int = 0
) -> ContactPrecision:
    """Judge maps of proteins with known contacts, at separations of 6 residues and more.

    Args:
        maps: those without known contacts are passed over.
        known: contacts of some.
        seed: of the bootstrap over proteins, 1,000 resamples.
    """
    judged = [each for each in maps if known.pairs.get(each.name)]
    values = [_precisions(each, known.pairs[each.name]) for each in judged]
    chance = [_chances(each, known.pairs[each.name]) for each in judged]
    names = [f"{separation} {taken}" for separation in SEPARATIONS for taken in PAIRS_TAKEN]
    table = np.array([[value.get(name, np.nan) for name in names] for value in values])

    def measures(drawn: IndexArray) -> dict[str, float]:
        return {name: _mean(table[drawn, column]) for column, name in enumerate(names)}

    return ContactPrecision(
        proteins=len(judged),
        precision=bootstrap(measures, len(judged), np.random.default_rng(seed)),
        by_chance={
            name: _mean(np.array([each.get(name, np.nan) for each in chance]))
            for name in SEPARATIONS
        },
    )


def _precisions(found: ContactMap, pairs: Pairs) -> dict[str, float]:
    """Precision by separation and number of pairs; absent where there are no contacts."""
    length = len(found.sequence)
    everything = found.best_pairs(min_separation=6, most=length * length)
    precisions = {}
    for name, (low, high) in SEPARATIONS.items():
        ranked = [(i, j) in pairs for i, j, _ in everything if low <= j - i < (high or length)]
        if not any(ranked):
            continue
        for taken, divisor in PAIRS_TAKEN.items():
            best = ranked[: max(1, length // divisor)]
            precisions[f"{name} {taken}"] = sum(best) / len(best)
    return precisions


def _chances(found: ContactMap, pairs: Pairs) -> dict[str, float]:
    length = len(found.sequence)
    chances = {}
    for name, (low, high) in SEPARATIONS.items():
        last = min(high or length, length)
        possible = sum(length - separation for separation in range(low, last))
        contacts = sum(low <= j - i < (high or length) for i, j in pairs)
        if contacts:
            chances[name] = contacts / possible
    return chances


def _mean(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Mean of the proteins that have contacts at a separation; NaN without any."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _residue(record: LabelledRecord, column: str) -> int:
    text = record.text(column).strip()
    if not text.isdecimal() or int(text) < 1:
        raise DataError(
            f"{record.place}: {column} is {text!r}; residues are whole numbers, counted from 1."
        )
    return int(text) - 1
