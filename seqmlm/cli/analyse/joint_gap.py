"""seqmlm analyse joint-gap"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.analyse.results import HeldOut, Output, Seed, print_rows, write_analysis
from seqmlm.cli.options import Backend, Device, Run, TokensPerBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "joint-gap"
EXAMPLES = """Examples:

seqmlm analyse joint-gap runs/text

seqmlm analyse joint-gap runs/protein --triples --max-distance 4 --tuples 500"""


def run(
    run: Run,
    triples: Annotated[
        bool, typer.Option("--triples", help="Mask three positions together, not two.")
    ] = False,
    max_distance: Annotated[int, typer.Option(min=1, help="Between masked positions.")] = 8,
    tuples: Annotated[int, typer.Option(min=1, help="Drawn per distance.")] = 200,
    data: HeldOut = None,
    seed: Seed = 0,
    output: Output = None,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
) -> None:
    """Measure what predicting masked tokens independently loses.

    The gap is the log-probability of the true tokens by the chain rule, mean over the orders,
    less the sum of their independent ones. Orders that disagree show that no joint distribution
    is behind the model's conditionals.
    """
    from seqmlm.analysis.joint_gap import analyse_joint_gap
    from seqmlm.analysis.run import open_run

    opened = open_run(run, device=device, backend=backend)
    report = analyse_joint_gap(
        opened,
        opened.corpus(data or []),
        tuple_size=3 if triples else 2,
        max_distance=max_distance,
        tuples=tuples,
        seed=seed,
        tokens_per_batch=tokens_per_batch,
    )

    def draw() -> Mapping[str, Figure]:
        from seqmlm.analysis.pictures.curves import draw_joint_gap

        return {"joint_gap": draw_joint_gap(report)}

    print_rows(
        f"{'triples' if triples else 'pairs'} of masked tokens, nats each",
        ("distance", "drawn", "gap", "orders disagree by", "independent log p"),
        [
            (
                str(found.distance),
                f"{found.tuples:,}",
                *map(str, (found.gap, found.inconsistency, found.independent)),
            )
            for found in report.distances
        ],
    )
    write_analysis(run, output, "joint_gap", report.to_json(), draw)
