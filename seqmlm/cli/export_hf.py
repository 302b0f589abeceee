"""seqmlm export-hf"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import Run

NAME = "export-hf"
SUMMARY = "Write a model as a folder that Hugging Face transformers loads."
EXAMPLES = """Examples:

seqmlm export-hf runs/protein --output hf/protein

Then, with transformers: AutoModelForMaskedLM.from_pretrained("hf/protein")"""


def run(
    run: Run,
    output: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
) -> None:
    """Write a model as a folder that Hugging Face transformers loads.

    AutoModelForMaskedLM and AutoTokenizer read it without code of ours. The model must be one that
    ESM, BERT, RoBERTa or ModernBERT can express exactly; configs/ has such configurations.
    """
    import logging

    from seqmlm.atomic_files import make_directory
    from seqmlm.errors import ConfigError
    from seqmlm.interop.exporting import export_model
    from seqmlm.model.model import Model

    model = Model.load(run)
    make_directory(output.parent, error=ConfigError)
    for line in export_model(model, output).lines():
        logging.getLogger("seqmlm").info(line)
    print(output)
