"""seqmlm analyse attention"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.analyse.results import Output, print_rows, write_analysis
from seqmlm.cli.options import Backend, Device, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "attention"
EXAMPLES = """Examples:

seqmlm analyse attention runs/protein MKTAYIAKQRQISFVK

seqmlm analyse attention runs/text 'To be, or not to be' --layer 1"""


def run(
    run: Run,
    text: Annotated[str, typer.Argument(help="One sequence; it may hold masks.")],
    layer: Annotated[
        int | None,
        typer.Option(min=1, help="Layer to be drawn large; the last if not given."),
    ] = None,
    output: Output = None,
    device: Device = "auto",
    backend: Backend = "auto",
) -> None:
    """Draw what each token attends to, in every layer and head.

    The table gives for each layer the means over its heads; the JSON has every head.
    """
    from seqmlm.analysis.attention import analyse_attention
    from seqmlm.analysis.run import open_run
    from seqmlm.errors import ConfigError

    opened = open_run(run, device=device, backend=backend)
    layers = opened.model.encoder.config.layers
    chosen = layers if layer is None else layer
    if chosen > layers:
        raise ConfigError(f"--layer {layer}: {run} has the layers 1 to {layers}.")
    maps = analyse_attention(opened, opened.model.domain.parse(text))

    def draw() -> Mapping[str, Figure]:
        from seqmlm.analysis.pictures.attention import draw_all_heads, draw_layer

        return {
            "attention": draw_all_heads(maps),
            f"attention_layer_{chosen}": draw_layer(maps, chosen - 1),
        }

    columns = (maps.entropy_nats, maps.mean_distance, maps.special_share)
    print_rows(
        f"attention over {len(maps.tokens):,} tokens, mean of the heads",
        ("layer", "entropy, nats", "distance, tokens", "share of first and last"),
        [
            (str(index + 1), *(f"{float(column[index].mean()):.3f}" for column in columns))
            for index in range(layers)
        ],
    )
    write_analysis(run, output, "attention", maps.to_json(), draw)
