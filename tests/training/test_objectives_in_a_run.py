"""Schedules, causal evaluation and realised rates, through the trainer."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmlm.config import RunConfig, validate
from seqmlm.data.packing import PackedBatch
from seqmlm.data.samples import EVALUATION, continuation_samples, evaluation_samples
from seqmlm.errors import ConfigError, TrainingError
from seqmlm.evaluation.own_losses import measured_in_own_form
from seqmlm.evaluation.run import evaluate_run
from seqmlm.registry import DOMAINS
from seqmlm.training.distributed import processes
from seqmlm.training.loop import train
from seqmlm.training.rehearsal import rehearse
from seqmlm.training.step import LossModule
from seqmlm.training.workload import Workload, prepare_workload

PLUGINS = Path(__file__).parents[1] / "plugins"
ALL_HIDDEN = {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0}

Configure = Callable[..., RunConfig]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Make a small run on melodies: scales from random notes upwards."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    starts = np.random.default_rng(0).integers(7, size=60).tolist()
    melodies = tmp_path / "melodies.txt"
    melodies.write_text("".join(("CDEFGAB" * 3)[s : s + 9 + s] + "\n" for s in starts))

    def build(objectives: list[dict[str, Any]], **sections: dict[str, Any]) -> RunConfig:
        training = {"steps": 8, "tokens_per_batch": 200, "log_every": 1, "device": "cpu"}
        settings = {
            "domain": {"name": "music"},
            "data": {
                "sources": [str(melodies)],
                "split": "random",
                "validation_fraction": 0.2,
            },
            "model": {"layers": 1, "hidden_size": 16, "heads": 2},
            "objectives": objectives,
            **sections,
            "training": training | sections.get("training", {}),
        }
        return validate(settings)

    return build


def some_batches(work: Workload, number: int, **start: int) -> list[PackedBatch]:
    made = work.batches(**start)
    found = [batch.micro_batches[0] for batch in islice(made, number)]
    made.close()
    return found


def lines_of(folder: Path, split: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["split"] == split]


RESUMED = {
    "alternating": {"schedule": {"kind": "alternate", "blocks": "1clm,2mlm"}},
    "mixed": {"schedule": {"kind": "mixture", "shares": {"clm": 1, "mlm": 3}}},
    "together": {},
}


@pytest.mark.parametrize("sections", RESUMED.values(), ids=RESUMED)
def test_batches_after_a_resume_in_mid_block_are_those_of_an_unbroken_run(
    configure: Configure, sections: dict[str, Any]
) -> None:
    """With a rate that falls over the run: nothing but the counters of the run is needed."""
    policy = {"rate": {"start": 0.9, "end": 0.1}, "selector": {"name": "scored"}}
    objectives = [{"name": "clm"}, {"name": "mlm", "policy": policy}]
    config = configure(objectives, **sections, training={"steps": 20})
    with processes("cpu") as group:
        unbroken = prepare_workload(config, group)
        made = unbroken.batches(epoch=0, batch=0, step=0)
        all_batches = list(islice(made, 14))
        made.close()
        for done in (5, 9):
            last = all_batches[done - 1]
            resumed = some_batches(
                prepare_workload(config, group),
                14 - done,
                epoch=last.epoch,
                batch=last.number,
                step=done,
            )
            for found, expected in zip(resumed, all_batches[done:], strict=True):
                assert torch.equal(found.ids, expected.micro_batches[0].ids)
                assert found.targets.keys() == expected.micro_batches[0].targets.keys()


def test_the_rate_falls_over_the_run_and_what_was_hidden_is_recorded(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = {"rate": {"start": 0.8, "end": 0.2}, "corruptor": ALL_HIDDEN}
    config = configure([{"name": "mlm", "policy": policy}])
    with caplog.at_level(logging.INFO, "seqmlm"):
        train(config, tmp_path / "run")
    *_, last = lines_of(tmp_path / "run", "train")
    counts = last["masking"]["mlm"]
    assert counts["selected"] / counts["maskable"] == pytest.approx(0.5, abs=0.05)
    assert counts["selected"] == counts["masked"] == counts["predicted"]
    assert counts["replaced"] == counts["kept"] == 0
    assert f"mlm: {counts['selected'] / counts['maskable']:.2%} of" in caplog.text


def test_the_lengths_of_ngrams_are_recorded_and_printed(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configure(
        [{"name": "mlm", "policy": {"selector": {"name": "ngram", "p": [0.5, 0.5]}}}]
    )
    with caplog.at_level(logging.INFO, "seqmlm"):
        train(config, tmp_path / "run")
    *_, last = lines_of(tmp_path / "run", "train")
    counts = last["masking"]["mlm"]
    runs = np.array(counts["runs"])
    assert runs @ np.arange(1, 11) == counts["units_in_runs"] > 0
    assert not runs[4:].any()
    assert f"runs by units 1: {runs[0] / runs.sum():.1%}, 2:" in caplog.text


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"rate": 1e-9}, "objective mlm: nothing to predict in 100.0% of"),
        ({"rate": 0.15}, None),
    ],
    ids=["nothing", "15 %"],
)
def test_a_run_that_trains_on_nothing_says_so_early_and_at_the_end(
    configure: Configure,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    policy: dict[str, Any],
    message: str | None,
) -> None:
    config = configure([{"name": "mlm", "policy": policy}], training={"log_every": 2})
    with caplog.at_level(logging.INFO, "seqmlm"):
        train(config, tmp_path / "run")
    warnings = [r.getMessage() for r in caplog.records if "nothing to predict" in r.getMessage()]
    if message is None:
        assert not warnings
    else:
        assert len(warnings) == 2
        assert all(message in warning for warning in warnings)


def test_a_causal_run_is_evaluated_by_its_causal_loss(configure: Configure, tmp_path: Path) -> None:
    config = configure(
        [{"name": "clm"}],
        optimizer={"learning_rate": 2e-2, "warmup_steps": 5},
        training={"steps": 80},
    )
    folder = tmp_path / "run"
    report = train(config, folder).report
    assert report is not None
    assert list(report.bars) == ["unigram", "bigram"]
    assert report.to_json()["predicted"] == "left_to_right"
    # Every note but the first follows from the one before it, also for a bigram.
    assert report.bars["bigram"].loss < 0.5 * report.bars["unigram"].loss
    assert report.scores.loss < 0.7 * report.bars["unigram"].loss
    assert (
        report.scores.targets
        == sum(len(sample.positions) for sample in _samples(config))
        == sum(len(sample.encoding) - 2 for sample in _samples(config))
    )
    again = evaluate_run(folder, data=[], device="cpu", backend="auto", tokens_per_batch=500)
    assert again.scores.loss == pytest.approx(report.scores.loss)
    assert again.direction == "left_to_right"
    assert "masking" not in lines_of(folder, "train")[-1]


def _samples(config: RunConfig) -> list[Any]:
    with processes("cpu") as group:
        return prepare_workload(config, group).samples


def test_one_objective_that_fills_masks_keeps_the_masked_evaluation(configure: Configure) -> None:
    config = configure([{"name": "clm", "direction": "right_to_left"}, {"name": "prefix_lm"}])
    with processes("cpu") as group:
        assert prepare_workload(config, group).direction == "right_to_left"
        mixed = configure([{"name": "clm"}, {"name": "pmlm"}])
        assert prepare_workload(mixed, group).direction is None


def test_the_mixture_of_unilm_trains_from_its_configuration(
    configure: Configure, tmp_path: Path
) -> None:
    """A third bidirectional, a third sequence-to-sequence, a sixth in each direction."""
    config = configure(
        [
            {"name": "mlm"},
            {"name": "prefix_lm"},
            {"name": "clm"},
            {"name": "clm", "label": "reverse", "direction": "right_to_left"},
        ],
        schedule={"kind": "mixture", "shares": {"mlm": 2, "prefix_lm": 2, "clm": 1, "reverse": 1}},
    )
    with processes("cpu") as group:
        work = prepare_workload(config, group)
        np.testing.assert_allclose(work.stepper.weights, [1 / 3, 1 / 3, 1 / 6, 1 / 6])
        batches = some_batches(work, 6, epoch=0, batch=0, step=0)
    assert {name for batch in batches for name in batch.targets} == {
        "mlm", "prefix_lm", "clm", "reverse",
    }  # fmt: skip
    train(config, tmp_path / "run")
    losses = [line["loss"] for line in lines_of(tmp_path / "run", "train")]
    assert np.isfinite(losses).all()


def test_every_part_of_a_mixture_is_measured_under_its_own_name(
    configure: Configure, tmp_path: Path
) -> None:
    """Causal parts beside counts on the same tokens; the same numbers from the finished run."""
    reverse = {"name": "clm", "label": "reverse", "direction": "right_to_left"}
    parts = [{"name": "mlm"}, {"name": "prefix_lm"}, {"name": "pmlm"}, {"name": "clm"}, reverse]
    folder = tmp_path / "run"
    result = train(configure(parts, training={"evaluate_every": 4}), folder)
    assert result.report is not None
    assert result.report.direction is None, "the loss of the run is still that of hidden tokens"
    names = ["mlm", "prefix_lm", "pmlm", "clm", "reverse"]
    lines = [line["objectives"] for line in lines_of(folder, "validation")]
    assert [list(line) for line in lines] == [names, names]
    recorded = json.loads((folder / "evaluation.json").read_text())["objectives"]
    assert lines[-1] == recorded
    for name in names:
        assert recorded[name]["losses"] == {name: recorded[name]["loss"]}
        is_causal = name in ("prefix_lm", "clm", "reverse")
        assert list(recorded[name].get("bars", {})) == (["unigram", "bigram"] if is_causal else [])
    again = evaluate_run(folder, data=[], device="cpu", backend="auto", tokens_per_batch=77)
    found = again.to_json()["objectives"]
    assert list(found) == names
    for name in names:
        assert found[name]["loss"] == pytest.approx(recorded[name]["loss"], rel=1e-5)
        assert found[name].get("bars") == recorded[name].get("bars")


def test_the_causal_part_of_a_mixture_is_measured_on_the_tokens_of_a_causal_run(
    configure: Configure,
) -> None:
    config = configure([{"name": "clm"}], training={"seed": 7})
    with processes("cpu") as group:
        work = prepare_workload(config, group)
    (objective,) = work.stepper.objectives
    own = continuation_samples(
        work.domain, work.store, work.split.validation, objective, max_length=20
    )
    common = evaluation_samples(
        work.domain, work.store, work.split.validation, max_length=20, direction="left_to_right"
    )
    assert len(own) == len(common) > 5
    for found, expected in zip(own, common, strict=True):
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(
            found.row.targets[EVALUATION].positions, expected.row.targets[EVALUATION].positions
        )
        np.testing.assert_array_equal(found.row.ids, expected.row.ids)


def test_where_a_held_out_response_begins_is_the_same_for_every_seed(configure: Configure) -> None:
    starts = []
    for seed in (0, 5):
        config = configure([{"name": "prefix_lm"}], training={"seed": seed})
        with processes("cpu") as group:
            work = prepare_workload(config, group)
        records = np.arange(20)
        samples = continuation_samples(
            work.domain, work.store, records, work.stepper.objectives[0], max_length=40
        )
        starts.append([int(sample.positions[0]) for sample in samples])
    assert starts[0] == starts[1]
    assert len(set(starts[0])) > 3, "drawn anew for every record"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mlm"], []),
        (["clm"], []),
        (["pmlm"], ["pmlm"]),
        (["prefix_lm"], ["prefix_lm"]),
        (["clm", "mlm"], ["clm", "mlm"]),
        (["rtd"], ["rtd"]),
        (["mlm", "rtd"], ["rtd"]),
    ],
    ids=" ".join,
)
def test_objectives_that_the_common_evaluation_covers_are_not_measured_twice(
    configure: Configure, names: list[str], expected: list[str]
) -> None:
    config = configure([{"name": name} for name in names])
    with processes("cpu") as group:
        objectives = prepare_workload(config, group).stepper.objectives
    assert [each.name for each in measured_in_own_form(objectives)] == expected


def test_two_objectives_of_one_name_need_labels(configure: Configure) -> None:
    config = configure([{"name": "clm"}, {"name": "clm", "direction": "right_to_left"}])
    with processes("cpu") as group, pytest.raises(ConfigError, match="label of its own"):
        prepare_workload(config, group)


@pytest.mark.parametrize("name", ["pmlm", "prefix_lm"])
def test_other_objectives_train(configure: Configure, tmp_path: Path, name: str) -> None:
    train(configure([{"name": name}], training={"steps": 3}), tmp_path / "run")
    assert len(lines_of(tmp_path / "run", "train")) == 3


def test_the_mean_loss_of_each_objective_is_recorded(configure: Configure, tmp_path: Path) -> None:
    config = configure([{"name": "clm", "weight": 2.0}, {"name": "mlm"}])
    train(config, tmp_path / "run")
    for line in lines_of(tmp_path / "run", "train"):
        losses = line["losses"]
        assert line["loss"] == pytest.approx(2 * losses["clm"] + losses["mlm"])


def test_a_run_of_one_objective_records_one_loss(configure: Configure, tmp_path: Path) -> None:
    train(configure([{"name": "mlm"}]), tmp_path / "run")
    assert all("losses" not in line for line in lines_of(tmp_path / "run", "train"))


@pytest.mark.parametrize(("pair", "is_idle"), [("A\tB", True), ("C\tD", False)])
def test_a_rehearsal_says_when_an_objective_has_nothing_to_predict(
    configure: Configure, tmp_path: Path, pair: str, is_idle: bool
) -> None:
    melodies, lexicon = tmp_path / "low.txt", tmp_path / "lexicon.tsv"
    melodies.write_text("CDEFG\n" * 40)
    lexicon.write_text(f"{pair}\n")
    data = {"sources": [str(melodies)], "split": "random", "validation_fraction": 0.2}
    policy = {
        "selector": {"name": "unit"},
        "corruptor": {"name": "counterfactual", "lexicon": str(lexicon)},
    }
    found = rehearse(configure([{"name": "mlm", "policy": policy}], data=data))
    assert ("untrained loss: mlm has no target" in found) == is_idle
    assert any("mlm, in the first batch: nothing to predict in 100" in x for x in found) == is_idle


def test_a_rehearsal_does_not_end_well_with_a_loss_that_is_not_finite(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        LossModule, "forward", lambda self, batch: torch.tensor([math.nan], requires_grad=False)
    )
    with pytest.raises(TrainingError, match="mlm of the untrained model is nan"):
        rehearse(configure([{"name": "mlm"}]))


@pytest.mark.parametrize(("steps", "is_idle"), [(5, True), (400, False)])
def test_an_objective_that_is_never_reached_is_named_before_training(
    configure: Configure, steps: int, is_idle: bool
) -> None:
    schedule = {"kind": "alternate", "blocks": "9clm,1mlm"}
    config = configure(
        [{"name": "clm"}, {"name": "mlm"}], schedule=schedule, training={"steps": steps}
    )
    found = [line for line in rehearse(config) if "mlm will never be trained" in line]
    assert bool(found) == is_idle
    if found:
        assert "training.steps = 5 ends in epoch 2, at about 4" in found[0]


@pytest.mark.parametrize("segments", [0, 1, 2, 3])
def test_a_table_of_too_few_segments_is_refused(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, segments: int
) -> None:
    model = {"layers": 1, "hidden_size": 16, "heads": 2, "segments": segments}
    config = configure([{"name": "mlm"}], model=model)
    monkeypatch.setattr(DOMAINS.load("music"), "num_segments", 3)
    with processes("cpu") as group:
        if segments != 2:
            assert prepare_workload(config, group).model.encoder.config.segments == segments
            return
        with pytest.raises(ConfigError, match=r"segments = 2, but domain 'music' numbers 3"):
            prepare_workload(config, group)


def test_a_pair_objective_is_refused_where_records_cannot_be_parted(
    configure: Configure,
) -> None:
    with pytest.raises(
        ConfigError, match=r"objective 'sop' does not fit domain 'music': .* no segments"
    ):
        rehearse(configure([{"name": "sop"}]))


def test_an_objective_and_a_selector_of_ones_own_train_under_their_names(
    configure: Configure, tmp_path: Path
) -> None:
    policy = {"rate": 0.25, "selector": {"name": "seqmlm_even:EvenSelector"}}
    own = {"name": "seqmlm_even:EvenMaskedModelling", "exponent": 0.5, "policy": policy}
    train(configure([own, {"name": "mlm"}]), output=tmp_path / "run")
    for line in lines_of(tmp_path / "run", "train"):
        assert line["losses"].keys() == {"even_mlm", "mlm"}
    config = configure([own | {"label": "mine"}])
    assert any("mine" in line for line in rehearse(config))
