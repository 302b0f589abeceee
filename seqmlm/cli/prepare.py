"""seqmlm prepare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqmlm.cli.options import Data

NAME = "prepare"
SUMMARY = "Tokenise data once into a store that training maps into memory."
EXAMPLES = """Examples:

seqmlm prepare uniref50.fasta.gz --domain protein --output stores/uniref50

seqmlm train --domain protein --data stores/uniref50"""


def run(
    data: Data,
    domain: Annotated[str, typer.Option(help="What the sequences are; see `seqmlm domains`.")],
    output: Annotated[Path, typer.Option(help="Folder of the store; must not exist.")],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="domain.KEY=VALUE", help="Option of the domain; repeatable."),
    ] = None,
) -> None:
    """Tokenise data once into a store that training maps into memory.

    `train` does this by itself and keeps the result in the cache; a store of one's own can be
    moved and shared. Memory does not grow with the data.
    """
    from seqmlm.atomic_files import make_directory
    from seqmlm.cli.reading import end_progress, print_report, show_progress
    from seqmlm.config import configure
    from seqmlm.data.prepare import prepare
    from seqmlm.domain import build_domain
    from seqmlm.errors import DataError

    settings = configure(domain=domain, sources=data, overrides=setting or [])
    make_directory(output.parent, error=DataError)
    store = prepare(
        build_domain(settings.domain.model_dump()),
        data,
        output,
        on_progress=lambda records, tokens: show_progress(f"{records:,} records"),
    )
    end_progress()
    print_report(store.report)
    print(f"{output}: {len(store):,} records, {len(store.tokens):,} tokens")
