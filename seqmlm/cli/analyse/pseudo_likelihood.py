"""seqmlm analyse pseudo-likelihood"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.analyse.results import Output, print_rows, write_analysis
from seqmlm.cli.options import Backend, Data, Device, Run, TokensPerBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "pseudo-likelihood"
EXAMPLES = """Examples:

seqmlm analyse pseudo-likelihood runs/protein mine.fasta

seqmlm analyse pseudo-likelihood runs/text 'new/*.txt' --show 20"""


def run(
    run: Run,
    data: Data,
    show: Annotated[int, typer.Option(min=1, help="Least likely records in the table.")] = 10,
    output: Output = None,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
) -> None:
    """Rank records by pseudo-log-likelihood per token, the least likely first.

    A causal run gives log-likelihoods instead.
    """
    from seqmlm.analysis.pseudo_likelihood import analyse_pseudo_likelihood
    from seqmlm.analysis.run import open_run
    from seqmlm.cli.reading import end_progress, print_report, show_progress

    report = analyse_pseudo_likelihood(
        open_run(run, device=device, backend=backend),
        data,
        tokens_per_batch=tokens_per_batch,
        on_progress=lambda records: show_progress(f"{records:,} records scored"),
    )
    end_progress()
    print_report(report.read)

    def draw() -> Mapping[str, Figure]:
        from seqmlm.analysis.pictures.curves import draw_likelihood

        return {"pseudo_likelihood": draw_likelihood(report)}

    print_rows(
        f"the least likely of {len(report.records):,} records",
        ("record", "tokens", "nats per token", "place"),
        [
            (record.name, f"{record.tokens:,}", f"{record.per_token:.3f}", record.place)
            for record in report.least_likely[:show]
        ],
    )
    write_analysis(run, output, "pseudo_likelihood", report.to_json(), draw)
