"""Held-out losses on small texts, beside what counting reaches on the very same tokens.

Two models for each text: one trained to fill in masks, one to predict the next token. They are
measured on a part that neither training nor any choice has seen: the articles of wikitext2's test
file after training on its valid file, or the last tenth of tinyshakespeare's characters.

``masked`` is the loss of a uniform 15 % behind the mask token. ``neighbours visible`` are those of
these targets with nothing hidden within two places, which is what counts of two neighbours on
either side see. ``next token`` is the causal loss. Targets stand in the first ``max_length`` tokens
of each passage of the test file; bars have counted all of the training file.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.neighbour_counts import NeighbourCounts
from benchmarks.record import RESULTS, Stopwatch, describe_machine, print_table, write_result
from seqmlm.config import RunConfig, configure
from seqmlm.data.prepare import open_store
from seqmlm.data.samples import EVALUATION, EvaluationSample, evaluation_samples
from seqmlm.data.store import TokenStore
from seqmlm.evaluation.masked import evaluate_masked
from seqmlm.evaluation.report import fit_training_bars, score_bars
from seqmlm.evaluation.run import evaluate_run
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Targets
from seqmlm.training.loop import train

NAME = "text_losses"
WIDTH = 2
"""Neighbours on either side that must be visible, and that the counts see."""

OBJECTIVES = {
    "mlm": '[{name = "mlm", policy = {rate = 0.3, corruptor = {name = "mixed", mask = 1.0, '
    "random = 0.0, keep = 0.0}}}]",
    "clm": '[{name = "clm"}]',
}


@dataclass(frozen=True)
class Corpus:
    """A text, and how it is read and learned.

    Args:
        settings: of its runs.
        steps: of training unless the command line says otherwise.
    """

    settings: Sequence[str]
    steps: int


CORPORA = {
    "wikitext2": Corpus(
        settings=(
            "domain.tokenizer=bpe",
            "domain.vocabulary_size=4000",
            "domain.documents=heading",
            'domain.unmaskable_words=["<unk>"]',
            "domain.passage_characters=1000",
            "data.max_length=128",
            "model.dropout=0.1",
        ),
        steps=3_000,
    ),
    "tinyshakespeare": Corpus(
        settings=(
            "domain.tokenizer=character",
            "domain.vocabulary_size=100",
            "domain.passage_characters=500",
            "data.max_length=256",
        ),
        steps=3_000,
    ),
}


@dataclass(frozen=True)
class Loss:
    """One held-out loss and its bars.

    Args:
        corpus: name of the text.
        measure: what was predicted.
        targets: how many tokens.
        nats: mean of the model.
        bars: mean nats of what only counts, on the same tokens.
        cpu_minutes: of the model's training, its evaluations included.
    """

    corpus: str
    measure: str
    targets: int
    nats: float
    bars: dict[str, float]
    cpu_minutes: float

    @property
    def best_bar(self) -> tuple[str, float]:
        """Name and loss of the strongest."""
        return min(self.bars.items(), key=lambda item: item[1])


def files_of(arguments: argparse.Namespace, corpus: str, folder: Path) -> tuple[Path, Path]:
    """Return what is trained on and what is held out; writes the parts of a single file."""
    if corpus == "wikitext2":
        return arguments.wikitext2 / "valid.txt", arguments.wikitext2 / "test.txt"
    text = (arguments.tinyshakespeare / "input.txt").read_text(encoding="utf-8")
    cut = len(text) * 9 // 10
    parts = folder / "train.txt", folder / "test.txt"
    for path, part in zip(parts, (text[:cut], text[cut:]), strict=True):
        path.write_text(part, encoding="utf-8")
    return parts


def configuration(
    arguments: argparse.Namespace, corpus: str, objective: str, source: Path
) -> RunConfig:
    """Return the settings of one run."""
    steps = arguments.steps or CORPORA[corpus].steps
    overrides = [
        *CORPORA[corpus].settings,
        f"model.layers={arguments.layers}",
        f"model.hidden_size={arguments.hidden_size}",
        f"objectives={OBJECTIVES[objective]}",
        "optimizer.learning_rate=2e-3",
        f"optimizer.warmup_steps={max(1, steps // 20)}",
        f"training.steps={steps}",
        f"training.tokens_per_batch={arguments.tokens_per_batch}",
        f"training.evaluate_every={max(1, steps // 10)}",
        f"training.log_every={max(1, steps // 20)}",
        f"training.checkpoint_every={steps}",
        f"training.device={arguments.device}",
        f"training.seed={arguments.seed}",
        *arguments.setting,
    ]
    return configure(domain="text", sources=[str(source)], overrides=overrides)


def measure(
    arguments: argparse.Namespace, corpus: str, objective: str, files: tuple[Path, Path], run: Path
) -> list[Loss]:
    """Train one model and measure it on the held-out file."""
    source, test = files
    config = configuration(arguments, corpus, objective, source)
    watch = Stopwatch()
    train(config, run)
    cpu_minutes = watch.elapsed().cpu_s / 60
    report = evaluate_run(
        run, data=[str(test)], device=arguments.device, backend="auto",
        tokens_per_batch=arguments.tokens_per_batch,
    )  # fmt: skip
    found = Loss(
        corpus=corpus,
        measure="next token" if objective == "clm" else "masked",
        targets=report.scores.targets,
        nats=report.scores.loss,
        bars={name: bar.loss for name, bar in report.bars.items()},
        cpu_minutes=cpu_minutes,
    )
    if objective == "clm":
        return [found]
    return [found, with_neighbours_visible(config, found, files, run)]


def with_neighbours_visible(
    config: RunConfig, masked: Loss, files: tuple[Path, Path], run: Path
) -> Loss:
    """Measure the targets whose neighbours are all visible, and the counts of these neighbours."""
    device = torch.device("cuda" if config.training.device != "cpu" and torch.cuda.is_available()
                          else "cpu")  # fmt: skip
    model = Model.load(run, device=device)
    training, test = (open_store(model.domain, [str(file)]) for file in files)
    max_length = config.data.max_length
    hidden = evaluation_samples(
        model.domain, test, np.flatnonzero(test.lengths), max_length=max_length
    )
    samples = [visible_neighbours(sample) for sample in hidden]
    scores = evaluate_masked(model, samples, tokens_per_batch=config.training.tokens_per_batch)
    assert scores is not None  # nothing stops it
    low, high = model.domain.vocabulary.ranges[model.domain.name]
    known = [
        model.domain.assemble(training[record], max_length=int(training.lengths[record]) + 2)
        for record in np.flatnonzero(training.lengths).tolist()
    ]
    counts = NeighbourCounts(
        [encoding.ids for encoding in known],
        [np.flatnonzero(encoding.unit_ids >= 0).astype(np.int32) for encoding in known],
        width=WIDTH,
        num_tokens=high - low,
    )
    bar = counts.loss(
        [sample.encoding.ids for sample in samples], [sample.positions for sample in samples]
    )
    return dataclasses.replace(
        masked,
        measure="neighbours visible",
        targets=scores.targets,
        nats=scores.loss,
        bars=bars_of(model, training, hidden, samples) | {f"{WIDTH} + {WIDTH} neighbours": bar},
    )


def bars_of(
    model: Model,
    training: TokenStore,
    hidden: Sequence[EvaluationSample],
    chosen: Sequence[EvaluationSample],
) -> dict[str, float]:
    """Return what the bars of every run reach on the chosen ones of some hidden tokens."""
    every = np.flatnonzero(training.lengths)
    bars = fit_training_bars(
        model.domain, training, every, sampling="record", groups=np.arange(len(training))
    )
    is_chosen = np.concatenate(
        [np.isin(of.positions, some.positions) for of, some in zip(hidden, chosen, strict=True)]
    )
    return {
        name: float(result.nats[is_chosen].mean())
        for name, result in score_bars(bars, hidden).items()
    }


def visible_neighbours(sample: EvaluationSample) -> EvaluationSample:
    """Keep the targets of a sample with nothing hidden within :data:`WIDTH` places."""
    hidden: npt.NDArray[np.int64] = np.zeros(len(sample.encoding) + 2 * WIDTH, np.int64)
    hidden[sample.positions + WIDTH] = 1
    near = np.convolve(hidden, np.ones(2 * WIDTH + 1, np.int64), mode="valid")
    keep = near[sample.positions] == 1
    targets = sample.row.targets[EVALUATION]
    kept = Targets(targets.positions[keep], targets.labels[keep], targets.allowed)
    row = dataclasses.replace(sample.row, targets={EVALUATION: kept})
    return EvaluationSample(sample.encoding, sample.positions[keep], row)


def print_losses(losses: Sequence[Loss]) -> None:
    """Print each loss beside its bars."""
    print_table(
        "held-out loss, nats per token",
        ["text", "predicted", "targets", "model", "best bar", "", "margin", "CPU minutes"],
        [
            [
                found.corpus,
                found.measure,
                f"{found.targets:,}",
                f"{found.nats:.3f}",
                f"{found.best_bar[1]:.3f}",
                found.best_bar[0],
                f"{found.best_bar[1] - found.nats:+.3f}",
                f"{found.cpu_minutes:.1f}",
            ]
            for found in losses
        ],
    )
    for found in losses:
        bars = ", ".join(f"{name} {nats:.3f}" for name, nats in found.bars.items())
        print(f"{found.corpus}, {found.measure}: {bars}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wikitext2", type=Path, help="folder with valid.txt and test.txt")
    parser.add_argument("--tinyshakespeare", type=Path, help="folder with input.txt")
    parser.add_argument("--only", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--steps", type=int, help="of training; by text unless given")
    parser.add_argument("--tokens-per-batch", type=int, default=4096, metavar="TOKENS")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--set", dest="setting", action="append", default=[], metavar="KEY=VALUE",
        help="any setting of the runs; repeatable",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.wikitext2 is None and arguments.tinyshakespeare is None:
        parser.error("give --wikitext2, --tinyshakespeare, or both")
    return arguments


def main() -> None:
    """Measure every text and objective, and write the losses beside their bars."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    machine = describe_machine()
    losses: list[Loss] = []
    chosen = [name for name in CORPORA if getattr(arguments, name) is not None]
    for corpus in chosen:
        folder = Path(tempfile.mkdtemp(prefix="seqmlm-text-losses-"))
        try:
            files = files_of(arguments, corpus, folder)
            for objective in arguments.only:
                losses += measure(arguments, corpus, objective, files, folder / objective)
                print(f"{corpus}, {objective}: {losses[-1]}", file=sys.stderr)
        finally:
            shutil.rmtree(folder)
    print_losses(losses)
    settings: dict[str, Any] = {
        key: value.name if isinstance(value, Path) else value
        for key, value in vars(arguments).items()
    }
    write_result(
        NAME, arguments.results,
        machine=machine,
        settings=settings | {"corpora": {name: asdict(CORPORA[name]) for name in chosen}},
        summary={f"{found.corpus}, {found.measure}": found.nats for found in losses},
        rounds=[asdict(found) for found in losses],
    )  # fmt: skip


if __name__ == "__main__":
    main()
