"""seqmlm predict"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import AsJson, Backend, Device, Run, TokensPerBatch

NAME = "predict"
SUMMARY = "Predict labels, answers or values with a fine-tuned model."
EXAMPLES = """Examples:

seqmlm predict runs/intents questions.csv --output predictions.csv

seqmlm predict runs/intents test.csv --output predictions.jsonl --evaluate"""


def run(
    run: Run,
    file: Annotated[str, typer.Argument(help="In the format that the model was fine-tuned on.")],
    output: Annotated[Path, typer.Option(help="The .csv or .jsonl file to write.")],
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="The file has labels: measure the predictions.")
    ] = False,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
    as_json: AsJson = False,
) -> None:
    """Write a prediction beside every line of a file.

    Lines that cannot be encoded stay, with an empty prediction, and are counted.
    """
    import json

    from seqmlm.cli.finetuning_tables import print_evaluations
    from seqmlm.cli.reading import print_report
    from seqmlm.finetuning.fine_tuned import FineTunedModel
    from seqmlm.training.distributed import choose_device

    tuned = FineTunedModel.load(run, device=choose_device(device), backend=backend)
    found = tuned.predict_file(file, output, evaluate=evaluate, tokens_per_batch=tokens_per_batch)
    print_report(found.report)
    if as_json:
        evaluation = None if found.evaluation is None else found.evaluation.to_json()
        print(json.dumps({"output": str(output), "evaluation": evaluation}))
        return
    if found.evaluation is not None:
        print_evaluations({str(file): found.evaluation})
    print(output)
