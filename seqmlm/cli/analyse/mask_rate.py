"""seqmlm analyse mask-rate"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.analyse.results import HeldOut, Output, Seed, print_rows, write_analysis
from seqmlm.cli.options import Backend, Device, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "mask-rate"
EXAMPLES = """Examples:

seqmlm analyse mask-rate runs/protein

seqmlm analyse mask-rate runs/text --rates 0.05,0.15,0.4 --gradients 200"""


def run(
    run: Run,
    rates: Annotated[
        str, typer.Option(help="Shares of the tokens to predict, separated by commas.")
    ] = "0.02,0.05,0.1,0.15,0.3,0.5,0.8",
    sequences: Annotated[int, typer.Option(min=1, help="Records per gradient.")] = 2,
    gradients: Annotated[int, typer.Option(min=4, help="Gradients per rate; even.")] = 40,
    data: HeldOut = None,
    seed: Seed = 0,
    output: Output = None,
    device: Device = "auto",
    backend: Backend = "auto",
) -> None:
    """Measure how gradient noise and loss depend on the mask rate.

    Once with the same corruption at every rate, where only the number of predicted tokens
    changes: independent tokens would give a slope of -1. Once as in training, where every hidden
    token is predicted and a higher rate is a harder task.
    """
    from seqmlm.analysis.mask_rate import analyse_mask_rate
    from seqmlm.analysis.run import open_run

    opened = open_run(run, device=device, backend=backend)
    report = analyse_mask_rate(
        opened,
        opened.corpus(data or []),
        rates=_numbers(rates),
        sequences=sequences,
        gradients=gradients,
        seed=seed,
    )

    def draw() -> Mapping[str, Figure]:
        from seqmlm.analysis.pictures.curves import draw_mask_rate

        return {"mask_rate": draw_mask_rate(report)}

    print_rows(
        f"variance of the gradient; {report.corrupt_rate:.0%} hidden, or as much as is predicted",
        ("rate", "targets", "variance, fixed", "variance, coupled", "loss, fixed", "loss, coupled"),
        [
            (
                f"{fixed.rate:g}",
                f"{fixed.targets:.1f}",
                f"{fixed.variance.value:.4g}",
                f"{coupled.variance.value:.4g}",
                str(fixed.loss),
                str(coupled.loss),
            )
            for fixed, coupled in zip(report.fixed.points, report.coupled.points, strict=True)
        ],
    )
    print(f"slope of log variance over log targets, fixed corruption: {report.fixed.slope}")
    print(f"slope with the corruption of training:                   {report.coupled.slope}")
    write_analysis(run, output, "mask_rate", report.to_json(), draw)


def _numbers(text: str) -> list[float]:
    from seqmlm.errors import ConfigError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--rates {text}: write numbers separated by commas, such as 0.05,0.15,0.4."
        ) from error
