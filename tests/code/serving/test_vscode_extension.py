"""The extension for VS Code, as far as that can be tried without VS Code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.serving.language_names import language_named
from seqmlm_domains.code.serving.settings import CLIENT_SETTINGS, ServerSettings

EXTENSION = Path(__file__).parents[3] / "editors" / "vscode"
LOADER = Path(__file__).parent / "editors" / "load_extension.js"


@pytest.fixture
def contributed() -> dict[str, Any]:
    manifest = json.loads((EXTENSION / "package.json").read_text())
    properties: dict[str, Any] = manifest["contributes"]["configuration"]["properties"]
    return properties


def client_defaults() -> dict[str, Any]:
    """What a client sends whose user has set nothing."""
    return ServerSettings().model_dump(mode="json", include=set(CLIENT_SETTINGS))


def activate(**settings: Any) -> dict[str, Any]:
    """What the extension does with VS Code when it is activated, configured anew and left."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the extension for VS Code is not loaded")
    done = subprocess.run(
        [node, str(LOADER)],
        env=os.environ
        | {
            "EXTENSION": str(EXTENSION),
            "SETTINGS": json.dumps({f"seqmlm.{name}": value for name, value in settings.items()}),
        },
        capture_output=True,
        check=True,
        timeout=60,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_it_offers_the_settings_of_an_editor_with_their_defaults(
    contributed: dict[str, Any],
) -> None:
    defaults = client_defaults()
    offered = {
        name.removeprefix("seqmlm."): value["default"] for name, value in contributed.items()
    }
    assert offered == {"command": "seqmlm", "run": "", **defaults}


def test_a_repository_cannot_choose_what_is_run(contributed: dict[str, Any]) -> None:
    for name in ("command", "run"):
        assert contributed[f"seqmlm.{name}"]["scope"] == "machine"


def test_it_starts_the_server_for_the_languages_that_are_read() -> None:
    settings = client_defaults()
    told = activate(command="/bin/seqmlm", run="/runs/code", **settings)
    assert told["serverOptions"] == {
        "command": "/bin/seqmlm",
        "args": ["code", "serve", "/runs/code", "--lsp"],
    }
    languages = {chosen["language"] for chosen in told["clientOptions"]["documentSelector"]}
    assert {language_named(name) for name in languages} == set(LANGUAGES)
    assert told["clientOptions"]["initializationOptions"] == settings
    changed = {"settings": {"seqmlm": settings | {"limit": 3}}}
    assert told["notifications"] == [["workspace/didChangeConfiguration", changed]]
    assert told["started"]
    assert told["stopped"]


def test_without_a_run_it_says_what_to_do() -> None:
    told = activate(command="seqmlm", run="")
    assert "seqmlm.run" in told["warnings"][0]
    assert "serverOptions" not in told
