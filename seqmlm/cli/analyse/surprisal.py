"""seqmlm analyse surprisal"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.analyse.results import Output, print_rows, write_analysis
from seqmlm.cli.options import Backend, Device, Run, TokensPerBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "surprisal"
EXAMPLES = """Examples:

seqmlm analyse surprisal runs/protein MKTAYIAKQRQISFVK

seqmlm analyse surprisal runs/text 'To be, or not to be' 'To be, or not two bees'

seqmlm analyse surprisal runs/protein mine.fasta --most 10 --output pictures"""


def run(
    run: Run,
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT|FILE...", help="Texts, or files of records.")
    ],
    most: Annotated[int, typer.Option(min=1, help="Records taken from each file.")] = 20,
    output: Output = None,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
) -> None:
    """Colour every token by how surprising it is, in nats and bits.

    Each token is masked alone and predicted from all others; a causal run predicts it from those
    before it.
    """
    import logging
    from itertools import islice

    from seqmlm.analysis.run import open_run
    from seqmlm.analysis.surprisal import NATS_PER_BIT, analyse_surprisal
    from seqmlm.data.report import ReadReport
    from seqmlm.inference.records import encoded_records

    opened = open_run(run, device=device, backend=backend)
    domain, longest = opened.model.domain, opened.model.encoder.config.longest_sequence
    sequences = []
    for text in texts:
        if _is_file(text):
            records = encoded_records(domain, [text], ReadReport(), longest=longest)
            sequences += [(record.name, encoding) for record, encoding in islice(records, most)]
        else:
            if _looks_like_path(text):
                logging.getLogger("seqmlm").info("%r read as a text: there is no such file", text)
            sequences.append((text, domain.parse(text)))
    report = analyse_surprisal(opened, sequences, tokens_per_batch=tokens_per_batch)

    def draw() -> Mapping[str, Figure]:
        from seqmlm.analysis.pictures.surprisal import draw_surprisal

        return {"surprisal": draw_surprisal(report)}

    print_rows(
        f"surprisal given {report.predicted_from}",
        ("sequence", "tokens", "nats per token", "bits per token", "most surprising"),
        [
            (
                item.name,
                f"{len(item.scored_nats):,}",
                f"{item.mean_nats:.3f}",
                f"{item.mean_nats / NATS_PER_BIT:.3f}",
                f"{max(item.scored_nats):.3f}",
            )
            for item in report.sequences
        ],
    )
    write_analysis(run, output, "surprisal", report.to_json(), draw)


def _is_file(text: str) -> bool:
    """Whether an argument names a file; a long text cannot be a name at all."""
    try:
        return text == "-" or Path(text).is_file()
    except OSError:
        return False


def _looks_like_path(text: str) -> bool:
    """Whether a text without blanks has a folder or an ending."""
    return not any(map(str.isspace, text)) and ("/" in text or bool(Path(text).suffix))
