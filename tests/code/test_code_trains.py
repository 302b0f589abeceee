"""Code through the command line, and CugLM's objectives in one batch over one encoder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import seqmlm
from seqmlm.cli import main
from seqmlm.config import configure
from seqmlm.data.packing import pack
from seqmlm.domain import Record
from seqmlm.model.model import Model
from seqmlm.model.model_folder import OBJECTIVES_FILE
from seqmlm.objectives.rows import Row
from seqmlm.registry import OBJECTIVES
from seqmlm_domains.code.domain import CodeDomain
from tests.code.sources import SOURCE, WriteTree

CONFIGS = Path(__file__).parents[2] / "configs"


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["seqmlm", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def repository(write_tree: WriteTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten modules, one file that is no text, and what git ignores."""
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    files: dict[str, str | bytes] = {
        f"pkg/m{i}.py": SOURCE.replace("total", f"total{i}").replace("start", f"first{i}") * 2
        + "".join(f"value{i}_{j}: list = total{i}([{j}])\n" for j in range(i * 3))
        for i in range(10)
    }
    return write_tree(files | {".gitignore": "made/\n", "made/x.py": "x", "bad.py": b"\0"})


def test_a_repository_trains_through_the_command_line(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = tmp_path / "run"
    tiny = str(CONFIGS / "tiny" / "code.toml")
    arguments = ("--config", tiny, "--data", str(repository), "--output", str(run))
    assert run_command(monkeypatch, "train", *arguments) == 0
    assert "dropped: binary: a NUL byte: 1" in caplog.text
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in metrics if line["split"] == "train"]
    assert losses[-1] < losses[0]
    fillings = seqmlm.load(str(run)).fill_mask("for <|mask|> in values:\n    pass\n", top_k=3)
    assert [len(proposals) for proposals in fillings] == [3]


@pytest.mark.parametrize(
    ("name", "objectives"),
    [("cuglm", ["ncp", "typed_mlm", "clm"]), ("cuglm_finetune", ["typed_mlm", "clm"])],
)
def test_both_stages_of_the_published_configuration_are_valid(
    name: str, objectives: list[str]
) -> None:
    config = configure(domain=None, sources=["x"], files=[CONFIGS / f"{name}.toml"])
    assert [objective.name for objective in config.objectives] == objectives


def test_the_second_stage_goes_on_with_the_type_stage_of_the_first(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As configs/cuglm_finetune.toml says: without pairs, from what the first stage saved."""
    first, second = tmp_path / "first", tmp_path / "second"
    tiny = str(CONFIGS / "tiny" / "code.toml")
    given = ("--config", tiny, "--data", str(repository), "--steps", "2")
    assert run_command(monkeypatch, "train", *given, "--output", str(first)) == 0
    saved = load_file(first / "model" / OBJECTIVES_FILE)
    fine_tuning = tmp_path / "second.toml"
    text = (CONFIGS / "tiny" / "code.toml").read_text()
    fine_tuning.write_text(
        text.replace('[[objectives]]\nname = "ncp"\n\n', "").replace('rows_of = "ncp"\n', "")
    )
    options = ("--init", str(first), "--output", str(second), "--set", "optimizer.warmup_steps=1")
    rate = ("--set", "optimizer.learning_rate=1e-12", "--set", "optimizer.weight_decay=0.0")
    given = ("--config", str(fine_tuning), "--data", str(repository), "--steps", "1")
    assert run_command(monkeypatch, "train", *given, *options, *rate) == 0
    report = json.loads((second / "warm_start.json").read_text())
    assert report["fresh"] == []
    assert all("ncp" in name for name in report["left_out"])
    continued = load_file(second / "model" / OBJECTIVES_FILE)
    assert continued.keys() == {name for name in saved if "typed_mlm" in name}
    for name, value in continued.items():
        torch.testing.assert_close(value, saved[name], rtol=0, atol=1e-9)
    assert (second / "config.toml").is_file()


def test_the_bundled_run_is_valid_and_its_sources_exist() -> None:
    config = configure(domain="code")
    assert all(Path(source).is_dir() for source in config.data.sources)


def cuglm_rows(domain: CodeDomain, text: str) -> tuple[list[Row], Row]:
    """Rows of masked and causal prediction of one text, and the causal one among them."""
    encoding = domain.parse(text)
    rows: list[Row] = []
    for name in ("mlm", "clm"):
        objective = OBJECTIVES.build({"name": name}, domain, where="objectives.0")
        rows += objective.rows(encoding, np.random.default_rng(0))
    return rows, rows[-1]


def test_causal_rows_see_no_future_in_a_batch_with_masked_rows(
    build_model: Callable[..., Model],
) -> None:
    """The published CugLM mask leaks: changing token 9 of 12 changes the outputs before it."""
    domain = CodeDomain(vocabulary_size=700, maskable="everything")
    domain.fit_tokenizer([Record("a.py", SOURCE, "test", 1)])
    model = build_model(domain, layers=3, hidden_size=32)
    rows, causal = cuglm_rows(domain, SOURCE)
    first = sum(len(row.ids) for row in rows[:-1])
    low, _ = domain.vocabulary.ranges["code"]
    with model.inference():
        before = model(pack(rows))
        for changed in (1, 9, len(causal.ids) // 2, len(causal.ids) - 1):
            ids = causal.ids.copy()
            ids[changed] = low if ids[changed] != low else low + 1
            after = model(pack([*rows[:-1], replace(causal, ids=ids)]))
            assert torch.equal(after[: first + changed], before[: first + changed])
            assert not torch.equal(after[first + changed :], before[first + changed :])


def test_masked_rows_see_both_sides(build_model: Callable[..., Model]) -> None:
    domain = CodeDomain(vocabulary_size=700)
    domain.fit_tokenizer([Record("a.py", SOURCE, "test", 1)])
    model = build_model(domain, layers=1)
    left, right = (domain.parse(f"<|mask|> = {name}") for name in ("start", "value"))
    with model.inference():
        states = [model(pack([Row.of(encoding)]))[1] for encoding in (left, right)]
    assert not torch.equal(states[0], states[1])
