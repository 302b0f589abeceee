"""seqmlm protein variants"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, TokensPerBatch

if TYPE_CHECKING:
    from seqmlm_domains.protein.variants.comparison import VariantComparison
    from seqmlm_domains.protein.variants.scorer import VariantScores

NAME = "variants"
EXAMPLES = """Examples:

seqmlm protein variants runs/protein --wild-type wt.fasta --mutations dms.csv --output scores.csv

seqmlm protein variants runs/protein --wild-type wt.fasta --mutations dms.csv --measured fitness
--homologs family.fasta"""


def run(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run or model folders; of several, the mean of their scores.",
            show_default=False,
        ),
    ],
    wild_type: Annotated[Path, typer.Option(help="FASTA file with one protein.")],
    mutations: Annotated[
        Path, typer.Option(help="CSV, TSV or JSON Lines: A42G, A42G:K55R, A42del, or sequences.")
    ],
    method: Annotated[
        str,
        typer.Option(
            help="wt-marginal, masked-marginal, random-mask, joint-mask or pseudo-likelihood."
        ),
    ] = "masked-marginal",
    output: Annotated[
        Path | None,
        typer.Option(help="Every row with its score, .csv or .jsonl; else RUN/variants.csv."),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of the variants; else the first.")] = None,
    measured: Annotated[
        str | None, typer.Option(help="Column of measured values, higher is fitter.")
    ] = None,
    homologs: Annotated[
        list[str] | None,
        typer.Option(help="With --measured: family for the site-independent bar; repeatable."),
    ] = None,
    max_identity: Annotated[
        float, typer.Option(help="Homologs so identical to the wild type are left out of it.")
    ] = 0.95,
    offset: Annotated[
        int | None, typer.Option(help="Number of the first residue; else found from the letters.")
    ] = None,
    mask_rate: Annotated[
        float, typer.Option(help="Of random-mask: share of the residues hidden at once.")
    ] = 0.3,
    mask_draws: Annotated[
        int, typer.Option(help="Of random-mask: how often each residue is hidden.")
    ] = 16,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens that the model sees at once; else as it was trained.")
    ] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
    as_json: AsJson = False,
) -> None:
    """Score variants of a protein; with measured values, compare with the bars.

    The score is how much more probable, in nats, the model finds the variant than the wild type.
    Every row of the input is a row of the output: without a score it has a reason. A heat map of
    the single substitutions is written beside it.

    masked-marginal hides one mutated site at a time and sums; random-mask hides random others with
    it and averages; joint-mask hides all sites of a variant together; wt-marginal hides none;
    pseudo-likelihood also takes insertions and deletions.
    """
    import json

    from seqmlm.cli.reading import end_progress, show_progress
    from seqmlm.errors import ConfigError, RunFolderError
    from seqmlm_domains.protein.commands.variant_tables import print_comparison, print_summary
    from seqmlm_domains.protein.variants.mutation_table import (
        check_output,
        read_mutations,
        write_scores,
    )
    from seqmlm_domains.protein.variants.passes import RandomMasks
    from seqmlm_domains.protein.variants.scorer import VariantScorer, mean_scores
    from seqmlm_domains.protein.variants.wild_type import read_wild_type

    if homologs and measured is None:
        raise ConfigError("--homologs is for the comparison: say --measured COLUMN too.")
    if not 0 < max_identity <= 1:
        raise ConfigError(f"--max-identity {max_identity}: it is a share in (0, 1].")
    for run in runs:
        if not run.is_dir():
            raise RunFolderError(f"{run}: there is no such run or model folder.")
    protein = read_wild_type(wild_type)
    table = read_mutations(mutations, column=column, measured=measured)
    path = runs[0] / "variants.csv" if output is None else output
    check_output(path, table)
    if path.exists() and path.samefile(mutations):
        raise ConfigError(f"--output {path} is the file that is read: choose another name.")
    masks = RandomMasks(rate=mask_rate, draws=mask_draws)
    each = []
    for run in runs:
        scorer = VariantScorer.load(run, device=device, backend=backend, max_length=max_length)
        each.append(
            scorer.score(
                protein.content,
                table.variants,
                method=method,  # type: ignore[arg-type]  # the scorer names what it knows
                offset=offset,
                masks=masks,
                tokens_per_batch=tokens_per_batch,
                on_progress=lambda done, passes: show_progress(f"{done:,} of {passes:,} passes"),
            )
        )
        end_progress()
    scores = mean_scores(each)
    write_scores(path, table, scores)
    comparison = _compare(scores, table.measured, homologs or [], max_identity)
    picture = _draw(scores, path, title=f"{protein.name}, {scores.method}")
    if as_json:
        compared = None if comparison is None else comparison.to_json()
        print(json.dumps(scores.to_json() | {"comparison": compared}))
        return
    if comparison is not None:
        print_comparison(comparison)
    print_summary(scores)
    print(path)
    if picture is not None:
        print(picture)


def _compare(
    scores: VariantScores,
    measured: Sequence[float] | None,
    homologs: Sequence[str],
    max_identity: float,
) -> VariantComparison | None:
    """None where nothing was measured."""
    from seqmlm_domains.protein.variants.comparison import compare
    from seqmlm_domains.protein.variants.site_independent import fit_site_independent

    if measured is None:
        return None
    family = None
    if homologs:
        family = fit_site_independent(scores.wild_type, homologs, max_identity=max_identity)
    return compare(scores, measured, site_independent=family)


def _draw(scores: VariantScores, path: Path, *, title: str) -> Path | None:
    """Write the heat map beside the scores; None without matplotlib or single substitutions."""
    import importlib.util
    import logging

    from seqmlm.atomic_files import write_file
    from seqmlm.errors import RunFolderError

    if not any(item.substitutions and len(item.substitutions) == 1 for item in scores.items):
        return None
    if importlib.util.find_spec("matplotlib") is None:
        logging.getLogger("seqmlm").info(
            "no heat map: matplotlib is not installed (pip install 'seqmlm[plot]')"
        )
        return None
    from seqmlm.analysis.pictures.style import to_png
    from seqmlm_domains.protein.variants.heat_map import draw_heat_map

    picture = path.with_suffix(".png")
    write_file(picture, to_png(draw_heat_map(scores, title=title)), error=RunFolderError)
    return picture
