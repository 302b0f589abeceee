"""seqmlm analyse probe"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seqmlm.cli.analyse.results import Output, Seed, print_rows, write_analysis
from seqmlm.cli.options import Backend, Device, Run, TokensPerBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "probe"
EXAMPLES = """Examples:

seqmlm analyse probe runs/text topics.jsonl

seqmlm analyse probe runs/text parts_of_speech.conll

seqmlm analyse probe runs/protein structure.tsv --joined-by ''"""


def run(
    run: Run,
    labels: Annotated[
        Path,
        typer.Argument(
            help="JSON Lines or CSV with text and label; lines of word and label; CoNLL-U (UPOS)."
        ),
    ],
    joined_by: Annotated[
        str, typer.Option(help="Between the words of a text; '' for residues.")
    ] = " ",
    max_words: Annotated[
        int, typer.Option(min=2, help="Labelled words used; of more, texts are drawn at random.")
    ] = 20_000,
    test_share: Annotated[float, typer.Option(help="Of the documents.")] = 0.3,
    seed: Seed = 0,
    output: Output = None,
    device: Device = "auto",
    backend: Backend = "auto",
    tokens_per_batch: TokensPerBatch = 8192,
) -> None:
    """Ask each layer for labels by a linear classifier, and for random ones as a control.

    Documents are parted into training and test: a field 'document' in JSON Lines or CSV, or lines
    that begin with '# newdoc' or '-DOCSTART-', say what belongs together. A text with a label of
    its own counts as one word.
    """
    from seqmlm.analysis.labels import bounded, read_labelled_texts
    from seqmlm.analysis.probe import analyse_probe
    from seqmlm.analysis.run import open_run
    from seqmlm.cli.reading import end_progress, show_progress

    found = read_labelled_texts(labels)
    texts = bounded(found, max_words, seed=seed)
    used, given = (sum(len(text.words) for text in each) for each in (texts, found))
    report = analyse_probe(
        open_run(run, device=device, backend=backend),
        texts,
        joined_by=joined_by,
        test_share=test_share,
        seed=seed,
        tokens_per_batch=tokens_per_batch,
        on_progress=lambda doing: show_progress(f"{doing:40}"),
    )
    end_progress()

    def draw() -> Mapping[str, Figure]:
        from seqmlm.analysis.pictures.curves import draw_probe

        return {"probe": draw_probe(report)}

    print_rows(
        f"{len(report.labels)} labels, {report.train_words:,} examples to train on and "
        f"{report.test_words:,} to test",
        ("layer", "accuracy", "control task", "selectivity", "balanced accuracy"),
        [
            ("majority", f"{report.majority_accuracy:.3f}", "", "",
             f"{report.majority_balanced_accuracy:.3f}"),
            *(
                (
                    str(scores.layer),
                    *map(str, (scores.accuracy, scores.control_accuracy, scores.selectivity)),
                    f"{scores.balanced_accuracy:.3f}",
                )
                for scores in report.layers
            ),
        ],
    )  # fmt: skip
    print(f"{used:,} of {given:,} labelled words were used (--max-words {max_words})")
    content = report.to_json() | {"labelled_words": given, "labelled_words_used": used}
    write_analysis(run, output, "probe", content, draw)
