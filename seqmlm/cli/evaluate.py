"""seqmlm evaluate"""

from __future__ import annotations

from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, Run, TokensPerBatch

NAME = "evaluate"
SUMMARY = "Measure a model on held-out data, beside the bars."
EXAMPLES = """Examples:

seqmlm evaluate runs/protein

seqmlm evaluate runs/protein --data other.fasta --json"""


def run(
    run: Run,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Other data, all of it held out; repeatable."),
    ] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
    as_json: AsJson = False,
) -> None:
    """Measure a model on held-out data, beside the bars.

    Every evaluated token is hidden behind the mask token; a run that was trained by causal
    objectives alone predicts each token from those before it instead. The bars (unigram,
    composition of the sequence, composition and neighbours; or unigram and bigram) are fitted on
    the run's training data and score the same tokens.

    Of a run that predicts no tokens (rtd, nsp, sop alone) what it was judged by is not saved:
    shown is what it recorded at the end of training.
    """
    import json

    from seqmlm.cli.tables import print_evaluation, print_recorded
    from seqmlm.evaluation.run import (
        evaluate_run,
        objectives_without_tokens,
        recorded_evaluation,
    )

    if not data and objectives_without_tokens(run):
        recorded = recorded_evaluation(run)
        if as_json:
            print(json.dumps({"recorded_at_the_end_of_training": recorded}))
        else:
            print_recorded(recorded["objectives"], path=run / "evaluation.json")
        return
    report = evaluate_run(
        run, data=data or [], device=device, backend=backend, tokens_per_batch=tokens_per_batch
    )
    if as_json:
        print(json.dumps(report.to_json()))
    else:
        print_evaluation(report, by_token=True)
