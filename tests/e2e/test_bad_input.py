"""Data, run folders and models that cannot be used: one clear line, an exit code, no traceback.

3 is data, 2 usage and configuration, 1 a run or a model.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import AssertRefused, Cli

PROTEIN = ">p\nMKTAYIAKQR\n"

DATA = {
    "empty file": (b"", ("bad.fasta", "empty (0 records)")),
    "white space only": (b"\n \n", ("bad.fasta", "empty (0 records)")),
    "no header": (b"MKTAYIAK\n>p\nMKT\n", ("bad.fasta", "line 1", "begins with '>'")),
    "NUL byte": (b">p\nMKT\0AYI\n", ("bad.fasta", "NUL byte at byte offset 6")),
    "not UTF-8": (b">p\xe9\nMKT\n", ("bad.fasta", "not UTF-8 at byte offset 2", "0xe9")),
    "UTF-16": (PROTEIN.encode("utf-16"), ("bad.fasta", "UTF-16", "Save it as UTF-8")),
    "digit": (b">p1\nMKT\n>p2\nMK1T\n", ("bad.fasta, record 2 (p2)", "position 3 is '1'")),
    "stop inside": (b">p\nMK*T\n", ("record 1 (p)", "position 3 is '*'", "at the end")),
    "gap": (b">p\nMK-T\n", ("position 3 is '-'", "domain.gaps")),
    "nothing but empty records": (b">a\n>b\n", ("no usable record", "no sequence: 2")),
    "truncated gzip": (gzip.compress(PROTEIN.encode() * 400)[:-20], ("ends in the middle",)),
    "zip archive": (b"PK\x03\x04 and more", ("bad.fasta", "zip-compressed")),
}


@pytest.mark.parametrize("case", DATA)
@pytest.mark.parametrize("command", ["train", "prepare", "score", "embed", "evaluate"])
def test_data_that_cannot_be_used_are_refused_by_every_command(
    command: str, case: str, assert_refused: AssertRefused, tmp_path: Path, trained: Path
) -> None:
    content, says = DATA[case]
    path, output = tmp_path / "bad.fasta", tmp_path / "output"
    path.write_bytes(content)
    arguments: dict[str, tuple[object, ...]] = {
        "train": ("--domain", "protein", "--data", path, "--output", output, "--device", "cpu"),
        "prepare": (path, "--domain", "protein", "--output", output),
        "score": (trained, path, "--json"),
        "embed": (trained, path, "--output", output),
        "evaluate": (trained, "--data", path),
    }
    assert_refused(command, *arguments[command], exit_code=3, says=says)
    assert not output.is_file()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("absent.fasta", ("absent.fasta does not exist",)),
        ("folder", ("folder: no sequence file in the folder", ".fasta")),
        ("*.nothing", ("No file matches the pattern",)),
    ],
    ids=["missing path", "folder without sequences", "pattern without match"],
)
def test_a_source_that_is_not_there_is_refused(
    source: str,
    says: tuple[str, ...],
    assert_refused: AssertRefused,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "README").write_text("nothing to see")
    assert_refused("train", "--domain", "protein", "--data", source, exit_code=3, says=says)


def test_too_few_clusters_to_hold_any_out_are_explained(
    assert_refused: AssertRefused, tmp_path: Path
) -> None:
    (tmp_path / "one.fasta").write_text(PROTEIN * 5)
    assert_refused(
        *("train", "--domain", "protein", "--data", tmp_path / "one.fasta"),
        *("--output", tmp_path / "run"),
        exit_code=2,
        says=("5 records form 1 similarity group", "data.validation_fraction = 0"),
    )


@pytest.fixture
def make_record(tmp_path: Path) -> Callable[[str], Path]:
    """Write a file of 20 ordinary, unlike records and some text after them."""

    def write(text: str) -> Path:
        residues = "ACDEFGHIKLMNPQRSTVWY"
        ordinary = [f">p{i}\n{residues[i] * 30}\n" for i in range(20)]
        path = tmp_path / "odd.fasta"
        path.write_text("".join(ordinary) + text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (">empty\n>also\n", ("22 records read, 20 used, 2 dropped", "no sequence: 2 (first:")),
        (">p3\nMKT\n", ("21 records read, 21 used", "name of an earlier record: 1", "record 21")),
        (">s\nMKT*\n", ("21 records read, 21 used", "stop (*) at the end removed: 1")),
        (">j\nMJJT\n", ("21 records read, 21 used", "J (leucine or isoleucine) read as X: 2")),
        (">\nMKT\n", ("21 records read, 21 used", "header without a name: 1")),
        (">l\n" + "MKTAYIAKQR" * 10_000 + "\n", ("21 records read, 21 used",)),
    ],
    ids=["empty", "repeated name", "stop", "J", "no name", "100,000 residues"],
)
def test_what_is_odd_in_the_data_is_counted_and_shown_with_its_place(
    text: str, says: tuple[str, ...], make_record: Callable[[str], Path], train: Cli, tmp_path: Path
) -> None:
    outcome = train(tmp_path / "run", "--steps", 3, data=make_record(text))
    log = (tmp_path / "run" / "train.log").read_text()
    for part in says:
        assert part in outcome.stderr
        assert part in log


def test_a_path_below_a_file_cannot_be_an_output(
    assert_refused: AssertRefused, tmp_path: Path, tiny_fasta: Path
) -> None:
    (tmp_path / "file").touch()
    assert_refused(
        *("train", "--domain", "protein", "--data", tiny_fasta),
        *("--output", tmp_path / "file" / "run"),
        exit_code=2,
        says=("Not a directory", "another folder"),
    )


def test_an_output_that_is_not_empty_is_refused_and_left_alone(
    assert_refused: AssertRefused, trained: Path, tiny_fasta: Path
) -> None:
    before = (trained / "metrics.jsonl").read_text()
    assert_refused(
        *("train", "--domain", "protein", "--data", tiny_fasta, "--output", trained),
        exit_code=2,
        says=(f"{trained} is not empty", "--resume", "another folder"),
    )
    assert (trained / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("folder", "says"),
    [("absent", "There is no folder"), ("empty", "is not a run folder")],
    ids=["absent folder", "folder without a run"],
)
def test_resuming_what_is_no_run_is_refused(
    folder: str, says: str, assert_refused: AssertRefused, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(
        "train", "--resume", "--output", tmp_path / folder, exit_code=2, says=(says, folder)
    )


def test_resume_needs_an_output(assert_refused: AssertRefused) -> None:
    assert_refused("train", "--resume", exit_code=2, says=("--resume needs --output",))


def damage_weights(model: Path) -> None:
    content = bytearray((model / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (model / "model.safetensors").write_bytes(content)


def change_vocabulary(model: Path) -> None:
    content = json.loads((model / "config.json").read_text())
    content["vocabulary_fingerprint"] = "0123456789abcdef"
    (model / "config.json").write_text(json.dumps(content))


def cut_configuration(model: Path) -> None:
    path = model / "config.json"
    path.write_text(path.read_text()[:100])


def write_newer_format(model: Path) -> None:
    content = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**content, "format_version": 99}))


def leave_what_a_refused_run_leaves(model: Path) -> None:
    """Empty folders."""
    shutil.rmtree(model)
    (model.parent / "config.toml").unlink()


MODELS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "bit flip in the weights": (damage_weights, ("model.safetensors is damaged", "sha256")),
    "no weights": (lambda model: (model / "model.safetensors").unlink(), ("cannot be loaded",)),
    "other vocabulary": (change_vocabulary, ("vocabulary", "0123456789abcdef", "protein")),
    "half a configuration": (cut_configuration, ("config.json is not the config.json of",)),
    "newer format": (write_newer_format, ("format 99", "reads up to 1")),
    "refused run": (leave_what_a_refused_run_leaves, ("before its first step", "has no model")),
    "unfinished run": (shutil.rmtree, ("has not finished", "seqmlm train --resume --output")),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("command", ["fill-mask", "score", "embed", "evaluate"])
def test_a_model_that_cannot_be_used_is_refused_by_every_command(
    command: str,
    case: str,
    assert_refused: AssertRefused,
    trained: Path,
    tiny_fasta: Path,
    tmp_path: Path,
) -> None:
    spoil, says = MODELS[case]
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    spoil(run / "model")
    arguments: dict[str, tuple[object, ...]] = {
        "fill-mask": (run, "MKT<mask>YIAK"),
        "score": (run, tiny_fasta, "--json"),
        "embed": (run, tiny_fasta, "--output", tmp_path / "vectors"),
        "evaluate": (run,),
    }
    assert_refused(command, *arguments[command], exit_code=1, says=says)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_folder_that_is_no_model_is_refused(
    name: str, assert_refused: AssertRefused, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(
        *("fill-mask", tmp_path / name, "MKT<mask>YIAK"),
        exit_code=1,
        says=(f"{tmp_path / name}: no model here", "config.json"),
    )


@pytest.mark.parametrize(
    ("text", "top_k", "exit_code", "says"),
    [
        ("MKTAYIAK", 3, 3, ("There is no <mask> in 'MKTAYIAK'",)),
        ("MK<mask>1", 3, 3, ("position 9 is '1'", "no amino acid")),
        ("MK<msk>T", 3, 3, ("position 3 is '<msk>'", "only <mask>")),
        ("", 3, 3, ("no residue",)),
        ("MK<mask>T", 21, 2, ("top_k = 21", "from 1 to 20")),
    ],
    ids=["no mask", "digit", "misspelt mask", "nothing", "more proposals than tokens"],
)
def test_a_text_that_cannot_be_filled_is_refused(
    text: str,
    top_k: int,
    exit_code: int,
    says: tuple[str, ...],
    assert_refused: AssertRefused,
    trained: Path,
) -> None:
    assert_refused("fill-mask", trained, text, "--top-k", top_k, exit_code=exit_code, says=says)


def test_an_embedding_file_that_exists_is_not_overwritten(
    assert_refused: AssertRefused, trained: Path, tiny_fasta: Path, tmp_path: Path
) -> None:
    output = tmp_path / "vectors.safetensors"
    output.write_text("precious")
    assert_refused(
        *("embed", trained, tiny_fasta, "--output", output),
        exit_code=2,
        says=("vectors.safetensors exists", "choose another name"),
    )
    assert output.read_text() == "precious"


def test_a_store_that_exists_is_not_overwritten(
    assert_refused: AssertRefused, tiny_fasta: Path, tmp_path: Path
) -> None:
    assert_refused(
        *("prepare", tiny_fasta, "--domain", "protein", "--output", tmp_path),
        exit_code=3,
        says=("exists already", "never overwritten"),
    )
