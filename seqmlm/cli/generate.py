"""seqmlm generate"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, Run, Samples, Seed, Temperature

if TYPE_CHECKING:
    from seqmlm.inference.generate import Continuation

NAME = "generate"
SUMMARY = "Continue a sequence token by token."
EXAMPLES = """Examples:

seqmlm generate runs/text 'ROMEO:' --max-tokens 200 --temperature 0.8

seqmlm generate runs/text 'To be' --top-p 0.9 --samples 3 --seed 1 --json

seqmlm generate runs/dialogue $'Who is there?\\nA friend.\\n'"""


def run(
    run: Run,
    prefix: Annotated[str, typer.Argument(help="What to continue; '' starts from nothing.")],
    max_tokens: Annotated[int, typer.Option(min=1, help="Most new tokens.")] = 100,
    temperature: Temperature = 1.0,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Draw from so many of the best tokens; all if left.")
    ] = None,
    top_p: Annotated[
        float, typer.Option(help="Draw from the fewest best tokens of this total probability.")
    ] = 1.0,
    samples: Samples = 1,
    seed: Seed = 0,
    context: Annotated[
        str | None,
        typer.Option(help="How the prefix is read: causal or bidirectional; as trained if left."),
    ] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Continue a sequence, up to the end that the model puts or a number of tokens.

    The model must have been trained with clm or prefix_lm. A single sample appears on a terminal
    as it grows.

    Of a dialogue each line is a turn, of two speakers by turns. A line alone is answered; of
    several the last one is, if a line break follows it ($'...\\n' in bash and zsh), and else it is
    the beginning of an answer and is continued. JSON as trained on is answered too: a list of
    objects with speaker and text.
    """
    from typing import cast

    from seqmlm.inference.generate import stream_text
    from seqmlm.inference.sampling import Sampling
    from seqmlm.model.model import Model
    from seqmlm.objectives.rows import PrefixContext
    from seqmlm.training.distributed import choose_device

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    model = Model.load(run, device=choose_device(device), backend=backend)
    read_as = cast("PrefixContext | None", context)
    if samples == 1 and not as_json and sys.stdout.isatty():
        for piece in stream_text(
            model, prefix, max_tokens=max_tokens, sampling=sampling, seed=seed, context=read_as
        ):
            print(piece, end="", flush=True)
        print()
        return
    (found,) = model.generate(
        [prefix],
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        samples=samples,
        seed=seed,
        context=read_as,
    )
    _print(found, as_json=as_json)


def _print(found: list[Continuation], *, as_json: bool) -> None:
    import dataclasses
    import json
    import logging

    if as_json:
        content = [
            {**dataclasses.asdict(item), "log_likelihood": item.log_likelihood} for item in found
        ]
        print(json.dumps(content))
        return
    if any(item.is_finished and not item.text.strip() for item in found):
        logging.getLogger("seqmlm").info(
            "the model put the end at once: it takes the prefix for complete (the last turn of a "
            "dialogue is answered if a line break follows it)"
        )
    for number, item in enumerate(found, start=1):
        if len(found) > 1:
            print(f"--- sample {number}, {item.log_likelihood:.3f} nats")
        print(item.prefix + item.text)
