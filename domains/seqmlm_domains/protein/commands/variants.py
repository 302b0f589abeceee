"""seqmlm protein variants"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, TokensPerBatch

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
    from seqmlm_domains.protein.commands.variant_tables import print_comparison, print_summary
    from seqmlm_domains.protein.variants.passes import RandomMasks
    from seqmlm_domains.protein.variants.scorer import VariantScorer, mean_scores
    from seqmlm_domains.protein.variants.variant_job import VariantJob

    job = VariantJob.read(
        runs,
        wild_type=wild_type,
        mutations=mutations,
        output=output,
        column=column,
        measured=measured,
        homologs=homologs or [],
        max_identity=max_identity,
    )
    masks = RandomMasks(rate=mask_rate, draws=mask_draws)
    each = []
    for run in runs:
        scorer = VariantScorer.load(run, device=device, backend=backend, max_length=max_length)
        each.append(
            scorer.score(
                job.wild_type.content,
                job.table.variants,
                method=method,  # type: ignore[arg-type]  # the scorer names what it knows
                offset=offset,
                masks=masks,
                tokens_per_batch=tokens_per_batch,
                on_progress=lambda done, passes: show_progress(f"{done:,} of {passes:,} passes"),
            )
        )
        end_progress()
    scores = mean_scores(each)
    job.write(scores)
    comparison = job.compare(scores)
    picture = job.draw(scores)
    if as_json:
        compared = None if comparison is None else comparison.to_json()
        print(json.dumps(scores.to_json() | {"comparison": compared}))
        return
    if comparison is not None:
        print_comparison(comparison)
    print_summary(scores)
    print(job.output)
    if picture is not None:
        print(picture)
