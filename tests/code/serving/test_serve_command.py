"""What ``seqmlm code serve`` refuses, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqmlm.errors import CheckpointError, ConfigError
from seqmlm_domains.code.commands import serve
from seqmlm_domains.code.serving.language_service import parse_address
from seqmlm_domains.code.serving.settings import ServerSettings

RUN = Path("no/such/run")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8712", ("127.0.0.1", 8712)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:1", ("::1", 1)),
    ],
)
def test_addresses_of_this_machine_are_taken(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["8712", ":8712", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("text", ["0.0.0.0:8712", "192.168.1.1:8712", "example.org:80", "[::]:1"])
def test_other_machines_cannot_be_let_in(text: str) -> None:
    with pytest.raises(ConfigError, match="no authentication"):
        parse_address(text)


def test_one_of_the_two_services_is_said() -> None:
    with pytest.raises(ConfigError, match="either --lsp"):
        serve.run(RUN)
    with pytest.raises(ConfigError, match="either --lsp"):
        serve.run(RUN, lsp=True, http=True)


def test_an_address_of_lsp_is_none_of_http() -> None:
    with pytest.raises(ConfigError, match="--set port"):
        serve.run(RUN, http=True, tcp="127.0.0.1:1")


def test_a_run_that_is_not_there_is_told() -> None:
    with pytest.raises(CheckpointError, match="no/such/run"):
        serve.run(RUN, lsp=True, tcp="127.0.0.1:0")


def test_the_help_describes_every_setting() -> None:
    described = serve.EXAMPLES.split("Settings, for --config and --set:\n\n")[1].split("\n\n")
    assert described == [
        f"{name}: {field.description}" for name, field in ServerSettings.model_fields.items()
    ]
