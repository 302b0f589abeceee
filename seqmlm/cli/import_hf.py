"""seqmlm import-hf"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "import-hf"
SUMMARY = "Make a model of Hugging Face weights: ESM-2, BERT, RoBERTa, ModernBERT."
EXAMPLES = """Examples:

seqmlm import-hf downloads/esm2_t6_8M_UR50D --output runs/esm2_8m

seqmlm import-hf facebook/esm2_t6_8M_UR50D --output runs/esm2_8m

seqmlm train --domain protein --data family.fasta --init runs/esm2_8m"""


def run(
    source: Annotated[
        str, typer.Argument(help="Folder with config.json and safetensors, or a name on the hub.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the model; must not exist.")],
    domain: Annotated[
        str | None,
        typer.Option(help="Of the model: protein for ESM, text for the others if not given."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="With a name on the hub: branch, tag or commit.")
    ] = None,
) -> None:
    """Make a model of Hugging Face weights: ESM-2, BERT, RoBERTa, ModernBERT.

    The result is used like the run of a training: fill-mask, score, embed, finetune, train --init.
    The library transformers is not needed.
    """
    import logging

    from seqmlm.atomic_files import make_directory
    from seqmlm.errors import ConfigError
    from seqmlm.interop.hub import import_pretrained

    if output.exists():
        raise ConfigError(f"--output {output} exists already; choose a new folder.")
    imported = import_pretrained(source, revision=revision, domain=domain)
    make_directory(output.parent, error=ConfigError)
    imported.model.save(output)
    for line in imported.lines():
        logging.getLogger("seqmlm").info(line)
    print(output)
