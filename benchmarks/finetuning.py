"""Labelled tasks: a pre-trained model, the same from scratch, and what counting words achieves.

banking77 (77 intents; 5, 10, 30 examples of each, and all), wnut17 (entities) and CMRC 2018
(Chinese extractive questions). Nothing is chosen on the test data: few-shot runs keep the last
epoch, the others the best one of a tenth held out (wnut17: of its development file).

CMRC 2018 has no public training file here: each fold trains on the trial file and four fifths of
the articles of the development file, and is judged on the other fifth, whose questions have three
reference answers. Its numbers are therefore not those of the leaderboard.
``benchmarks.finetuning_corpora`` writes text to pre-train on; with it take ``--folds 1``, whose
test articles it leaves out.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import random
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import RESULTS, Stopwatch, describe_machine, print_table, write_result
from benchmarks.shots import FULL, draw_shots
from seqmlm.finetuning import configure_finetuning, finetune

NAME = "finetuning"
EPOCHS = {5: 60, 10: 40, 30: 20, FULL: 10}
"""Few examples need more passes: about the same number of steps (Mosbach et al., 2021)."""

FOLDS = 5
TF_IDF = "TF-IDF + logistic regression"


@dataclass(frozen=True, slots=True)
class Result:
    """One contender on one test set.

    Args:
        task: data set.
        contender: ``pre-trained``, ``from scratch`` or the bar.
        setting: shots or fold.
        seed: of sampling, weights and order.
        metrics: on the test data, in [0, 1].
        cpu_s: CPU seconds of training and predicting.
    """

    task: str
    contender: str
    setting: str
    seed: int
    metrics: dict[str, float]
    cpu_s: float


def read_intents(path: Path) -> list[tuple[str, str]]:
    """Return text and label of each line."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def write_intents(path: Path, intents: Sequence[tuple[str, str]]) -> Path:
    """Write them in the columns that the task expects."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(intents)
    return path


def tune(
    run: Path, folder: Path, task: str, data: dict[str, str], seed: int, overrides: Sequence[str]
) -> dict[str, float]:
    """Perform one run; returns its measures on the test file."""
    config = configure_finetuning(
        run, task=task, data=data, overrides=[*overrides, f"training.seed={seed}"]
    )
    evaluation = finetune(config, folder).evaluations["test"]
    return {name: metric.value for name, metric in evaluation.metrics.items()}


def both(
    arguments: argparse.Namespace, run: Path, folder: Path, task: str, data: dict[str, str],
    seed: int, overrides: Sequence[str],
) -> Iterator[tuple[str, dict[str, float], float]]:  # fmt: skip
    """The pre-trained model and the same architecture from scratch."""
    for contender, scratch in (("pre-trained", "false"), ("from scratch", "true")):
        print(f"{folder.name}: {contender}", file=sys.stderr)
        watch = Stopwatch()
        settings = [*overrides, f"training.from_scratch={scratch}", *arguments.setting]
        metrics = tune(run, folder / contender.replace(" ", "-"), task, data, seed, settings)
        yield contender, metrics, watch.elapsed().cpu_s


def banking77(arguments: argparse.Namespace, folder: Path) -> Iterator[Result]:
    """Accuracy on the official test file."""
    source = arguments.data / "banking77"
    intents, test = read_intents(source / "train.csv"), read_intents(source / "test.csv")
    test_path = write_intents(folder / "test.csv", test)
    for shots in arguments.shots:
        setting = "all" if shots == FULL else str(shots)
        for seed in arguments.seeds:
            drawn = draw_shots([label for _, label in intents], shots=shots, seed=seed)
            chosen = [intents[position] for position in drawn]
            here = folder / f"banking77-{setting}-{seed}"
            here.mkdir()
            train = write_intents(here / "train.csv", chosen)
            overrides = [
                f"training.epochs={arguments.epochs or EPOCHS.get(shots, EPOCHS[5])}",
                f"data.validation_fraction={0.1 if shots == FULL else 0}",
            ]
            data = {"train": str(train), "test": str(test_path)}
            for contender, metrics, cpu_s in both(
                arguments, arguments.english, here, "classification", data, seed, overrides
            ):
                yield Result("banking77", contender, setting, seed, metrics, cpu_s)
            watch = Stopwatch()
            accuracy = tf_idf_accuracy(chosen, test)
            cpu_s = watch.elapsed().cpu_s
            yield Result("banking77", TF_IDF, setting, seed, {"accuracy": accuracy}, cpu_s)


def tf_idf_accuracy(train: Sequence[tuple[str, str]], test: Sequence[tuple[str, str]]) -> float:
    """Return the accuracy of word uni- and bigrams under a linear model; nothing is tuned."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000),
    )
    model.fit([text for text, _ in train], [label for _, label in train])
    return float(model.score([text for text, _ in test], [label for _, label in test]))


def wnut17(arguments: argparse.Namespace, folder: Path) -> Iterator[Result]:
    """F1 of entities on the official test file."""
    source = arguments.data / "wnut17"
    data = {
        "train": str(source / "wnut17train.conll"),
        "validation": str(source / "emerging.dev.conll"),
        "test": str(source / "emerging.test.annotated"),
    }
    for seed in arguments.seeds:
        here = folder / f"wnut17-{seed}"
        here.mkdir()
        overrides = [f"training.epochs={arguments.epochs or EPOCHS[FULL]}"]
        for contender, metrics, cpu_s in both(
            arguments, arguments.english, here, "tokens", data, seed, overrides
        ):
            yield Result("wnut17", contender, "all", seed, metrics, cpu_s)


def cmrc2018_fold(data: Path, fold: int) -> dict[str, list[dict[str, Any]]]:
    """Return the articles of ``train`` and of ``test``; no context is in both."""
    trial, development = (
        json.loads((data / "cmrc2018" / f"cmrc2018_{name}.json").read_text(encoding="utf-8"))[
            "data"
        ]
        for name in ("trial", "dev")
    )
    judged = {context for article in development for context in contexts(article)}
    trial = [article for article in trial if judged.isdisjoint(contexts(article))]
    order = list(range(len(development)))
    random.Random(0).shuffle(order)
    held_out = set(order[fold::FOLDS])
    return {
        "train": trial + [a for i, a in enumerate(development) if i not in held_out],
        "test": [a for i, a in enumerate(development) if i in held_out],
    }


def contexts(article: dict[str, Any]) -> list[str]:
    """Return the texts that an article's questions are about."""
    return [paragraph["context"] for paragraph in article["paragraphs"]]


def cmrc2018(arguments: argparse.Namespace, folder: Path) -> Iterator[Result]:
    """Exact match and F1 by the official rules, on folds of articles."""
    for fold in range(arguments.folds):
        parts = cmrc2018_fold(arguments.data, fold)
        here = folder / f"cmrc2018-{fold}"
        here.mkdir()
        data = {name: str(here / f"{name}.json") for name in parts}
        for name, articles in parts.items():
            content = json.dumps({"data": articles}, ensure_ascii=False)
            Path(data[name]).write_text(content, encoding="utf-8")
        overrides = [
            "task.metric=cmrc2018",
            f"training.epochs={arguments.epochs or EPOCHS[FULL]}",
            "training.tokens_per_batch=4096",
        ]
        seed = arguments.seeds[0]
        for contender, metrics, cpu_s in both(
            arguments, arguments.chinese, here, "qa", data, seed, overrides
        ):
            yield Result("cmrc2018", contender, f"fold {fold + 1}", seed, metrics, cpu_s)


BENCHMARKS = {"banking77": banking77, "wnut17": wnut17, "cmrc2018": cmrc2018}
MAIN_METRIC = {"banking77": "accuracy", "wnut17": "f1", "cmrc2018": "f1"}


def summarise(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the mean, the lowest and the highest of each metric over seeds, or folds."""
    cells: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        setting = "all" if result.task == "cmrc2018" else result.setting
        cells[result.task, setting, result.contender].append(result)
    return [
        {
            "task": task,
            "setting": setting,
            "contender": contender,
            "runs": len(found),
            "cpu_s": statistics.fmean(result.cpu_s for result in found),
            **{
                metric: {
                    "mean": statistics.fmean(values),
                    "lowest": min(values),
                    "highest": max(values),
                }
                for metric in found[0].metrics
                for values in [[result.metrics[metric] for result in found]]
            },
        }
        for (task, setting, contender), found in cells.items()
    ]


def print_summary(summary: Sequence[dict[str, Any]]) -> None:
    """Print a line for each contender."""
    rows = []
    for line in summary:
        metric = MAIN_METRIC[line["task"]]
        found = line[metric]
        rows.append(
            [
                f"{line['task']} {line['setting']}: {line['contender']}",
                metric,
                f"{found['mean']:.3f}",
                f"{found['lowest']:.3f} to {found['highest']:.3f}",
                str(line["runs"]),
                f"{line['cpu_s']:.0f}",
            ]
        )
    header = ("test data", "metric", "mean", "range", "runs", "CPU s")
    print_table("Labelled tasks", header, rows)


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw banking77's accuracy over the examples of each intent, a point a seed."""
    from matplotlib.figure import Figure

    found = [result for result in results if result.task == "banking77"]
    settings = list(dict.fromkeys(result.setting for result in found))
    figure = Figure(figsize=(6.5, 4.2), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    colours = {"pre-trained": "#c44e52", "from scratch": "#4c72b0", TF_IDF: "#555555"}
    for contender, colour in colours.items():
        values = [
            [r.metrics["accuracy"] for r in found if (r.contender, r.setting) == (contender, one)]
            for one in settings
        ]
        means = [statistics.fmean(seeds) for seeds in values]
        axes.plot(settings, means, color=colour, linewidth=1.2, label=contender)
        for setting, seeds in zip(settings, values, strict=True):
            axes.plot([setting] * len(seeds), seeds, "o", color=colour, markersize=3)
    axes.set(xlabel="training examples of each intent", ylabel="test accuracy", ylim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
    print(f"picture: {path}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with banking77, wnut17 and cmrc2018"
    )
    parser.add_argument("--english", type=Path, help="trained run for banking77 and wnut17")
    parser.add_argument("--chinese", type=Path, help="trained run for cmrc2018")
    parser.add_argument("--tasks", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument(
        "--shots", type=int, nargs="+", default=list(EPOCHS), help="of each intent; 0 for all"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, choices=range(1, FOLDS + 1), default=FOLDS)
    parser.add_argument("--epochs", type=int, help="of every run, instead of the usual number")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--set", dest="setting", action="append", default=[], metavar="KEY=VALUE",
        help="any setting of the fine-tuning runs; repeatable",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for JSON and PNG")
    arguments = parser.parse_args()
    needed = {"banking77": "english", "wnut17": "english", "cmrc2018": "chinese"}
    for task in arguments.tasks:
        if getattr(arguments, needed[task]) is None:
            parser.error(f"{task} needs --{needed[task]} RUN")
    return arguments


def main() -> None:
    """Run the chosen benchmarks and write the result."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(arguments.threads)
    machine = describe_machine()
    folder = Path(tempfile.mkdtemp(prefix="seqmlm-finetuning-"))
    try:
        results = [
            result for task in arguments.tasks for result in BENCHMARKS[task](arguments, folder)
        ]
    finally:
        shutil.rmtree(folder)
    summary = summarise(results)
    print_summary(summary)
    written = write_result(
        NAME, arguments.results,
        machine=machine, settings=vars(arguments), summary=summary,
        rounds=[asdict(result) for result in results],
    )  # fmt: skip
    if "banking77" in arguments.tasks:
        draw(results, written.with_suffix(".png"))


if __name__ == "__main__":
    main()
