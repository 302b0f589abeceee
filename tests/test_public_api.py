"""What users rely on by name. A change here is a change of the interface: say so in the log."""

from __future__ import annotations

import pytest
import typer

import seqmlm
from seqmlm.cli import app

COMMANDS = {
    "train": "domain data config output set init steps seed device backend resume allow-drift "
    "dry-run "
    "json",
    "evaluate": "data device backend tokens-per-batch json",
    "finetune": "task data validation test column output config set epochs learning-rate freeze "
    "from-scratch seed device resume json",
    "predict": "output evaluate device backend tokens-per-batch json",
    "fill-mask": "top-k device backend json",
    "score": "device backend tokens-per-batch json",
    "embed": "output pooling dtype shard-records device backend tokens-per-batch",
    "prepare": "domain output set",
    "import-hf": "output domain revision",
    "export-hf": "output",
    "domains": "json",
    "doctor": "",
}  # fmt: skip


def test_the_commands_are_these() -> None:
    group = typer.main.get_command(app)
    assert set(COMMANDS) <= set(group.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_of_a_command_are_these(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    options = [text for option in command.params for text in option.opts if text.startswith("--")]
    assert sorted(options) == sorted(f"--{option}" for option in COMMANDS[name].split())


def test_the_public_names_are_these_and_all_of_them_load() -> None:
    assert seqmlm.__all__ == [
        "AllowedTokens",
        "DataError",
        "Domain",
        "Encoding",
        "FineTunedModel",
        "Model",
        "ReadReport",
        "Record",
        "SeqmlmError",
        "SpecialTokens",
        "TokenBlock",
        "Vocabulary",
        "configure",
        "configure_finetuning",
        "finetune",
        "from_pretrained",
        "load",
        "read_embeddings",
        "train",
    ]
    for name in seqmlm.__all__:
        assert getattr(seqmlm, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'seqmlm' has no attribute 'Modle'"):
        seqmlm.Modle  # noqa: B018


def test_every_public_name_is_listed_by_dir() -> None:
    assert set(seqmlm.__all__) <= set(dir(seqmlm))
