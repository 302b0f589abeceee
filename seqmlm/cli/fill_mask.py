"""seqmlm fill-mask"""

from __future__ import annotations

from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, Run

NAME = "fill-mask"
SUMMARY = "Propose tokens for the masks in a sequence."
EXAMPLES = """Examples:

seqmlm fill-mask runs/protein 'MKT<mask>YIAKQRQ'

seqmlm fill-mask runs/protein 'MKT<mask>YIAK<mask>RQ' --top-k 3 --json

seqmlm fill-mask runs/text 'To be, or not to [MASK]'"""


def run(
    run: Run,
    text: Annotated[
        str,
        typer.Argument(
            help="The sequence with masks: <mask> in a protein, [MASK] in text or code; "
            "as its tokenizer has it in an imported model."
        ),
    ],
    top_k: Annotated[int, typer.Option(min=1, help="Proposals per mask.")] = 5,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Propose tokens for the masks in a sequence, with their probabilities."""
    import dataclasses
    import json

    from seqmlm.model.model import Model
    from seqmlm.training.distributed import choose_device

    model = Model.load(run, device=choose_device(device), backend=backend)
    masks = model.fill_mask(text, top_k=top_k)
    if as_json:
        print(json.dumps([[dataclasses.asdict(item) for item in mask] for mask in masks]))
        return
    for number, mask in enumerate(masks, start=1):
        proposals = "  ".join(f"{item.token} {item.probability:.3f}" for item in mask)
        print(f"mask {number}:  {proposals}")
