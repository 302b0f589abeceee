"""The command on a saved model, and the table and picture that it writes."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seqmlm.cli import main
from seqmlm.domain import build_domain
from seqmlm.model.model import Model
from seqmlm_domains.protein import VariantScorer
from seqmlm_domains.protein.variants.heat_map import (
    RESIDUE_ORDER,
    SITES_PER_LINE,
    draw_heat_map,
    substitution_grid,
)
from seqmlm_domains.protein.variants.mutation_table import read_mutations
from seqmlm_domains.protein.variants.offset import OffsetChoice
from seqmlm_domains.protein.variants.scorer import VariantScore, VariantScores

Run = Callable[..., tuple[int, str, str]]

WILD_TYPE = "MKTAYIAKQRQISFVKSHFS"
ROWS = [("K2G", "0.5"), ("K2*", "0.1"), ("A4W:S20A", "0.2"), ("W2G", ""), ("K2G", "0.6"),
        ("Y5F", "0.9")]  # fmt: skip


@pytest.fixture(scope="module")
def folder(build_model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "protein"
    build_model(build_domain({"name": "protein"})).save(path)
    return path


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path,
    tmp_path: Path,
) -> Run:  # fmt: skip
    wild_type = tmp_path / "wt.fasta"
    wild_type.write_text(f">P1 a protein\n{WILD_TYPE}\n")

    def run_command(table: Path, *options: object) -> tuple[int, str, str]:
        arguments = ("--wild-type", wild_type, "--mutations", table, "--device", "cpu", *options)
        command = ["seqmlm", "protein", "variants", str(folder), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run_command


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "dms.csv"
    lines = ["\ufeffmutant,fitness", *(",".join(row) for row in ROWS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_comes_back_with_its_score_or_a_reason(
    run: Run, table: Path, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "scores.csv"
    code, printed, _ = run(table, "--output", output)
    rows = read(output)
    assert code == 0
    assert [(row["mutant"], row["fitness"]) for row in rows] == ROWS
    expected = VariantScorer.load(folder, device="cpu").score(WILD_TYPE, [v for v, _ in ROWS])
    for row, item in zip(rows, expected.items, strict=True):
        assert row["score"] == ("" if item.score is None else str(item.score))
        assert row["reason"] == item.reason
    assert "4 of 6 variants scored by masked-marginal" in printed
    assert "stop codon" in printed
    assert "W2 does not match the wild type, which has K at 2" in printed
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_measured_values_are_compared_with_model_and_bars(
    run: Run, table: Path, tmp_path: Path
) -> None:
    homologs = tmp_path / "family.fasta"
    homologs.write_text(f">h1\n{WILD_TYPE}\n>h2\nGG{WILD_TYPE[2:]}\n")
    options = ("--output", tmp_path / "scores.csv", "--measured", "fitness")
    _, printed, _ = run(table, *options, "--homologs", homologs)
    for name in ("BLOSUM62", "number of mutations", "site-independent", "4 measured values"):
        assert name in printed
    _, printed, _ = run(table, *options, "--json")
    content = json.loads(printed)
    assert content["comparison"]["variants"] == 4
    assert list(content["comparison"]["spearman"]) == [
        "masked-marginal", "BLOSUM62", "number of mutations",
    ]  # fmt: skip
    assert [item["variant"] for item in content["variants"]] == [variant for variant, _ in ROWS]
    assert content["numbering"]["offset"] == 1


def test_several_runs_give_their_mean(
    run: Run, table: Path, tmp_path: Path, build_model: Callable[..., Model]
) -> None:
    other = tmp_path / "other"
    build_model(build_domain({"name": "protein"}), layers=1).save(other)
    alone, both = tmp_path / "alone.csv", tmp_path / "both.csv"
    run(table, "--output", alone, "--method", "wt-marginal")
    run(table, other, "--output", both, "--method", "wt-marginal")
    variants = [variant for variant, _ in ROWS]
    second = VariantScorer.load(other).score(WILD_TYPE, variants, method="wt-marginal")
    for first, item, mean in zip(read(alone), second.items, read(both), strict=True):
        if item.score is None:
            assert (mean["score"], mean["reason"]) == ("", item.reason)
        else:
            assert float(mean["score"]) == pytest.approx((float(first["score"]) + item.score) / 2)


def test_columns_are_chosen_by_name_in_tsv_too(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "dms.tsv"
    path.write_text("id\tvariant\n1\tK2G\n2\tA4W,S20A\n")
    output = tmp_path / "scores.jsonl"
    code, _, _ = run(path, "--column", "variant", "--output", output, "--method", "joint-mask")
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert code == 0
    assert [row["variant"] for row in rows] == ["K2G", "A4W,S20A"]
    assert all(isinstance(row["score"], float) for row in rows)


@pytest.mark.parametrize(
    ("content", "options", "code", "message"),
    [
        ("mutant,fitness\n", (), 3, "holds no record"),
        ("", (), 3, "holds no record"),
        ("mutant\nK2G\n", ("--column", "mutants"), 3, "Did you mean 'mutant'?"),
        ("mutant,fit\nK2G,1\n", ("--measured", "fitt"), 3, "Did you mean 'fit'?"),
        ("mutant,fit\nK2G,high\n", ("--measured", "fit"), 3, "fit is 'high'; a number is needed"),
        ("mutant,score\nK2G,1\n", (), 2, "has a column 'score' already"),
        ("mutant\nK2G\n", ("--method", "masked"), 2, "Did you mean 'masked-marginal'?"),
        ("mutant\nK2G\n", ("--homologs", "x.fasta"), 2, "say --measured COLUMN too"),
        ("mutant\nK2G\n", ("--max-identity", "95"), 2, "it is a share in (0, 1]"),
        ("mutant\nK2G\n", ("no/run",), 2, "no/run: there is no such run"),
        ("K2G\nT3A\n", (), 3, "the first line begins with 'K2G', a mutation"),
        ("mutant;fit\nK2G;1\n", (), 3, "separated by semicolons. Separate them by commas"),
        ("mutant\nK2G\n", ("--output", "scores.txt"), 2, "written as .csv or .jsonl"),
        ("mutant\nK2G\n", ("--output", "no/scores.csv"), 2, "there is no folder no"),
    ],
    ids=["header only", "empty", "column", "measured", "no number", "taken", "method", "homologs",
         "identity", "run", "no header", "semicolons", "output", "folder"],
)  # fmt: skip
def test_mistakes_are_one_line(
    run: Run, tmp_path: Path, content: str, options: tuple[str, ...], code: int, message: str
) -> None:
    path = tmp_path / "dms.csv"
    path.write_text(content)
    found, printed, error = run(path, "--output", tmp_path / "out.csv", *options)
    assert (found, printed) == (code, "")
    assert message in error
    assert error.startswith("Error: ")
    assert error.count("\n") == 1


def test_the_table_that_is_read_is_never_written_over(run: Run, table: Path) -> None:
    before = table.read_bytes()
    code, _, error = run(table, "--output", table)
    assert code == 2
    assert "is the file that is read" in error
    assert table.read_bytes() == before


def test_two_measured_values_have_no_correlation(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("mutant,fitness\nK2G,1\nT3A,2\n")
    options = ("--output", tmp_path / "out.csv", "--measured", "fitness")
    _, printed, _ = run(path, *options)
    assert "needs 3 values" in printed
    assert "1.000" not in printed
    _, printed, _ = run(path, *options, "--json")
    assert json.loads(printed)["comparison"]["spearman"]["BLOSUM62"]["value"] is None


def test_a_file_of_two_proteins_is_no_wild_type(run: Run, table: Path, tmp_path: Path) -> None:
    two = tmp_path / "two.fasta"
    two.write_text(">a\nMKT\n>b\nMKT\n")
    code, _, error = run(table, "--wild-type", two)
    assert code == 3
    assert "holds 2 proteins" in error


def test_empty_measured_cells_are_not_numbers(table: Path) -> None:
    measured = read_mutations(table, measured="fitness").measured
    assert measured is not None
    assert np.isnan(measured).tolist() == [False, False, False, True, False, False]


def scores_of(length: int, *items: VariantScore) -> VariantScores:
    wild_type = "MKTAYIAKQR" * (length // 10)
    return VariantScores(items, wild_type, "masked-marginal", OffsetChoice(1, 1, 1), None)


def test_the_picture_shows_single_substitutions_at_their_site_and_residue() -> None:
    items = (
        VariantScore("K2G", -1.5, "", ((1, "G"),)),
        VariantScore("K2G:T3A", -9.0, "", ((1, "G"), (2, "A"))),
        VariantScore("T3*", None, "stop codon"),
    )
    grid = substitution_grid(items, 10)
    assert grid.shape == (20, 10)
    assert grid[RESIDUE_ORDER.index("G"), 1] == -1.5
    assert np.isfinite(grid).sum() == 1


def test_a_long_protein_takes_several_lines() -> None:
    last = 3 * SITES_PER_LINE - 6
    items = [VariantScore("", -1.0, "", ((site, "W"),)) for site in (0, last)]
    figure = draw_heat_map(scores_of(300, *items), title="a title")
    pictures = [axes for axes in figure.axes if axes.get_images()]
    assert len(pictures) == 3
    shown = [label.get_text() for axes in pictures for label in axes.get_xticklabels()]
    assert "".join(shown) == ("MKTAYIAKQR" * 30)[: last + 1]


def test_near_copies_of_the_wild_type_are_left_out_of_a_family(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wild_type, family, output = (tmp_path / name for name in ("wt.fa", "family.fa", "remote.fa"))
    wild_type.write_text(f">P1\n{WILD_TYPE}\n")
    remote = "GGGG" + WILD_TYPE[4:]
    family.write_text(f">copy\n{WILD_TYPE}\n>remote\n{remote}\n")
    options = ("--wild-type", str(wild_type), "--output", str(output))
    monkeypatch.setattr(sys, "argv", ["seqmlm", "protein", "homologs", str(family), *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert output.read_text() == f">remote\n{remote}\n"
    assert "1 homologs below 95% identity written" in capsys.readouterr().out
