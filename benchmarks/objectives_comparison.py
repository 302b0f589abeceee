"""Pre-training objectives at equal steps, model, data and optimizer: what each is worth afterwards.

Every contender trains the same model for the same steps on the same records of a text, in the same
order. Then it is measured in three ways:

- the loss on held-out tokens, a uniform 15 % hidden behind the mask token, for those that learn to
  fill in tokens. The encoder of ``rtd`` never sees a mask token and its token head belongs to the
  generator, so it has no such loss; its detection and its generator's loss are told instead;
- accuracy on banking77 (77 intents) after fine-tuning on a few examples of each, or on all;
- F1 of whole entities on the test part of wnut17, after fine-tuning on its training part.

``no pre-training`` fine-tunes the same model from random weights. Rows of ``pmlm`` are longer than
the records, so its steps cost more.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import re
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import RESULTS, Stopwatch, describe_machine, write_result
from benchmarks.shots import FULL, draw_shots
from seqmlm.config import configure
from seqmlm.finetuning import configure_finetuning, finetune
from seqmlm.training.loop import train
from seqmlm.training.result import TrainingResult

NAME = "objectives_comparison"
BASELINE = "no pre-training"
EPOCHS = {5: 30, 10: 20, 30: 10, FULL: 3}
"""Of fine-tuning, by shots of banking77."""
WNUT17_EPOCHS = 5


def masked(selector: str) -> dict[str, Any]:
    """Settings of masked language modelling with one selector."""
    return {"name": "mlm", "policy": {"rate": 0.15, "selector": {"name": selector}}}


CONTENDERS: dict[str, dict[str, Any]] = {
    "token": masked("token"),
    "whole word": masked("unit"),
    "n-gram": masked("ngram"),
    "span": masked("span"),
    "surprisal": masked("scored"),
    "pmlm": {"name": "pmlm"},
    "rtd": {"name": "rtd", "generator_width": 0.5},
}


@dataclass(frozen=True)
class Measured:
    """What one contender reached with one seed.

    Args:
        loss: nats per held-out token; None where the objective predicts none.
        best_bar: nats of the best predictor that only counts, on the same tokens.
        objectives: what objectives without predicted tokens reached.
        banking77: accuracy in [0, 1] by number of shots.
        wnut17: F1 of entities in [0, 1].
        pretraining_cpu_s: CPU seconds of the whole run, evaluations included.
    """

    loss: float | None = None
    best_bar: float | None = None
    objectives: Mapping[str, Any] = field(default_factory=dict)
    banking77: Mapping[int, float] = field(default_factory=dict)
    wnut17: float | None = None
    pretraining_cpu_s: float = 0.0


def pretrain(
    arguments: argparse.Namespace, objective: Mapping[str, Any], seed: int, folder: Path
) -> TrainingResult:
    """Train one contender."""
    overrides = [
        f"model.layers={arguments.layers}",
        f"model.hidden_size={arguments.hidden_size}",
        f"domain.vocabulary_size={arguments.vocabulary_size}",
        "domain.documents=heading",
        'domain.unmaskable_words=["<unk>"]',
        f"data.max_length={arguments.max_length}",
        "data.validation_fraction=0.1",
        "optimizer.learning_rate=2e-3",
        f"optimizer.warmup_steps={max(1, arguments.steps // 10)}",
        f"training.steps={arguments.steps}",
        f"training.tokens_per_batch={arguments.tokens_per_batch}",
        f"training.evaluate_every={arguments.steps}",
        f"training.checkpoint_every={arguments.steps}",
        f"training.log_every={max(1, arguments.steps // 10)}",
        f"training.device={arguments.device}",
        f"training.seed={seed}",
        f"objectives=[{_inline_table(objective)}]",
        *arguments.setting,
    ]
    return train(configure(domain="text", sources=arguments.data, overrides=overrides), folder)


def downstream(
    arguments: argparse.Namespace,
    run: Path,
    folder: Path,
    *,
    task: str,
    data: Mapping[str, Path],
    columns: Mapping[str, str],
    epochs: int,
    seed: int,
    from_scratch: bool,
) -> Mapping[str, float]:
    """Fine-tune a trained run; returns the measures on the test file by name."""
    overrides = [
        f"training.epochs={arguments.epochs or epochs}",
        f"training.from_scratch={str(from_scratch).lower()}",
        f"training.seed={seed}",
        f"training.device={arguments.device}",
        "data.validation_fraction=0.0",
    ]
    config = configure_finetuning(
        run,
        task=task,
        data={name: str(path) for name, path in data.items()},
        columns=columns,
        overrides=overrides,
    )
    found = finetune(config, folder).evaluations["test"]
    shutil.rmtree(folder)
    return {name: metric.value for name, metric in found.metrics.items()}


def write_shots(source: Path, target: Path, *, shots: int, seed: int) -> Path:
    """Write so many examples of each class, or all of them, to a new file."""
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = draw_shots([row["category"] for row in rows], shots=shots, seed=seed)
    _write_csv(target, [rows[position] for position in drawn])
    return target


def first_rows(source: Path, target: Path, *, number: int) -> Path:
    """Write some rows of a table, drawn once for all, to a new file; all if ``number`` is 0."""
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if number:
        order = np.random.default_rng(0).permutation(len(rows))[:number]
        rows = [rows[position] for position in order.tolist()]
    _write_csv(target, rows)
    return target


def first_sentences(source: Path, target: Path, *, number: int) -> Path:
    """Write the first sentences of a CoNLL file to a new one; all if ``number`` is 0."""
    # Lines between sentences may hold a tab.
    sentences = [part for part in re.split(r"\n\s*\n", source.read_text()) if part.strip()]
    target.write_text("\n\n".join(sentences[: number or None]) + "\n")
    return target


def measure(
    arguments: argparse.Namespace, name: str, seed: int, run: Path, folder: Path
) -> Measured:
    """Pre-train one contender, unless it is the baseline, and fine-tune it on everything.

    Args:
        arguments: of the command line.
        name: of the contender.
        seed: of all that is drawn.
        run: where the trained run is to be, or, for the baseline, one of the same shape.
        folder: for everything else.
    """
    measured = Measured()
    if name != BASELINE:
        watch = Stopwatch()
        result = pretrain(arguments, CONTENDERS[name], seed, run)
        report = result.report
        measured = Measured(
            loss=None if report is None else report.scores.loss,
            best_bar=None if report is None else report.best_bar[1],
            objectives={key: each.to_json() for key, each in result.objectives.items()},
            pretraining_cpu_s=watch.elapsed().cpu_s,
        )
    accuracies, f1 = {}, None
    if arguments.banking77 is not None:
        test = first_rows(
            arguments.banking77 / "test.csv", folder / "test.csv", number=arguments.test_examples
        )
        for shots in arguments.shots:
            data = write_shots(
                arguments.banking77 / "train.csv", folder / "train.csv", shots=shots, seed=seed
            )
            accuracies[shots] = downstream(
                arguments, run, folder / "finetuned", task="classification",
                data={"train": data, "test": test}, columns={"label": "category"},
                epochs=EPOCHS.get(shots, EPOCHS[FULL]),
                seed=seed, from_scratch=name == BASELINE,
            )["accuracy"]  # fmt: skip
    if arguments.wnut17 is not None:
        parts = {"train": "wnut17train.conll", "test": "emerging.test.annotated"}
        files = {
            part: first_sentences(
                arguments.wnut17 / file, folder / f"{part}.conll", number=arguments.sentences
            )
            for part, file in parts.items()
        }
        f1 = downstream(
            arguments, run, folder / "finetuned", task="tokens",
            data=files, columns={}, epochs=WNUT17_EPOCHS,
            seed=seed, from_scratch=name == BASELINE,
        )["f1"]  # fmt: skip
    return Measured(**{**_fields(measured), "banking77": accuracies, "wnut17": f1})


def summarise(
    measured: Mapping[str, Sequence[Measured]], shots: Sequence[int]
) -> dict[str, dict[str, list[float] | None]]:
    """Return mean and standard deviation over the seeds, by contender and measure."""
    summary = {}
    for name, runs in measured.items():
        columns: dict[str, list[float | None]] = {"uniform-mask loss": [run.loss for run in runs]}
        for number in shots:
            columns[shots_label(number)] = [run.banking77.get(number) for run in runs]
        columns["wnut17 F1"] = [run.wnut17 for run in runs]
        if any(run.objectives for run in runs):
            found = [run.objectives["rtd"] for run in runs]
            columns["generator's loss"] = [each["losses"]["rtd.generator"] for each in found]
            columns["detection AUC"] = [each["auc"] for each in found]
            columns["detection accuracy"] = [each["accuracy"] for each in found]
            columns["detection majority"] = [each["majority"] for each in found]
        columns["CPU s"] = [run.pretraining_cpu_s for run in runs]
        summary[name] = {column: _spread(values) for column, values in columns.items()}
    return summary


def shots_label(shots: int) -> str:
    """Name of a column of banking77."""
    return "banking77, all" if shots == FULL else f"banking77, {shots} shots"


def markdown(summary: Mapping[str, Mapping[str, list[float] | None]], bar: float | None) -> str:
    """Return the table; values are mean ± standard deviation over the seeds."""
    columns = [column for column in next(iter(summary.values())) if column != "CPU s"]
    lines = [
        f"| objective | {' | '.join(columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    for name, found in summary.items():
        cells = [_cell(found[column]) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if bar is not None:
        lines.append(f"\nBest bar of counting on the same hidden tokens: {bar:.3f} nats.")
    for name, found in summary.items():
        if "detection AUC" in found:
            told = ", ".join(
                f"{key} {_cell(found[key])}" for key in found if key not in (*columns, "CPU s")
            )
            lines.append(f"\n{name}: {told}.")
    return "\n".join(lines)


def draw(
    summary: Mapping[str, Mapping[str, list[float] | None]], shots: Sequence[int], path: Path
) -> None:
    """Draw a panel for each measure; the bars are standard deviations over the seeds."""
    from matplotlib.figure import Figure

    columns = ["uniform-mask loss", *map(shots_label, shots), "wnut17 F1"]
    columns = [column for column in columns if any(found[column] for found in summary.values())]
    figure = Figure(figsize=(3.2 * len(columns), 3.6), dpi=120)
    names = list(summary)[::-1]
    for number, column in enumerate(columns, start=1):
        axes = figure.add_subplot(1, len(columns), number)
        for height, name in enumerate(names):
            found = summary[name][column]
            if found is not None:
                axes.errorbar(
                    found[0], height, xerr=found[1], fmt="o", capsize=3,
                    color="#555555" if name == BASELINE else "#4c72b0",
                )  # fmt: skip
        axes.set(title=column, ylim=(-0.5, len(names) - 0.5))
        axes.set_yticks(range(len(names)), names if number == 1 else [""] * len(names))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(path)
    print(f"picture: {path}")


def _inline_table(value: Any) -> str:
    """A value in TOML on one line."""
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{key} = {_inline_table(each)}" for key, each in value.items()) + "}"
        )
    return json.dumps(value)


def _write_csv(target: Path, rows: Sequence[Mapping[str, str]]) -> None:
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _fields(measured: Measured) -> dict[str, Any]:
    return {name: getattr(measured, name) for name in measured.__dataclass_fields__}


def _spread(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return [statistics.mean(known), statistics.stdev(known) if len(known) > 1 else 0.0]


def _cell(found: Sequence[float] | None) -> str:
    return "—" if found is None else f"{found[0]:.3f} ± {found[1]:.3f}"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, help="text such as wikitext2")
    parser.add_argument("--banking77", type=Path, help="folder with train.csv and test.csv")
    parser.add_argument("--wnut17", type=Path, help="folder with the CoNLL files")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="of the objectives")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000, help="of pre-training")
    parser.add_argument("--tokens-per-batch", type=int, default=4096, metavar="TOKENS")
    parser.add_argument("--max-length", type=int, default=128, metavar="TOKENS")
    parser.add_argument("--vocabulary-size", type=int, default=4000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument(
        "--shots", type=int, nargs="+", default=[5, 10, 30, FULL], help="of banking77; 0 is all"
    )
    parser.add_argument("--epochs", type=int, help="of fine-tuning; by shots unless given")
    parser.add_argument("--test-examples", type=int, default=0, help="of banking77; 0 is all")
    parser.add_argument("--sentences", type=int, default=0, help="of each part of wnut17; 0 is all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--set", dest="setting", action="append", default=[], metavar="KEY=VALUE",
        help="any setting of pre-training; repeatable",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    return parser.parse_args()


def main() -> None:
    """Measure all contenders with all seeds, and write table, JSON and picture."""
    arguments = parse_arguments()
    logging.basicConfig()
    logging.getLogger().handlers[0].setLevel(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    machine = describe_machine()
    measured: dict[str, list[Measured]] = defaultdict(list)
    for seed in arguments.seeds:
        folder = Path(tempfile.mkdtemp(prefix="seqmlm-objectives-"))
        try:
            for name in [*(arguments.only or CONTENDERS), BASELINE]:
                # The baseline takes tokenizer and shape from the last run, and no weight.
                run = folder / "run"
                if name != BASELINE and run.exists():
                    shutil.rmtree(run)
                measured[name].append(measure(arguments, name, seed, run, folder))
                print(f"seed {seed}, {name}: {asdict(measured[name][-1])}", file=sys.stderr)
        finally:
            shutil.rmtree(folder)
    summary = summarise(measured, arguments.shots)
    bars = [run.best_bar for runs in measured.values() for run in runs if run.best_bar is not None]
    table = markdown(summary, statistics.mean(bars) if bars else None)
    print(table)
    settings = vars(arguments) | {
        "data": [Path(source).name for source in arguments.data],
        "contenders": CONTENDERS,
        "epochs": arguments.epochs or {"banking77": EPOCHS, "wnut17": WNUT17_EPOCHS},
    }
    written = write_result(
        NAME, arguments.results,
        machine=machine, settings=settings, summary=summary,
        rounds={name: [asdict(run) for run in runs] for name, runs in measured.items()},
    )  # fmt: skip
    written.with_suffix(".md").write_text(table + "\n")
    draw(summary, arguments.shots, written.with_suffix(".png"))


if __name__ == "__main__":
    main()
