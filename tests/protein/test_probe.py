"""What a probe sees, how it is judged, and the command from files to table."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seqmlm.cli import main
from seqmlm.domain import Domain, build_domain
from seqmlm.errors import ConfigError
from seqmlm.model.model import Model
from seqmlm_domains.protein.probes.features import (
    composition,
    embeddings,
    kmer_shares,
    window_residues,
    with_random_weights,
)
from seqmlm_domains.protein.probes.measures import measure
from seqmlm_domains.protein.probes.probe import ProbeSettings, probe
from seqmlm_domains.protein.probes.task import LabelledProtein, ProbeTask, read_task
from seqmlm_domains.protein.probes.task_files import find_tasks
from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES

Run = Callable[..., tuple[int, str, str]]

PROTEIN = build_domain({"name": "protein"})
A, G, OTHER = STANDARD_RESIDUES.index("A"), STANDARD_RESIDUES.index("G"), 20


def labelled(*sequences: str) -> list[LabelledProtein]:
    return [LabelledProtein(PROTEIN.parse(each), ("x",), "here") for each in sequences]


@pytest.fixture(scope="module")
def model(build_model: Callable[..., Model]) -> Model:
    return build_model(PROTEIN)


def test_the_composition_counts_letters_and_puts_unknown_ones_together() -> None:
    (shares,) = composition(labelled("AAGX"), "protein")
    assert shares[[A, G, OTHER]].tolist() == [0.5, 0.25, 0.25]
    assert shares.sum() == 1


def test_the_window_ends_where_the_protein_does() -> None:
    shares = composition(labelled("G" + "A" * 15), "residue")
    assert shares.shape == (16, 21)
    assert shares[0, [G, A]].tolist() == pytest.approx([1 / 8, 7 / 8])
    assert shares[7, [G, A]].tolist() == pytest.approx([1 / 15, 14 / 15])
    assert shares[8, [G, A]].tolist() == [0, 1]


def test_kmers_are_counted_where_they_overlap() -> None:
    rows = kmer_shares(labelled("AAG", "A"), k=2)
    assert rows.shape == (2, 441)
    assert rows[0, [A * 21 + A, A * 21 + G]].tolist() == [0.5, 0.5]
    assert not rows[1].any()


def test_a_window_tells_which_residue_stands_where() -> None:
    rows = window_residues(labelled("AG", "G")).reshape(3, 21, 15).transpose(1, 2)
    assert rows[0, 7, A] == rows[0, 8, G] == rows[1, 6, A] == rows[1, 7, G] == rows[2, 7, G] == 1
    assert rows.sum() == 5


def test_embeddings_are_means_of_proteins_or_states_of_residues(model: Model) -> None:
    proteins = labelled("MKTAY", "GS")
    means = embeddings(model, proteins, "protein", tokens_per_batch=64)
    torch.testing.assert_close(means, model.embed(["MKTAY", "GS"]))
    states = embeddings(model, proteins, "residue", tokens_per_batch=64)
    assert states.shape == (7, 16)
    torch.testing.assert_close(states[5:].mean(0), means[1])


def test_random_weights_are_those_of_the_seed_and_leave_the_model_alone(model: Model) -> None:
    before = model.fingerprint()
    state = torch.get_rng_state()
    first, again, other = (with_random_weights(model, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert model.fingerprint() == before != first.fingerprint()
    assert first.encoder.config == model.encoder.config
    assert torch.equal(torch.get_rng_state(), state)


def test_the_measures_by_hand() -> None:
    """Matthews for two classes: (2 x 1 - 1 x 0) / sqrt(2 x 3 x 1 x 2) = 2 / sqrt(12)."""
    true, proteins = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3])
    predicted = {"model": np.array([0, 0, 0, 1]), "majority": np.array([0, 0, 0, 0])}
    found = measure(true, predicted, proteins, seed=0)
    assert found["model"].accuracy.value == 0.75
    assert found["model"].macro_f1.value == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found["model"].matthews.value == pytest.approx(2 / 12**0.5)
    assert found["model"].behind is None
    assert found["majority"].matthews.value == 0
    behind = found["majority"].behind
    assert behind is not None
    assert behind.value == 0.25


def test_the_interval_is_over_proteins_not_residues() -> None:
    """Two proteins, one all right, one all wrong: a resample is often one of them twice."""
    true, proteins = np.zeros(200, np.int64), np.repeat([0, 1], 100)
    said = np.repeat([0, 1], 100)
    found = measure(true, {"model": said}, proteins, seed=0)["model"].accuracy
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def structured(count: int, seed: int) -> list[LabelledProtein]:
    """Residues W and Y are helix (H), all others are not."""
    generator = random.Random(seed)
    sequences = ["".join(generator.choices("WYAGSTKE", k=20)) for _ in range(count)]
    return [
        LabelledProtein(PROTEIN.parse(each), tuple("H" if x in "WY" else "C" for x in each), "here")
        for each in sequences
    ]


def test_a_probe_finds_what_the_residues_tell(model: Model) -> None:
    train, validation, test = (
        tuple(structured(count, seed)) for seed, count in enumerate((20, 5, 10))
    )
    task = ProbeTask("toy", "residue", train, validation, test, "made")
    result = probe(model, task, ProbeSettings(max_train=300))
    assert result.accuracy_name == "Q2 accuracy"
    assert list(result.measures) == [
        "embeddings", "random weights", "window of residues", "window composition",
        "majority class",
    ]  # fmt: skip
    assert result.measures["window of residues"].accuracy.value == 1
    assert result.measures["majority class"].accuracy.value == pytest.approx(0.75, abs=0.1)
    assert result.measures["embeddings"].accuracy.value > 0.9
    assert result.labels == (300, 100, 200)
    assert result.proteins == (15, 5, 10)
    assert result.given_labels == 400


def test_a_class_that_only_the_test_has_counts_as_wrong(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = ["MKTAY,a,train", "GSHMA,b,train", "MKTA,a,dev", "MKTAY,a,test", "MKTAY,c,test"]
    path.write_text("\n".join(["sequence,label,split", *rows]) + "\n")
    (files,) = find_tasks(path)
    result = probe(model, read_task(files, PROTEIN))
    assert result.unseen == 1
    assert result.measures["2-mers"].accuracy.value == 0.5
    assert result.test_with_neighbour == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [({"max_train": 1}, "--max-train 1"), ({"k": 4}, "--kmer 4"), ({"k": 0}, "--kmer 0")],
)
def test_settings_out_of_range_are_refused(options: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ProbeSettings(**options)


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "protein"
    model.save(path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COLUMNS", "100")

    def run_command(*arguments: object) -> tuple[int, str, str]:
        command = ["seqmlm", "protein", "probe", *map(str, arguments), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run_command


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder with a task of proteins, one of residues, and one of measured values."""
    path = tmp_path / "tasks"
    path.mkdir()
    generator = random.Random(0)
    for part, count in (("train", 30), ("valid", 8), ("test", 12)):
        lines = {"fold": ["sequence,label"], "ss": ["sequence,label"], "heat": ["sequence,label"]}
        for number in range(count):
            letters = "WYAG" if number % 2 else "STKE"
            sequence = "".join(generator.choices(letters, k=12))
            lines["fold"].append(f"{sequence},{'ab'[number % 2]}")
            lines["ss"].append(
                f"{sequence},{''.join('H' if x in 'WST' else 'C' for x in sequence)}"
            )
            lines["heat"].append(f"{sequence},{number + 0.5}")
        for name, content in lines.items():
            (path / f"{name}.{part}.csv").write_text("\n".join(content) + "\n")
    return path


def test_the_command_probes_a_folder_in_one_table(run: Run, folder: Path, tasks: Path) -> None:
    output = tasks.parent / "out"
    code, printed, error = run(folder, "--task", tasks, "--output", output, "--max-train", 200)
    assert code == 0, error
    assert all(each in printed for each in ("fold", "Q2 accuracy", "random weights"))
    assert "heat" not in printed
    content = json.loads((output / "protein_probe.json").read_text())
    by_task = {task["task"]: task for task in content["tasks"]}
    assert list(by_task) == ["fold", "ss"]
    assert by_task["fold"]["predictors"]["composition"]["accuracy"]["value"] == 1
    assert by_task["fold"]["labels"] == {"train": 30, "validation": 8, "test": 12}
    assert by_task["ss"]["labels"] == {"train": 192, "validation": 96, "test": 144}
    assert (output / "protein_probe.png").read_bytes().startswith(b"\x89PNG")


def test_a_task_that_was_asked_for_by_name_is_not_passed_over(
    run: Run, folder: Path, tasks: Path
) -> None:
    code, _, error = run(folder, "--task", tasks / "heat")
    assert code == 3
    assert "these are no classes" in error


def test_a_model_of_another_domain_is_refused(
    run: Run, words: Domain, build_model: Callable[..., Model], tasks: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Model, "load", lambda *_, **__: build_model(words))
    code, _, error = run(tasks, "--task", tasks)
    assert code == 2
    assert "of domain 'words'; one of 'protein' is needed" in error
