"""Pictures are drawn whatever the number of labels; whether they are readable, eyes must say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seqmlm.finetuning import plots

PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def _draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "_can_draw", lambda: True)


@pytest.mark.parametrize("count", [2, 30])
def test_a_confusion_matrix_of_any_size_is_drawn(count: int, tmp_path: Path) -> None:
    table = np.eye(count, dtype=np.int64) * 3
    table[0] = 0  # a label that never occurs
    (path,) = plots.draw_confusion(table, [f"label {i}" for i in range(count)], tmp_path / "a.png")
    assert path.read_bytes().startswith(PNG)


def test_predicted_over_true_values_are_drawn(tmp_path: Path) -> None:
    true = np.array([1.0, 2.0, 4.0])
    (path,) = plots.draw_regression(true, true + 0.1, tmp_path / "a.png")
    assert path.read_bytes().startswith(PNG)


def test_a_learning_curve_is_drawn_although_a_metric_is_missing(tmp_path: Path) -> None:
    lines = [
        {"step": 1, "split": "train", "loss": 1.0, "epoch": 1},
        {"step": 1, "split": "validation", "loss": 1.1, "spearman": None, "epoch": 1},
        {"step": 2, "split": "validation", "loss": 1.0, "spearman": 0.3, "epoch": 2},
    ]
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path,) = plots.draw_learning_curve(
        metrics, tmp_path / "a.png", selection="spearman", best_epoch=2, bars={"bar": 0.1}
    )
    assert path.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("selection", "values", "limits"),
    [
        ("f1", [0.0], (0, 1)),
        ("f1", [0.0, 0.02, 1.0], (0, 1)),
        ("spearman", [-0.2], (-1, 1)),
        ("spearman", [-0.99, 0.99], (-1, 1)),
    ],
    ids=["one epoch", "epochs", "one negative", "correlations"],
)
def test_the_axis_of_a_metric_ends_where_the_metric_does(
    selection: str,
    values: list[float],
    limits: tuple[float, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Failed before: the F1 of a single epoch had an axis from -0.04."""
    found: list[tuple[float, float]] = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig",
        lambda figure, path, **_: found.append(figure.axes[1].get_ylim()),
    )
    metrics = tmp_path / "metrics.jsonl"
    lines = [
        {"step": step, "split": "validation", "loss": 1.0, selection: value, "epoch": step}
        for step, value in enumerate(values, start=1)
    ]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plots.draw_learning_curve(
        metrics, tmp_path / "a.png", selection=selection, best_epoch=1, bars={}
    )
    assert found == [limits]


def test_long_labels_lose_their_middle_unless_two_would_look_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig",
        lambda figure, path, **_: found.extend(
            label.get_text() for label in figure.axes[0].get_yticklabels()
        ),
    )
    labels = ["person", "a" * 10 + "b" * 10, "c" * 9 + "1" + "d" * 9, "c" * 9 + "2" + "d" * 9]
    plots.draw_confusion(np.eye(4, dtype=np.int64), labels, tmp_path / "a.png")
    assert found[:4] == ["person", "a" * 9 + "…" + "b" * 8, *labels[2:]]
