"""Pictures of a run: every loss on an axis that says what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqmlm.training.plots import plot_run


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draw a run and return the panels of its loss."""
    figures: dict[str, Figure] = {}
    save = Figure.savefig

    def saved(figure: Figure, path: Path, **options: Any) -> None:
        figures[path.name] = figure
        save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", saved)

    def draw(
        train: list[Mapping[str, Any]], validation: list[Mapping[str, Any]], loss_label: str
    ) -> list[Axes]:
        lines = [
            {"step": step, "split": split, **values}
            for split, found in (("train", train), ("validation", validation))
            for step, values in enumerate(found, start=1)
        ]
        metrics = tmp_path / "metrics.jsonl"
        metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        bars = {"unigram": 2.9, "bigram": 2.5}
        written = plot_run(metrics, tmp_path, bars=bars, loss_label=loss_label)
        assert [path.name for path in written] == ["loss.png", "learning_rate.png"]
        return figures["loss.png"].axes

    return draw


def labels(axes: Axes) -> list[str]:
    return axes.get_legend_handles_labels()[1]


TOKENS = [{"loss": 3.0, "accuracy": 0.1}, {"loss": None, "accuracy": 0.2}]
VALIDATION = "validation (always the same targets)"


def test_one_objective_stands_beside_its_validation_and_bars(drawn: Any) -> None:
    train = [{"loss": 3.0, "learning_rate": 0.1}, {"loss": None, "learning_rate": 0.1}]
    (panel,) = drawn(train, TOKENS, "loss, nats per token")
    assert panel.get_ylabel() == "loss, nats per token"
    assert labels(panel) == ["training (as corrupted)", VALIDATION, "bar: unigram", "bar: bigram"]


def test_a_weighted_loss_stands_apart_from_the_means_it_adds_up(drawn: Any) -> None:
    train = [
        {"loss": 4.0, "losses": {"clm": 3.0}, "learning_rate": 0.1},
        {"loss": 5.0, "losses": {"clm": 3.0, "sop": None}, "learning_rate": 0.1},
    ]
    above, below = drawn(train, TOKENS, "weighted loss")
    assert (above.get_ylabel(), labels(above)) == ("weighted loss", ["training (as corrupted)"])
    assert below.get_ylabel() == "mean loss, nats per target"
    assert labels(below)[:4] == ["clm", "sop", "solid: training", VALIDATION]


def test_a_weight_alone_keeps_training_apart_from_validation(drawn: Any) -> None:
    above, below = drawn([{"loss": 1.5, "learning_rate": 0.1}], TOKENS, "weighted loss")
    assert labels(above) == ["training (as corrupted)"]
    assert VALIDATION in labels(below)


@pytest.mark.parametrize("kind", ["one panel", "two panels"])
def test_no_legend_lies_on_the_axes(drawn: Any, kind: str) -> None:
    losses = {"losses": {"a": 1.0, "b": 2.0}} if kind == "two panels" else {}
    label = "weighted loss" if losses else "loss, nats per token"
    for panel in drawn([{"loss": 3.0, "learning_rate": 0.1, **losses}], TOKENS, label):
        legend = panel.get_legend()
        assert legend is not None
        assert legend.get_window_extent().y0 >= panel.get_window_extent().y1


def test_the_parts_of_a_mixture_are_drawn_with_the_means_that_they_train_on(drawn: Any) -> None:
    train = [{"loss": 5.0, "losses": {"mlm": 3.0, "clm": 2.0}, "learning_rate": 0.1}] * 2
    own = {"mlm": {"losses": {"mlm": 3.1}}, "clm": {"losses": {"clm": 2.2}}}
    validation = [{"loss": 3.0, "accuracy": 0.1, "objectives": own}] * 2
    above, below = drawn(train, validation, "weighted sum")
    assert labels(above) == ["training (as corrupted)"]
    assert labels(below)[:5] == [
        "mlm", "clm", "solid: training", "dashed: validation, as trained", VALIDATION,
    ]  # fmt: skip
    assert [2.2, 2.2] in [list(line.get_ydata()) for line in below.lines]


def drawn_lines(axes: Axes) -> list[Any]:
    """Those with points; the others only stand in the legend."""
    return [line for line in axes.lines if np.size(line.get_xdata()) > 0]


def test_a_term_has_one_colour_and_no_two_terms_share_it(drawn: Any) -> None:
    names = [f"objective{number}" for number in range(10)]
    train = [{"loss": 5.0, "losses": dict.fromkeys(names, 3.0), "learning_rate": 0.1}] * 2
    own = {name: {"losses": {name: 3.1}} for name in names}
    _, below = drawn(train, [{"loss": 3.0, "accuracy": 0.1, "objectives": own}], "weighted sum")
    lines = drawn_lines(below)
    pairs = list(zip(lines[0:20:2], lines[1:20:2], strict=True))
    assert all(solid.get_color() == dashed.get_color() for solid, dashed in pairs)
    assert {(solid.get_linestyle(), dashed.get_linestyle()) for solid, dashed in pairs} == {
        ("-", "--")
    }
    assert len({solid.get_color() for solid, _ in pairs}) == 10


def test_decisions_stand_in_a_panel_of_their_own(drawn: Any) -> None:
    losses = {"mlm": 6.0, "rtd": 0.6, "rtd.generator": 6.1}
    train = [{"loss": 40.0, "losses": losses, "learning_rate": 0.1}] * 2
    rtd = {"losses": {"rtd": 0.6, "rtd.generator": 6.1}, "decisions": 9, "accuracy": 0.8}
    validation = [{"loss": 6.0, "accuracy": 0.1, "objectives": {"rtd": rtd}}]
    _, tokens, decisions = drawn(train, validation, "weighted sum")
    assert labels(tokens)[:2] == ["mlm", "rtd.generator"]
    assert (decisions.get_ylabel(), labels(decisions)[0]) == ("mean loss, nats per decision", "rtd")
    assert decisions.get_ylim()[1] < 1


def test_the_only_logged_step_of_a_short_run_can_be_seen(drawn: Any) -> None:
    axes = drawn([{"loss": 3.0, "learning_rate": 1e-3}], [], "mean loss")[0]
    training = next(line for line in axes.lines if line.get_label() == "training (as corrupted)")
    assert training.get_marker() == "o"
