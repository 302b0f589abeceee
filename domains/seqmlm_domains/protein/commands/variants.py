"""seqmlm protein variants"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, Run, TokensPerBatch

if TYPE_CHECKING:
    from seqmlm_domains.protein.variants.comparison import VariantComparison
    from seqmlm_domains.protein.variants.scorer import VariantScores

NAME = "variants"
EXAMPLES = """Examples:

seqmlm protein variants runs/protein --wild-type wt.fasta --mutations dms.csv --output scores.csv

seqmlm protein variants runs/protein --wild-type wt.fasta --mutations dms.csv --measured fitness
--homologs family.fasta"""


def run(
    run: Run,
    wild_type: Annotated[Path, typer.Option(help="FASTA file with one protein.")],
    mutations: Annotated[
        Path, typer.Option(help="CSV, TSV or JSON Lines: A42G, A42G:K55R, A42del, or sequences.")
    ],
    method: Annotated[
        str,
        typer.Option(help="wt-marginal, masked-marginal, joint-mask or pseudo-likelihood."),
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

    masked-marginal hides one mutated site at a time and sums; joint-mask hides all sites of a
    variant together; wt-marginal hides none; pseudo-likelihood also takes insertions and deletions.
    """
    import json

    from seqmlm.cli.reading import end_progress, show_progress
    from seqmlm.errors import ConfigError
    from seqmlm_domains.protein.commands.variant_tables import print_comparison, print_summary
    from seqmlm_domains.protein.variants.comparison import compare
    from seqmlm_domains.protein.variants.mutation_table import read_mutations, write_scores
    from seqmlm_domains.protein.variants.scorer import VariantScorer
    from seqmlm_domains.protein.variants.site_independent import fit_site_independent
    from seqmlm_domains.protein.variants.wild_type import read_wild_type

    if homologs and measured is None:
        raise ConfigError("--homologs is for the comparison: give the measured column too.")
    protein = read_wild_type(wild_type)
    table = read_mutations(mutations, column=column, measured=measured)
    scorer = VariantScorer.load(run, device=device, backend=backend, max_length=max_length)
    scores = scorer.score(
        protein.content,
        table.variants,
        method=method,  # type: ignore[arg-type]  # the scorer names what it knows
        offset=offset,
        tokens_per_batch=tokens_per_batch,
        on_progress=lambda done, passes: show_progress(f"{done:,} of {passes:,} passes"),
    )
    end_progress()
    path = run / "variants.csv" if output is None else output
    write_scores(path, table, scores)
    comparison = None
    if table.measured is not None:
        family = None
        if homologs:
            family = fit_site_independent(scores.wild_type, homologs, max_identity=max_identity)
        comparison = compare(scores, table.measured, site_independent=family)
    picture = _draw(scores, path, title=f"{protein.name}, {scores.method}")
    if as_json:
        print(json.dumps(_as_json(scores, comparison)))
        return
    if comparison is not None:
        print_comparison(comparison)
    print_summary(scores)
    print(path)
    if picture is not None:
        print(picture)


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


def _as_json(scores: VariantScores, comparison: VariantComparison | None) -> dict[str, object]:
    return scores.to_json() | {"comparison": None if comparison is None else comparison.to_json()}
