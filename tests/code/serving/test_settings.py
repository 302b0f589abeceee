"""Settings of the servers, from a file, the environment, the command line and the editor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqmlm.errors import ConfigError
from seqmlm_domains.code.serving.settings import ServerSettings, load_settings


def test_each_place_wins_over_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text("deadline_ms = 1\nlimit = 1\nmax_batch = 1\nport = 1\n")
    settings = load_settings(
        file=file,
        environment={"SEQMLM_CODE_LIMIT": "2", "SEQMLM_CODE_MAX_BATCH": "2", "HOME": "/"},
        overrides=["max_batch=3"],
        options={"port": 4, "device": None},
    ).with_client_settings({"deadline_ms": 5})
    assert (settings.deadline_ms, settings.limit, settings.max_batch, settings.port) == (5, 2, 3, 4)
    assert settings.device == "auto"


def test_an_editor_may_name_the_section_of_the_server() -> None:
    sent = {"seqmlm": {"limit": 3}, "pylsp": {"plugins": {}}}
    assert ServerSettings().with_client_settings(sent).limit == 3


@pytest.mark.parametrize("sent", [None, {}, {"seqmlm": None}], ids=repr)
def test_an_editor_without_wishes_changes_nothing(sent: Any) -> None:
    assert ServerSettings().with_client_settings(sent) == ServerSettings()


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"limit": "many"}, "limit"),
        ({"limit": 10**9}, "limit"),
        ({"device": "cuda"}, "device cannot be set from there"),
        ([1], "not a list"),
        ({"seqmlm": "x"}, "not a str"),
    ],
    ids=repr,
)
def test_what_an_editor_may_not_set_is_refused(sent: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServerSettings().with_client_settings(sent)


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="deadline_ms"):
        load_settings(file=None, environment={"SEQMLM_CODE_DEADLINE": "3"})


def test_the_token_is_no_setting() -> None:
    settings = load_settings(file=None, environment={"SEQMLM_CODE_TOKEN": "s3cret"})
    assert "s3cret" not in repr(settings)
    with pytest.raises(ConfigError, match="token: unknown key"):
        load_settings(file=None, environment={}, overrides=["token=s3cret"])
