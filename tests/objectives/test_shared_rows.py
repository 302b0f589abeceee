"""BERT, ALBERT and MacBERT: the label of a pair and hidden tokens in one row."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmlm.config import RunConfig, merge, read_config_file, validate
from seqmlm.data.packing import PackedBatch
from seqmlm.errors import ConfigError
from seqmlm.training.distributed import processes
from seqmlm.training.loop import train
from seqmlm.training.workload import Workload, prepare_workload

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = ["bert", "albert", "macbert"]

Configure = Callable[..., RunConfig]


@pytest.fixture
def stories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every line is a story of one animal, told from the first day to the fifth."""
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    chooser = random.Random(0)
    days = ["first", "second", "third", "fourth", "fifth"]
    path = tmp_path / "stories.txt"
    with path.open("w") as file:
        for _ in range(150):
            animal = chooser.choice(["dog", "cat", "cow", "pig", "hen", "fox", "owl", "bee"])
            does = chooser.choices(["slept", "ate", "ran", "sang", "dug", "swam"], k=len(days))
            told = (
                f"On the {day} day the {animal} {did}." for day, did in zip(days, does, strict=True)
            )
            file.write(" ".join(told) + "\n")
        file.write("A single sentence.\n")
    return path


@pytest.fixture
def configure(stories: Path) -> Configure:
    def build(name: str, **sections: dict[str, Any]) -> RunConfig:
        settings = read_config_file(CONFIGS / "tiny" / f"{name}.toml")
        settings["data"]["sources"] = [str(stories)]
        return validate(merge(settings, sections))

    return build


def batches_of(work: Workload, number: int, **start: int) -> list[PackedBatch]:
    made = work.batches(**start)
    found = [batch.micro_batches[0] for batch in islice(made, number)]
    made.close()
    return found


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_named_configurations_are_complete_but_for_the_data(path: Path) -> None:
    assert validate(merge(read_config_file(path), {"data": {"sources": ["x"]}}))


@pytest.mark.parametrize("name", TINY)
def test_label_and_hidden_tokens_are_in_one_row(configure: Configure, name: str) -> None:
    pair_name = {"bert": "nsp"}.get(name, "sop")
    with processes("cpu") as group:
        work = prepare_workload(configure(name), group)
        (batch,) = batches_of(work, 1, epoch=0, batch=0, step=0)
    starts = batch.cu_seqlens[:-1].long()
    pairs, hidden = batch.targets_for(pair_name), batch.targets_for("mlm")
    assert batch.num_rows == len(batch_records(work))
    assert set(pairs.rows.tolist()) <= set(starts.tolist())
    is_pair = torch.isin(starts, pairs.rows)
    for row, ids in enumerate(torch.split(batch.ids, batch.cu_seqlens.diff().tolist())):
        special = work.domain.vocabulary.special
        assert ids[0] == special.start
        assert int((ids == special.end).sum()) == 1 + int(is_pair[row])
    assert hidden.masking is not None
    assert hidden.masking.selected / hidden.masking.maskable == pytest.approx(0.15, abs=0.03)
    assert (name == "macbert") == (hidden.masking.masked == 0)
    low, high = work.domain.vocabulary.ranges["text"]
    assert ((hidden.labels >= low) & (hidden.labels < high)).all()


def batch_records(work: Workload) -> list[int]:
    return next(iter(work.order.batches(0))).tolist()  # type: ignore[no-any-return]


def test_a_story_of_one_sentence_is_masked_though_it_makes_no_pair(configure: Configure) -> None:
    with processes("cpu") as group:
        work = prepare_workload(configure("macbert", data={"validation_fraction": 0.0}), group)
    batch = work.builder.batch(0, np.array([150]))
    assert batch.num_rows == 1
    assert batch.targets.keys() == {"mlm"}
    assert work.builder.batch(0, np.array([149])).targets.keys() == {"mlm", "sop"}


@pytest.mark.parametrize("name", TINY)
def test_batches_after_a_resume_are_those_of_an_unbroken_run(
    configure: Configure, name: str
) -> None:
    config = configure(name)
    with processes("cpu") as group:
        made = prepare_workload(config, group).batches(epoch=0, batch=0, step=0)
        unbroken = list(islice(made, 9))
        made.close()
        last = unbroken[4]
        resumed = batches_of(
            prepare_workload(config, group), 4, epoch=last.epoch, batch=last.number, step=5
        )
    for found, whole in zip(resumed, unbroken[5:], strict=True):
        expected = whole.micro_batches[0]
        assert torch.equal(found.ids, expected.ids)
        assert torch.equal(found.segment_ids, expected.segment_ids)
        for key, targets in expected.targets.items():
            assert torch.equal(found.targets[key].rows, targets.rows)
            assert torch.equal(found.targets[key].labels, targets.labels)


@pytest.mark.parametrize("name", TINY)
def test_a_row_does_not_depend_on_its_batch_mates(configure: Configure, name: str) -> None:
    """So one process and several build the same rows."""
    with processes("cpu") as group:
        work = prepare_workload(configure(name), group)
    records = work.split.train[:6]
    together = work.builder.batch(2, records)
    alone = [work.builder.batch(2, records[index : index + 1]) for index in range(6)]
    assert torch.equal(together.ids, torch.cat([batch.ids for batch in alone]))
    for key, targets in together.targets.items():
        assert torch.equal(
            targets.labels, torch.cat([batch.targets_for(key).labels for batch in alone])
        )


def test_static_masks_keep_their_pair(configure: Configure) -> None:
    """Hidden positions of another pair would be those of other words."""
    objectives = [{"name": "sop"}, {"name": "mlm", "rows_of": "sop", "policy": {"copies": 2}}]
    with processes("cpu") as group:
        work = prepare_workload(configure("bert", objectives=objectives), group)
    ids = [work.builder.batch(epoch, work.split.train[:9]).ids.tolist() for epoch in range(3)]
    assert ids[0] == ids[2] != ids[1]


def test_the_pair_objective_is_judged_on_held_out_stories_beside_the_tokens(
    configure: Configure, tmp_path: Path
) -> None:
    result = train(configure("bert", training={"steps": 2}), tmp_path / "run")
    assert result.report is not None
    scores = result.objectives["nsp"]
    assert len(scores.labels) == 22
    content = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert content["objectives"]["nsp"]["accuracy"] == scores.accuracy


def test_a_run_of_pairs_alone_is_judged_by_them(configure: Configure, tmp_path: Path) -> None:
    config = configure("albert", objectives=[{"name": "sop"}], training={"steps": 2})
    result = train(config, tmp_path / "run")
    assert result.report is None
    assert list(result.objectives) == ["sop"]


def test_held_out_records_without_a_foreign_document_judge_nothing_and_say_so(
    configure: Configure, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = configure("bert", data={"validation_records": 1}, training={"steps": 1})
    result = train(config, tmp_path / "run")
    assert not result.objectives
    assert "nsp: the held-out records hold nothing to judge it by" in caplog.text


MLM = {"name": "mlm", "rows_of": "sop"}


@pytest.mark.parametrize(
    ("objectives", "schedule", "message"),
    [
        ([{"name": "sop"}, {**MLM, "rows_of": "spo"}], {}, "Did you mean 'sop'"),
        ([{"name": "clm", "label": "sop"}, MLM], {}, "sop is not an objective on pairs.*: none"),
        ([{"name": "sop"}, {**MLM, "name": "clm"}], {}, "clm hides no tokens by a policy"),
        ([{"name": "sop"}, {"name": "nsp", "rows_of": "sop"}], {}, "nsp hides no tokens"),
        ([{"name": "sop"}, MLM, {**MLM, "label": "two"}], {}, "mlm already hides tokens there"),
        ([{"name": "sop"}, MLM], {"kind": "mixture"}, "'mixture' trains one objective at a time"),
        (
            [{"name": "sop"}, MLM],
            {"kind": "alternate", "blocks": "1sop,1mlm"},
            "'alternate' trains one objective at a time",
        ),
    ],
    ids=["unknown", "no pairs", "causal", "pair in pair", "two in one", "mixture", "alternate"],
)
def test_rows_that_cannot_be_shared_are_refused(
    configure: Configure, objectives: list[dict[str, Any]], schedule: dict[str, Any], message: str
) -> None:
    config = configure("bert", objectives=objectives, schedule=schedule)
    with processes("cpu") as group, pytest.raises(ConfigError, match=message):
        prepare_workload(config, group)
