"""Contact maps: the correction by hand, what is written, and comparison with known contacts."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seqmlm.analysis.attention import analyse_attention
from seqmlm.analysis.run import AnalysedRun
from seqmlm.cli import main
from seqmlm.domain import build_domain
from seqmlm.model.model import Model
from seqmlm.model.pair_head import corrected_maps
from seqmlm_domains.protein.contacts.evaluation import contact_precision, read_known_contacts
from seqmlm_domains.protein.contacts.prediction import ContactMap, predict_contacts

Run = Callable[..., tuple[int, str, str]]

SEQUENCES = {"first": "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "second": "MKWVTFISLL"}


@pytest.fixture(scope="module")
def model(build_model: Callable[..., Model]) -> Model:
    return build_model(build_domain({"name": "protein"}))


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "protein"
    model.save(path)
    return path


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "x.fasta"
    path.write_text("".join(f">{name} text\n{each}\n" for name, each in SEQUENCES.items()))
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Run:
    monkeypatch.setenv("COLUMNS", "120")

    def run_command(*arguments: object) -> tuple[int, str, str]:
        command = ["seqmlm", "protein", "contacts", str(folder), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", [*command, "--device", "cpu"])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run_command


def test_the_correction_takes_away_what_rows_and_columns_tell() -> None:
    """Symmetric: 2 4 / 4 6, rows 6 and 10 of 16; expected 36/16, 60/16, 100/16."""
    (found,) = corrected_maps(torch.tensor([[[1.0, 3.0], [1.0, 3.0]]]))
    assert found.tolist() == [[2 - 2.25, 4 - 3.75], [4 - 3.75, 6 - 6.25]]


def test_a_map_of_zeros_stays_one() -> None:
    assert not corrected_maps(torch.zeros(1, 3, 3)).any()


def test_without_a_regression_the_mean_of_all_heads_ranks_pairs(model: Model) -> None:
    encoding = model.domain.parse(SEQUENCES["first"])
    found = predict_contacts(model, "first", encoding)
    maps = analyse_attention(AnalysedRun(model, Path("x")), encoding).weights[:, :, 1:-1, 1:-1]
    expected = corrected_maps(maps.flatten(0, 1)).mean(0)
    np.testing.assert_allclose(found.scores, expected.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.scores, found.scores.T, rtol=0, atol=1e-6)
    assert found.measure == "corrected attention"


def test_the_best_pairs_come_first_and_keep_their_distance() -> None:
    scores = np.zeros((4, 4), np.float32)
    scores[0, 1] = scores[1, 0] = 9
    scores[0, 3] = scores[3, 0] = 2
    scores[1, 3] = scores[3, 1] = 3
    found = ContactMap("x", "MKTA", scores, "probability")
    assert found.best_pairs(min_separation=2, most=2) == [(1, 3, 3.0), (0, 3, 2.0)]


def test_the_precision_is_counted_by_separation(tmp_path: Path) -> None:
    """30 residues: 6 best pairs are L/5; two of those of 6 to 11 residues apart are contacts."""
    known = tmp_path / "known.csv"
    known.write_text("name,i,j\nx,1,8\nx,30,20\nx,1,30\nother,1,9\n")
    scores = np.zeros((30, 30), np.float32)
    for rank, (i, j) in enumerate([(0, 7), (0, 8), (1, 8), (19, 29), (2, 9), (3, 9), (0, 29)]):
        scores[i, j] = scores[j, i] = 10 - rank
    maps = [ContactMap("x", "A" * 30, scores, "probability")]
    found = contact_precision(maps, read_known_contacts(known))
    assert found.proteins == 1
    assert found.precision["short L/5"].value == pytest.approx(2 / 6)
    assert found.precision["long L/5"].value == pytest.approx(1 / 6)
    assert np.isnan(found.precision["medium L"].value)
    pairs_six_to_eleven_apart = 24 + 23 + 22 + 21 + 20 + 19
    assert found.by_chance["short"] == pytest.approx(2 / pairs_six_to_eleven_apart)


def test_the_command_writes_pairs_maps_and_a_picture(run: Run, fasta: Path) -> None:
    output = fasta.parent / "out"
    code, printed, _ = run(fasta, "--output", output, "--per-residue", 0.5)
    assert code == 0
    assert "2 proteins; scores are of corrected attention" in printed
    with (output / "contacts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["first"] * 17 + ["second"] * 5
    arrays = np.load(output / "contacts.npz")
    assert arrays["names"].tolist() == list(SEQUENCES)
    for row in rows:
        number = list(SEQUENCES).index(row["name"]) + 1
        i, j = int(row["i"]) - 1, int(row["j"]) - 1
        assert arrays[f"map_{number}"][i, j] == pytest.approx(float(row["score"]), rel=1e-5)
        sequence = SEQUENCES[row["name"]]
        assert (row["residue_i"], row["residue_j"]) == (sequence[i], sequence[j])
        assert int(row["separation"]) == j - i >= 6
    assert (output / "contacts.png").read_bytes().startswith(b"\x89PNG")
    code, _, error = run(fasta, "--output", output)
    assert code == 2
    assert "exists already" in error


def test_known_contacts_are_compared_with(run: Run, fasta: Path) -> None:
    known = fasta.parent / "known.jsonl"
    known.write_text(json.dumps({"name": "first", "i": 30, "j": 2}) + "\n")
    output = fasta.parent / "out"
    code, printed, _ = run(fasta, "--output", output, "--known", known, "--json")
    assert code == 0
    judged = json.loads(printed)["known"]
    assert judged["proteins"] == 1
    assert judged["precision"]["short L"]["value"] is None
    assert judged["by_chance"]["long"] == pytest.approx(1 / 45)  # 9 + 8 + ... + 1 pairs


REFUSED = {
    "no columns": ("name,first\nfirst,1\n", "no column i, j"),
    "not a number": ("name,i,j\nfirst,1,9\nfirst,1,x\n", "line 3: j is 'x'"),
    "counted from 0": ("name,i,j\nfirst,0,9\n", "line 2: i is '0'"),
    "with itself": ("name,i,j\nfirst,9,9\n", "line 2: residue 9 with itself"),
    "of no protein": ("name,i,j\nthird,1,9\n", "line 2: no sequence of the data is called 'third'"),
    "outside": ("name,i,j\nfirst,1,9\nfirst,2,34\n", "line 3: residue 34, but first has 33"),
}


@pytest.mark.parametrize(("content", "says"), REFUSED.values(), ids=REFUSED)
def test_unusable_contacts_are_refused_before_anything_is_predicted(
    run: Run, fasta: Path, content: str, says: str
) -> None:
    known = fasta.parent / "known.csv"
    known.write_text(content)
    code, _, error = run(fasta, "--output", fasta.parent / "out", "--known", known)
    assert code == 3
    assert says in error
    assert not (fasta.parent / "out").exists()
