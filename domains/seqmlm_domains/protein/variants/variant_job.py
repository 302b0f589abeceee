"""Variants of one protein in a table: checked before they are scored, written afterwards."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seqmlm.atomic_files import write_file
from seqmlm.domain import Record
from seqmlm.errors import ConfigError, RunFolderError
from seqmlm_domains.protein.variants.comparison import VariantComparison, compare
from seqmlm_domains.protein.variants.mutation_table import (
    MutationTable,
    check_output,
    read_mutations,
    write_scores,
)
from seqmlm_domains.protein.variants.scorer import VariantScores
from seqmlm_domains.protein.variants.site_independent import fit_site_independent
from seqmlm_domains.protein.variants.wild_type import read_wild_type

TABLE_NAME = "variants.csv"
"""In the first run's folder, where no output is named."""


@dataclass(frozen=True, kw_only=True)
class VariantJob:
    """What is to be scored, and where the scores go.

    Args:
        wild_type: that the variants are told from.
        table: of the variants, perhaps with measured values.
        output: table to be written.
        homologs: files with the family of the site-independent bar; empty without that bar.
        max_identity: homologs so identical to the wild type are left out of the family.
    """

    wild_type: Record
    table: MutationTable
    output: Path
    homologs: Sequence[str]
    max_identity: float

    @classmethod
    def read(
        cls,
        runs: Sequence[Path],
        *,
        wild_type: Path,
        mutations: Path,
        output: Path | None,
        column: str | None,
        measured: str | None,
        homologs: Sequence[str],
        max_identity: float,
    ) -> VariantJob:
        """Read the protein and its variants, and refuse what could not be finished.

        Args:
            runs: at least one run or model folder.
            wild_type: FASTA file with one protein.
            mutations: table of variants, see :func:`~.mutation_table.read_mutations`.
            output: table to be written; ``variants.csv`` in the first run if not given.
            column: of the variants; the first if not given.
            measured: column of measured values, if there is one.
            homologs: see the class; they need measured values.
            max_identity: see the class; in (0, 1].

        Raises:
            ConfigError: an option is out of range or needs another, or ``output`` cannot be
                written.
            RunFolderError: a run does not exist.
            DataError: a file cannot be used.
        """
        _check_options(runs, measured=measured, homologs=homologs, max_identity=max_identity)
        protein = read_wild_type(wild_type)
        table = read_mutations(mutations, column=column, measured=measured)
        path = runs[0] / TABLE_NAME if output is None else output
        check_output(path, table)
        if path.exists() and path.samefile(mutations):
            raise ConfigError(f"--output {path} is the file that is read: choose another name.")
        return cls(
            wild_type=protein,
            table=table,
            output=path,
            homologs=homologs,
            max_identity=max_identity,
        )

    def compare(self, scores: VariantScores) -> VariantComparison | None:
        """Compare scores with the measured values; None where nothing was measured.

        Raises:
            DataError: the homologs cannot be used.
        """
        if self.table.measured is None:
            return None
        family = None
        if self.homologs:
            family = fit_site_independent(
                scores.wild_type, self.homologs, max_identity=self.max_identity
            )
        return compare(scores, self.table.measured, site_independent=family)

    def write(self, scores: VariantScores) -> None:
        """Write every row with its score or the reason that it has none.

        Raises:
            ConfigError: the table cannot be written.
        """
        write_scores(self.output, self.table, scores)

    def draw(self, scores: VariantScores) -> Path | None:
        """Write a heat map beside the table; None without single substitutions.

        Without matplotlib (the ``plot`` extra) there is none either, and one log line says so.

        Raises:
            RunFolderError: the picture cannot be written.
        """
        if not any(item.substitutions and len(item.substitutions) == 1 for item in scores.items):
            return None
        if importlib.util.find_spec("matplotlib") is None:
            logging.getLogger("seqmlm").info(
                "no heat map: matplotlib is not installed (pip install 'seqmlm[plot]')"
            )
            return None
        from seqmlm.analysis.pictures.style import to_png
        from seqmlm_domains.protein.variants.heat_map import draw_heat_map

        picture = self.output.with_suffix(".png")
        figure = draw_heat_map(scores, title=f"{self.wild_type.name}, {scores.method}")
        write_file(picture, to_png(figure), error=RunFolderError)
        return picture


def _check_options(
    runs: Sequence[Path], *, measured: str | None, homologs: Sequence[str], max_identity: float
) -> None:
    if homologs and measured is None:
        raise ConfigError("--homologs is for the comparison: say --measured COLUMN too.")
    if not 0 < max_identity <= 1:
        raise ConfigError(f"--max-identity {max_identity}: it is a share in (0, 1].")
    for run in runs:
        if not run.is_dir():
            raise RunFolderError(f"{run}: there is no such run or model folder.")
