"""seqmlm infill"""

from __future__ import annotations

from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, Run, Samples, Seed, Temperature

NAME = "infill"
SUMMARY = "Fill all masks in sequences so that the tokens fit one another."
EXAMPLES = """Examples:

seqmlm infill runs/protein 'MKT<mask><mask>IAK<mask>RQ' --temperature 0

seqmlm infill runs/text 'to [MASK] or not [MASK] be' --strategy gibbs --samples 5 --json"""


def run(
    run: Run,
    texts: Annotated[
        list[str],
        typer.Argument(
            help="Sequences with masks: <mask> in proteins, [MASK] in texts and code; "
            "as its tokenizer has it in an imported model."
        ),
    ],
    strategy: Annotated[
        str,
        typer.Option(help="independent, sequential (most confident first), left_to_right, gibbs."),
    ] = "sequential",
    temperature: Temperature = 1.0,
    samples: Samples = 1,
    sweeps: Annotated[int, typer.Option(min=1, help="Of gibbs: how often each site.")] = 10,
    seed: Seed = 0,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Fill all masks in sequences together; fill-mask proposes tokens for each alone.

    Prints the log-likelihood of each filling, nats: for sequential and left_to_right the product
    of conditionals (chain rule), for independent that of marginals, for gibbs the
    pseudo-likelihood.
    """
    import dataclasses
    import json
    from typing import cast

    from seqmlm.inference.infill import Strategy
    from seqmlm.model.model import Model
    from seqmlm.training.distributed import choose_device

    model = Model.load(run, device=choose_device(device), backend=backend)
    filled = model.infill(
        texts,
        strategy=cast("Strategy", strategy),
        temperature=temperature,
        samples=samples,
        sweeps=sweeps,
        seed=seed,
    )
    if as_json:
        content = [
            [{**dataclasses.asdict(item), "log_likelihood": item.log_likelihood} for item in each]
            for each in filled
        ]
        print(json.dumps(content))
        return
    for each in filled:
        for item in each:
            print(f"{item.log_likelihood:.3f}\t{item.text}")
