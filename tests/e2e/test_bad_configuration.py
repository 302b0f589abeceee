"""Settings that cannot be used: one clear line with the dotted path, and exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from seqmlm_kernels.dispatch import why_unavailable

if TYPE_CHECKING:
    from tests.e2e.conftest import AssertRefused, Cli

SETTINGS = {
    "unknown key": ("model.layer=3", ("model.layer: unknown key", "Did you mean 'layers'?")),
    "unknown section": ("traning.steps=3", ("traning: unknown key", "Did you mean 'training'?")),
    "below the range": ("model.layers=0", ("model.layers = 0", "greater than or equal to 1")),
    "above the range": ("model.dropout=1.5", ("model.dropout = 1.5", "less than 1")),
    "wrong type": ("model.layers=two", ('model.layers = "two"', "integer")),
    "fraction for a count": ("training.steps=2.5", ("training.steps = 2.5", "integer")),
    "not a number": ("optimizer.learning_rate=nan", ("optimizer.learning_rate", "finite number")),
    "unknown choice": ("data.split=fair", ('data.split = "fair"', "'cluster' or 'random'")),
    "no room for a residue": ("data.max_length=2", ("data.max_length = 2", "or equal to 3")),
    "table for a value": ("model.layers.x=3", ("model.layers.x", "a value above it")),
    "value for a table": ("model=big", ('model = "big"', "valid dictionary")),
    "entry that is not there": ("objectives.4.name=mlm", ("objectives.4.name", "'4'")),
    "no value": ("model.layers", ("--set model.layers", "section.key=value")),
    "no key": ("=3", ("--set =3", "section.key=value")),
    "heads that do not divide": ("model.heads=5", ("model.heads = 5", "model.hidden_size = 32")),
    "odd head": ("model.heads=32", ("model.hidden_size / model.heads = 1 is odd", "learned")),
    "positions without a number": ("model.positions=learned", ("model.max_positions must be set",)),
    "unknown objective": ("objectives.0.name=mml", ("no objective called 'mml'", "'mlm'?")),
    "option of an objective": ("objectives.0.rate=0.3", ("objectives.0.rate", "no such option")),
    "unknown policy key": ("objectives.0.policy.rat=1", (".policy.rat: unknown key", "'rate'?")),
    "unknown selector": (
        'objectives.0.policy.selector={name="spam"}',
        ("no selector called 'spam'", "Did you mean 'span'?"),
    ),
    "option of a selector": (
        'objectives.0.policy.selector={name="span", length=3}',
        (".policy.selector.length", "no such option", "stop_probability, max_units"),
    ),
    "selector without a name": ("objectives.0.policy.selector=span", (".policy.selector", "table")),
    "unknown corruptor": (
        'objectives.0.policy.corruptor={name="mix"}',
        ("no corruptor called 'mix'", "Did you mean 'mixed'?"),
    ),
    "shares that are no whole": (
        'objectives.0.policy.corruptor={name="mixed", mask=0.5}',
        ("mask = 0.5, random = 0.1, keep = 0.1", "add up to 1"),
    ),
    "rate above 1": ("objectives.0.policy.rate=1.5", (".policy: rate = 1.5", "in (0, 1]")),
    "rate of text": ("objectives.0.policy.rate=much", (".policy", "rate = 'much'", "(0, 1]")),
    "unknown domain": ("domain.name=protien", ("no domain called 'protien'", "'protein'?")),
    "option of a domain": ("domain.gap=strip", ("domain.gap", "Did you mean 'gaps'?")),
    "value of a domain": ("domain.gaps=skip", ("domain.gaps is 'skip'", "refuse, strip, keep")),
    "unknown device": ("training.device=tpu", ("training.device = 'tpu'", "'cuda:N'")),
    "unknown backend": ("training.backend=cuda", ('training.backend = "cuda"', "'triton'")),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_cannot_be_used_is_refused_with_its_path(
    case: str, assert_refused: AssertRefused, tiny_config: str, tiny_fasta: Path, tmp_path: Path
) -> None:
    setting, says = SETTINGS[case]
    assert_refused(
        *("train", "--config", tiny_config, "--data", tiny_fasta, "--set", setting),
        *("--output", tmp_path / "run"),
        exit_code=2,
        says=says,
    )


@pytest.mark.parametrize("case", ["heads that do not divide", "option of a domain"])
def test_a_refused_run_leaves_its_folder_free_for_the_next_try(
    case: str,
    assert_refused: AssertRefused,
    train: Cli,
    tiny_config: str,
    tiny_fasta: Path,
    tmp_path: Path,
) -> None:
    setting, says = SETTINGS[case]
    assert_refused(
        *("train", "--config", tiny_config, "--data", tiny_fasta, "--set", setting),
        *("--output", tmp_path / "run"),
        exit_code=2,
        says=says,
    )
    train(tmp_path / "run", "--steps", 2)


def test_several_faults_are_all_named(cli: Cli, tiny_config: str, tiny_fasta: Path) -> None:
    settings = ("--set", "model.layer=3", "--set", "training.steps=0")
    outcome = cli("-q", "train", "--config", tiny_config, "--data", tiny_fasta, *settings)
    assert outcome.exit_code == 2
    assert "model.layer: unknown key" in outcome.stderr
    assert "training.steps = 0" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 2


FILES = {
    "syntax error": (b"[model]\nlayers = = 2\n", ("bad.toml", "not valid TOML", "line 2")),
    "not UTF-8": (b'domain = "\xe9"\n', ("bad.toml", "cannot be read")),
    "domain that is no table": (b'domain = "protein"\n', ("domain = 'protein'", "Write [domain]")),
    "domain name that is no text": (b"[domain]\nname = 3\n", ("domain.name = 3", "string")),
    "no domain": (b"[model]\nlayers = 2\n", ("No domain", "--domain NAME", "protein")),
}


@pytest.mark.parametrize("case", FILES)
def test_a_configuration_file_that_cannot_be_used_is_refused(
    case: str, assert_refused: AssertRefused, tmp_path: Path
) -> None:
    content, says = FILES[case]
    (tmp_path / "bad.toml").write_bytes(content)
    assert_refused("train", "--config", tmp_path / "bad.toml", exit_code=2, says=says)


def test_a_missing_configuration_file_is_named(
    assert_refused: AssertRefused, tmp_path: Path
) -> None:
    assert_refused(
        *("train", "--config", tmp_path / "absent.toml"),
        exit_code=2,
        says=("absent.toml", "cannot be read"),
    )


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("protien", ("no domain called 'protien'", "Did you mean 'protein'?", "Available:")),
        ("no_such_module:Domain", ("no module named 'no_such_module'", "PYTHONPATH")),
        ("seqmlm.domain:Domian", ("'seqmlm.domain' has no 'Domian'", "Did you mean 'Domain'?")),
    ],
    ids=["misspelt", "missing module", "misspelt class"],
)
def test_an_unknown_domain_is_refused_with_a_suggestion(
    name: str,
    says: tuple[str, ...],
    assert_refused: AssertRefused,
    tiny_fasta: Path,
    tmp_path: Path,
) -> None:
    assert_refused("train", "--domain", name, "--data", tiny_fasta, exit_code=2, says=says)
    assert_refused(
        *("prepare", tiny_fasta, "--domain", name, "--output", tmp_path / "store"),
        exit_code=2,
        says=says,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("command", ["train", "fill-mask", "score", "embed", "evaluate"])
def test_cuda_without_a_gpu_is_refused(
    command: str,
    assert_refused: AssertRefused,
    trained: Path,
    tiny_config: str,
    tiny_fasta: Path,
    tmp_path: Path,
) -> None:
    arguments: dict[str, tuple[object, ...]] = {
        "train": ("--config", tiny_config, "--data", tiny_fasta, "--output", tmp_path / "run"),
        "fill-mask": (trained, "MKT<mask>YIAK"),
        "score": (trained, tiny_fasta, "--json"),
        "embed": (trained, tiny_fasta, "--output", tmp_path / "vectors"),
        "evaluate": (trained,),
    }
    says = ("device = 'cuda'", "0 usable CUDA device(s)", "--device cpu")
    assert_refused(command, *arguments[command], "--device", "cuda", exit_code=2, says=says)


@pytest.mark.parametrize("backend", ["triton", "cuda"])
@pytest.mark.parametrize("command", ["train", "fill-mask", "score", "embed", "evaluate"])
def test_a_backend_that_cannot_run_is_refused(
    command: str,
    backend: str,
    assert_refused: AssertRefused,
    trained: Path,
    tiny_config: str,
    tiny_fasta: Path,
    tmp_path: Path,
) -> None:
    if backend == "triton" and why_unavailable("triton") is None and torch.cuda.is_available():
        pytest.skip("triton runs here")
    arguments: dict[str, tuple[object, ...]] = {
        "train": ("--config", tiny_config, "--data", tiny_fasta, "--output", tmp_path / "run"),
        "fill-mask": (trained, "MKT<mask>YIAK"),
        "score": (trained, tiny_fasta, "--json"),
        "embed": (trained, tiny_fasta, "--output", tmp_path / "vectors"),
        "evaluate": (trained,),
    }
    assert_refused(
        *(command, *arguments[command], "--backend", backend),
        exit_code=2,
        says=("backend", backend),
    )
