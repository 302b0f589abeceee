"""The commands import-hf and export-hf, and an imported model in the other commands."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seqmlm.cli import main
from seqmlm.domain import build_domain
from seqmlm.interop.exporting import export_model
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["seqmlm", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run_command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small ESM-2 as Hugging Face has it."""
    torch.manual_seed(0)
    shape = EncoderConfig(
        vocabulary_size=33, mask_token=32, layers=1, hidden_size=16, heads=2, activation="gelu",
        normalisation="layer", biases=True, token_dropout=True, mask_token_rate=0.15 * 0.8,
    )  # fmt: skip
    model = Model(build_domain({"name": "protein"}), shape, head_transform=True)
    export_model(model, tmp_path / "esm")
    return tmp_path / "esm"


def test_a_folder_becomes_a_model_and_a_folder_again(run: Run, folder: Path) -> None:
    code, out, _ = run("import-hf", folder, "--output", "runs/esm")
    assert (code, out) == (0, "runs/esm\n")
    code, out, _ = run("fill-mask", "runs/esm", "MKT<mask>YIAK", "--json")
    assert code == 0
    assert len(json.loads(out)[0]) == 5
    code, out, _ = run("export-hf", "runs/esm", "--output", "hf/esm")
    assert (code, out) == (0, "hf/esm\n")
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        assert (Path("hf/esm") / name).read_bytes() == (folder / name).read_bytes()


PROTEIN = "MKTAYIAKQRQISFVKSHFS"
FASTA = f">first\n{PROTEIN}\n>second\n{PROTEIN[::-1]}\n"
VARIANTS = ("protein", "variants", "runs/esm", "--wild-type", "wt.fasta", "--mutations", "dms.csv")
USES: dict[str, tuple[tuple[object, ...], str]] = {
    "score": (("score", "runs/esm", "two.fasta"), "second"),
    "embed": (("embed", "runs/esm", "two.fasta", "--output", "vectors"), "vectors"),
    "infill": (("infill", "runs/esm", "MKT<mask><mask>AK", "--strategy", "gibbs"), "MKT"),
    "wt-marginal": ((*VARIANTS, "--method", "wt-marginal"), "wt-marginal"),
    "masked-marginal": ((*VARIANTS, "--method", "masked-marginal"), "masked-marginal"),
    "random-mask": ((*VARIANTS, "--method", "random-mask"), "random-mask"),
    "joint-mask": ((*VARIANTS, "--method", "joint-mask"), "joint-mask"),
    "pseudo-likelihood": ((*VARIANTS, "--method", "pseudo-likelihood"), "pseudo-likelihood"),
}


@pytest.mark.parametrize("use", USES)
def test_an_imported_model_does_all_that_a_trained_one_does(
    use: str, run: Run, folder: Path
) -> None:
    Path("two.fasta").write_text(FASTA)
    Path("wt.fasta").write_text(f">wt\n{PROTEIN}\n")
    Path("dms.csv").write_text("mutant\nK2G\nA4W:S20A\n")
    run("import-hf", folder, "--output", "runs/esm")
    arguments, says = USES[use]
    code, out, err = run(*arguments, "--device", "cpu")
    assert code == 0, err
    assert says in out + err


@pytest.mark.parametrize("freeze", [0, 1])
def test_an_imported_model_is_fine_tuned_and_predicts(freeze: int, run: Run, folder: Path) -> None:
    """Proteins of leucine, or of lysine."""
    run("import-hf", folder, "--output", "runs/esm")
    rows = [f"{letter * length},{letter}" for length in range(8, 28) for letter in "LK"]
    Path("labelled.csv").write_text("\n".join(["text,label", *rows]))
    code, _, err = run(
        *("finetune", "runs/esm", "--task", "classification", "--data", "labelled.csv"),
        *("--output", "runs/tuned", "--epochs", 2, "--learning-rate", 0.01, "--device", "cpu"),
        *("--freeze", freeze),
    )
    assert code == 0, err
    code, _, err = run("predict", "runs/tuned", "labelled.csv", "--output", "predicted.csv")
    assert code == 0, err
    assert len(Path("predicted.csv").read_text().splitlines()) == 41


def test_an_imported_model_is_evaluated_on_half_of_the_data(run: Run, folder: Path) -> None:
    run("import-hf", folder, "--output", "runs/esm")
    draw = random.Random(0)
    proteins = ["".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=30)) for _ in range(16)]
    Path("proteins.fasta").write_text("".join(f">p\n{protein}\n" for protein in proteins))
    code, out, err = run("evaluate", "runs/esm", "--data", "proteins.fasta")
    assert code == 0, err
    assert "in the half that the bars were fitted" in " ".join(out.split())
    code, _, err = run("evaluate", "runs/esm")
    assert code == 2
    assert "With --data, half of which" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("import-hf", "absent/a/b", "--output", "x"), 1, "There is no folder absent/a/b."),
        (("import-hf", "esm", "--output", "esm"), 2, "--output esm exists already"),
        (("import-hf", ".", "--output", "x"), 1, "no config.json here"),
        (("export-hf", "esm", "--output", "x"), 1, "becomes such a model by `seqmlm import-hf`"),
        (("import-hf", "esm", "--output", "x", "--domain", "kg"), 2, "cannot take over the token"),
        (("train", "--resume", "--output", "x", "--init", "esm"), 2, "leave out --init"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_clear_line(
    arguments: tuple[str, ...], code: int, message: str, run: Run, folder: Path
) -> None:
    ended, _, err = run(*arguments)
    assert ended == code
    assert err.startswith("Error: ")
    assert message in err
    assert "Traceback" not in err
