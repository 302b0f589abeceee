"""Every command on a finished run: files, table, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from seqmlm.analysis.output import write_results
from seqmlm.analysis.run import open_run
from seqmlm.cli import app
from seqmlm.errors import ConfigError, DataError, RunFolderError

Analyse = Callable[..., Any]
SEQUENCE = "MKTAYIAKQR"


@pytest.fixture
def analyse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Analyse:
    """Run ``seqmlm analyse ARGUMENTS`` into a fresh folder; errors raise through."""
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(command: str, *arguments: object) -> tuple[str, dict[str, Any], set[str]]:
        folder = tmp_path / "out"
        line = ["-q", "analyse", command, *map(str, arguments), "--output", str(folder)]
        result = CliRunner().invoke(app, line, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        content = json.loads((folder / f"{command.replace('-', '_')}.json").read_text())
        pictures = [path for path in folder.iterdir() if path.suffix == ".png"]
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
        return result.output, content, {path.name for path in pictures}

    return run


def test_surprisal_of_texts_and_files(analyse: Analyse, trained: Path, fasta: Path) -> None:
    printed, content, pictures = analyse("surprisal", trained, SEQUENCE, fasta, "--most", 2)
    assert pictures == {"surprisal.png"}
    assert [item["name"] for item in content["sequences"]] == [SEQUENCE, "p0", "p1"]
    assert "nats per token" in printed


def test_attention_draws_all_heads_and_one_layer(analyse: Analyse, trained: Path) -> None:
    _, content, pictures = analyse("attention", trained, SEQUENCE, "--layer", 1)
    assert pictures == {"attention.png", "attention_layer_1.png"}
    assert [len(layer["heads"]) for layer in content["layers"]] == [4, 4]


def test_mask_rate_uses_what_was_held_out(analyse: Analyse, trained: Path) -> None:
    printed, content, pictures = analyse(
        "mask-rate", trained, "--rates", "0.1,0.5", "--gradients", 4
    )
    assert pictures == {"mask_rate.png"}
    assert [point["rate"] for point in content["fixed_corruption"]["rates"]] == [0.1, 0.5]
    assert "slope" in printed


def test_joint_gap_of_triples(analyse: Analyse, trained: Path) -> None:
    arguments = ("--triples", "--max-distance", 2, "--tuples", 5)
    _, content, pictures = analyse("joint-gap", trained, *arguments)
    assert pictures == {"joint_gap.png"}
    assert content["tuple_size"] == 3
    assert [found["tuples"] for found in content["distances"]] == [5, 5]


def test_probe_of_residue_labels(analyse: Analyse, trained: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.tsv"
    labels.write_text(
        "\n".join(
            "".join(f"{residue}\t{'C' if residue in 'KR' else 'N'}\n" for residue in SEQUENCE)
            for _ in range(4)
        )
    )
    _, content, pictures = analyse("probe", trained, labels, "--joined-by", "")
    assert pictures == {"probe.png"}
    assert content["labels"] == {"N": 28, "C": 12}
    printed, content, _ = analyse("probe", trained, labels, "--joined-by", "", "--max-words", 25)
    assert "20 of 40 labelled words were used (--max-words 25)" in printed
    assert (content["labelled_words"], content["labelled_words_used"]) == (40, 20)
    assert [scores["layer"] for scores in content["layers"]] == [0, 1, 2]


def test_pseudo_likelihood_ranks_a_file(analyse: Analyse, trained: Path, fasta: Path) -> None:
    printed, content, pictures = analyse("pseudo-likelihood", trained, fasta, "--show", 3)
    assert pictures == {"pseudo_likelihood.png"}
    assert content["records"] == 48
    assert content["least_likely_first"][0]["name"] in printed


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("attention", "RUN", SEQUENCE, "--layer", 9), ConfigError, "has the layers 1 to 2"),
        (("attention", "RUN", ""), DataError, "holds no residue"),
        (("surprisal", "RUN", "<mask>"), DataError, "no token of it can be scored"),
        (("mask-rate", "RUN", "--rates", "many"), ConfigError, "--rates many: write numbers"),
        (("mask-rate", "RUN/model"), ConfigError, "no config.toml"),
        (("probe", "RUN", "missing.tsv"), DataError, "missing.tsv"),
    ],
    ids=["layer", "empty text", "mask alone", "rates", "model folder", "no file"],
)
def test_what_does_not_fit_is_refused(
    analyse: Analyse, trained: Path, arguments: tuple[str, ...], error: type[Exception], says: str
) -> None:
    given = [str(argument).replace("RUN", str(trained)) for argument in arguments]
    with pytest.raises(error, match=says):
        analyse(*given)


def test_a_run_says_how_it_reads_and_a_model_folder_does_not(trained: Path) -> None:
    run, model = open_run(trained), open_run(trained / "model")
    assert run.config is not None
    assert (run.direction, model.config, model.direction) == (None, None, None)


def test_without_matplotlib_only_json_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level("INFO", logger="seqmlm"):
        written = write_results(
            tmp_path / "a" / "b", "x", {"a": 1}, draw=lambda: pytest.fail("drawn")
        )
    assert [path.name for path in written] == ["x.json"]
    assert "matplotlib is not installed" in caplog.text


def test_an_output_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        write_results(tmp_path / "file" / "out", "x", {}, draw=dict)
