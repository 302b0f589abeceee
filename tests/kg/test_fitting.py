"""A predictor from a folder, from triples and from a graph of networkx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqmlm.errors import ConfigError, DataError
from seqmlm.training.progress import RunStopped
from seqmlm_domains.kg import LinkPredictor, NameAndDescription, to_networkx
from seqmlm_domains.kg.default_settings import SAMPLES
from tests.kg.conftest import SETTINGS, TRAIN, VALIDATION


def test_a_graph_of_one_triple_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty list of validation triples let the trainer hold some out."""
    monkeypatch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
    predictor = LinkPredictor.fit(
        [("a", "r", "a")],
        validation=[],
        settings=SETTINGS | {"training.steps": 2},
        output=tmp_path / "run",
    )
    (only,) = predictor.predict_tails("a", "r")
    assert (only.entity, only.probability) == ("a", 1.0)
    assert predictor.predict_tails("a", "r", filtered=True) == []
    assert predictor.calibration.error is None
    loaded = LinkPredictor.load(tmp_path / "run")
    assert loaded.predict_tails("a", "r") == [only]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([("a", "r")], r"train: triple 1: \('a', 'r'\)"),
        ([("a", "r", "b"), ("a", "r", 3)], "train: triple 2: .* must be strings"),
        ([("a", "r", "b\tc")], "train: triple 1: .* holds a tab or line break"),
        ([("a", "", "b")], r"train: triple 1: \('a', '', 'b'\) has an empty field"),
        ([], "train: there is no triple"),
    ],
    ids=["two", "number", "tab", "empty field", "none"],
)
def test_triples_that_are_none_are_refused(train: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LinkPredictor.fit(train, settings=SETTINGS)


def test_a_folder_and_triples_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="files bring their validation triples"):
        LinkPredictor.fit(tmp_path, validation=VALIDATION)


def test_a_graph_of_networkx_is_taken_with_its_texts_and_lonely_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
    graph = to_networkx(TRAIN, entity_texts={"oslo": NameAndDescription("Oslo by")})
    graph.add_node("lonely")
    settings = SETTINGS | {"training.steps": 2}
    predictor = LinkPredictor.fit(graph, validation=VALIDATION, settings=settings)
    assert predictor.entities[-1] == "lonely"
    names = {found.entity: found.name for found in predictor.predict_heads("lies_in", "norway")}
    assert names["oslo"] == "Oslo by"


@pytest.mark.parametrize("source", ["memory", "temporary folder"])
def test_a_stopped_run_that_leaves_nothing_does_not_say_how_to_resume_it(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise RunStopped(143, "stopped by a signal. Go on with: seqmlm train --resume")

    monkeypatch.setattr("seqmlm_domains.kg.fitting.train_run", stop)
    train = TRAIN if source == "memory" else SAMPLES / "nations"
    with pytest.raises(RunStopped, match="cannot be resumed") as caught:
        LinkPredictor.fit(train, settings=SETTINGS)
    assert caught.value.exit_code == 143
    assert "--resume" not in str(caught.value)


def test_the_report_of_triples_from_memory_names_them_and_no_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It named lines of a file that was deleted by then."""
    monkeypatch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
    settings = SETTINGS | {"training.steps": 1}
    LinkPredictor.fit([*TRAIN, TRAIN[0]], validation=[], settings=settings)
    assert f"duplicate triple: 1 (first: train: triple {len(TRAIN) + 1})" in caplog.text
    assert "header" not in caplog.text
