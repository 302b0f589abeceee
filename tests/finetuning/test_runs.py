"""Whole fine-tuning runs: every task learns, leaves what it promises, and can be stopped."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqmlm
from seqmlm.errors import RunFolderError
from seqmlm.finetuning import FineTunedModel, finetune
from seqmlm.finetuning.loop import Best, FineTuningResult
from seqmlm.finetuning.settings import configure_finetuning
from seqmlm.finetuning.workload import default_tokens_per_batch
from seqmlm.training.optimizer import learning_rate
from seqmlm.training.progress import RunStopped
from tests.finetuning import labelled_data as data

TASKS: dict[str, tuple[Callable[[Path], Path], str, tuple[str, ...]]] = {
    "classification": (data.write_intents, "train.csv", ()),
    "tokens": (data.write_entities, "train.conll", ()),
    "qa": (data.write_questions, "train.json", ("data.max_length=48", "task.stride=20")),
    "regression": (data.write_values, "train.csv", ()),
    "pairs": (data.write_pairs, "train.csv", ()),
    "ranking": (data.write_candidates, "train.csv", ("training.tokens_per_batch=512",)),
}


@pytest.fixture(scope="module", params=list(TASKS))
def finished(
    request: pytest.FixtureRequest, text_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, FineTuningResult]:
    """A finished run of each task, and its training file."""
    write, name, overrides = TASKS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    train = write(folder / name)
    config = data.configuration(text_run, request.param, train, *overrides)
    return request.param, train, finetune(config, folder / "run")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_task_learns_what_can_be_learnt(finished: tuple[str, Path, FineTuningResult]) -> None:
    _, _, result = finished
    evaluation = result.evaluations["validation"]
    selection = json.loads((result.folder / "evaluation.json").read_text())["selection"]
    metric = evaluation.metrics[selection]
    assert metric.value > 0.9, evaluation.to_json()
    assert metric.low <= metric.value <= metric.high


def test_the_best_epoch_is_that_of_the_metrics(
    finished: tuple[str, Path, FineTuningResult],
) -> None:
    _, _, result = finished
    lines = read_metrics(result.folder)
    selection = json.loads((result.folder / "evaluation.json").read_text())["selection"]
    scores = [(line[selection], -line["loss"]) for line in lines if line["split"] == "validation"]
    assert len(scores) == 8
    assert result.best_epoch == scores.index(max(scores)) + 1
    assert result.evaluations["validation"].metrics[selection].value == max(scores)[0]
    assert {"step", "split", "loss", "tokens", "seconds"} <= lines[-1].keys()


def test_the_folder_holds_a_model_that_the_package_loads(
    finished: tuple[str, Path, FineTuningResult],
) -> None:
    task, _, result = finished
    model = seqmlm.load(str(result.folder))
    assert list(model.heads) == [task]
    assert json.loads((result.folder / "model" / "task.json").read_text())["name"] == task
    assert not (result.folder / "best").exists()


def test_every_held_out_line_has_a_prediction(finished: tuple[str, Path, FineTuningResult]) -> None:
    task, _, result = finished
    with (result.folder / "predictions-validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    report = json.loads((result.folder / "evaluation.json").read_text())["data"]["validation"]
    lines = {"tokens": 6, "ranking": 4}.get(task, 1)
    assert len(rows) == report["used"] * lines
    column = "score" if task == "ranking" else "prediction"
    assert all(row[column] for row in rows)


def test_a_file_is_predicted_as_in_the_run_and_as_in_python(
    finished: tuple[str, Path, FineTuningResult], tmp_path: Path
) -> None:
    _, train, result = finished
    tuned = FineTunedModel.load(result.folder)
    whole = tuned.predict_file(train, tmp_path / "a.csv", evaluate=True)
    part = tuned.predict_file(train, tmp_path / "b.csv", tokens_per_batch=64)
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == (
        (tmp_path / "b.csv").read_text().splitlines()[0]
    )
    assert whole.evaluation is not None
    assert part.evaluation is None
    assert whole.evaluation.metrics[tuned.task.selection].value > 0.9


ITEMS: dict[str, tuple[list[Any], Callable[[Any], object], list[object]]] = {
    "classification": (["ab xx cd", "yy ab"], lambda found: found.label, ["yes", "no"]),
    "tokens": (["ab xab zab", ["xab", "zab"]], lambda found: list(found.labels),
               [["O", "B-name", "I-name"], ["B-name", "I-name"]]),
    "qa": ([("x?", "ab x cd")], lambda found: (found.text, found.start), [("x", 3)]),
    "regression": (["xxxxxxabab", "abababxbab"], lambda found: found > 103, [True, False]),
    "pairs": ([("ab", "xxx"), ("ab", "yyy")], lambda found: found.label, ["same", "other"]),
    "ranking": ([("a1", ["ab", "xabx", "cd"])], lambda found: found.ranks.index(1), [1]),
}  # fmt: skip


def test_python_gives_an_answer_for_each_item(finished: tuple[str, Path, FineTuningResult]) -> None:
    task, _, result = finished
    items, read, expected = ITEMS[task]
    assert [read(found) for found in FineTunedModel.load(result.folder).predict(items)] == expected


def numbers(folder: Path) -> list[dict[str, object]]:
    return [
        {key: value for key, value in line.items() if key != "seconds"}
        for line in read_metrics(folder)
    ]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("stop_at", [8, 9])
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(
    stop_at: int, text_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within an epoch, and at the end of one, before its evaluation."""
    train = data.write_intents(tmp_path / "train.csv")
    settings = ("training.dropout=0.1", "training.epochs=3", "training.log_every=1")
    config = data.configuration(text_run, "classification", train, *settings)
    finetune(config, tmp_path / "whole")

    def watched(step: int, *arguments: Any, **options: Any) -> float:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return learning_rate(step, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("seqmlm.finetuning.loop.learning_rate", watched)
        with pytest.raises(RunStopped, match=f"after step {stop_at}; its checkpoint") as stopped:
            finetune(config, tmp_path / "parts")
    assert stopped.value.exit_code == 143
    finetune(config, tmp_path / "parts", resume=True)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    with pytest.raises(RunFolderError, match="has finished"):
        finetune(config, tmp_path / "parts", resume=True)


def test_without_validation_the_last_epoch_is_kept(text_run: Path, tmp_path: Path) -> None:
    train = data.write_intents(tmp_path / "train.csv", count=20)
    settings = ("data.validation_fraction=0", "training.epochs=2")
    config = data.configuration(text_run, "classification", train, *settings)
    result = finetune(config, tmp_path / "run")
    assert result.best_epoch == 2
    assert result.evaluations == {}


def collapsed_run(run: Path, folder: Path, directions: int) -> Path:
    """The same model, its token embeddings in few directions, as a short training leaves them."""
    model = seqmlm.load(str(run))
    with torch.no_grad():
        table = model.encoder.token_embedding.weight
        left, values, right = torch.linalg.svd(table, full_matrices=False)
        values[directions:] = 0
        table.copy_(left * values @ right)
    model.save(folder)
    return folder


def test_default_settings_learn_from_embeddings_of_few_directions(
    text_run: Path, tmp_path: Path
) -> None:
    """With a rate of 5e-4 and 1,024 tokens a step, the loss stays near log 2, that of guessing."""
    base = collapsed_run(text_run, tmp_path / "collapsed", directions=2)
    train = data.write_intents(tmp_path / "train.csv", count=400)
    found = {}
    for name, overrides in {
        "defaults": [],
        "before": ["optimizer.learning_rate=5e-4", "training.tokens_per_batch=1024"],
    }.items():
        config = configure_finetuning(
            base, task="classification", data={"train": str(train)},
            overrides=["training.device=cpu", "training.epochs=2", *overrides],
        )  # fmt: skip
        finetune(config, tmp_path / name)
        found[name] = read_metrics(tmp_path / name)[-1]["loss"]
    assert found["defaults"] < 0.45
    assert found["before"] > 0.6


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([16] * 500, 512), ([10, 21] * 50, 496), ([300, 400], 1024), ([5], 160)],
    ids=["32-rows", "of-mean-length", "long-rows", "one-item"],
)
def test_a_batch_holds_32_items_but_at_most_1024_tokens(lengths: list[int], expected: int) -> None:
    assert default_tokens_per_batch(np.array(lengths, np.int64)) == expected


def test_frozen_layers_keep_their_weights(text_run: Path, tmp_path: Path) -> None:
    train = data.write_intents(tmp_path / "train.csv", count=20)
    settings = ("training.frozen_layers=1", "training.epochs=1")
    config = data.configuration(text_run, "classification", train, *settings)
    finetune(config, tmp_path / "run")
    before = seqmlm.load(str(text_run)).state_dict()
    after = seqmlm.load(str(tmp_path / "run")).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("encoder.layers.1.", "encoder.final_norm.")) for name in changed)


def test_from_scratch_keeps_nothing_but_the_architecture(text_run: Path, tmp_path: Path) -> None:
    train = data.write_intents(tmp_path / "train.csv", count=20)
    settings = ("training.epochs=1", "optimizer.learning_rate=1e-9", "training.seed=3")
    embeddings = {}
    for scratch in ("true", "false"):
        config = data.configuration(
            text_run, "classification", train, *settings, f"training.from_scratch={scratch}"
        )
        finetune(config, tmp_path / scratch)
        tuned = seqmlm.load(str(tmp_path / scratch))
        embeddings[scratch] = tuned.encoder.token_embedding.weight
    trained = seqmlm.load(str(text_run)).encoder.token_embedding.weight
    torch.testing.assert_close(embeddings["false"], trained, atol=1e-6, rtol=0)
    assert not torch.allclose(embeddings["true"], trained, atol=1e-2)


def test_residues_of_a_protein_are_labelled_in_windows(protein_run: Path, tmp_path: Path) -> None:
    sequences = ["ACDEFGHIKLMNPQRSTVWY" * 3, "GGGAAAWWW", "WAWGAG"] * 8
    labels = ["".join("H" if residue in "ACDEFG" else "C" for residue in s) for s in sequences]
    rows = [
        {"text": sequence, "labels": states, "family": index // 3}
        for index, (sequence, states) in enumerate(zip(sequences, labels, strict=True))
    ]
    train = data.write_csv(tmp_path / "train.csv", rows)
    settings = ("task.unit=character", "data.max_length=32")
    config = data.configuration(protein_run, "tokens", train, *settings)
    result = finetune(config, tmp_path / "run")
    found = result.evaluations["validation"]
    assert found.metrics["accuracy"].value > 0.95
    assert found.bars["accuracy of the most frequent label"] < 0.9
    (answer,) = FineTunedModel.load(result.folder).predict([sequences[0]])
    assert "".join(answer.labels) == labels[0]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.3, 0.2], 2),
        ([0.3, 0.3], 2),
        ([0.3, 0.3, 0.3], 2),
        ([float("nan"), 0.1], 2),
        ([None, None], 2),
    ],
    ids=["highest", "lower-loss", "first-of-equals", "nan-is-worst", "never-measured"],
)
def test_the_best_epoch_has_the_highest_score_and_of_equals_the_lowest_loss(
    scores: list[float | None], expected: int
) -> None:
    best = Best()
    losses = [1.0, 0.5, 0.5]
    for epoch, score in enumerate(scores, start=1):
        best = best.after(epoch, score, losses[epoch - 1])
    assert best.epoch == expected
    assert best.last_epoch == len(scores)
