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
    settings, complaints = load_settings(
        file=file,
        environment={"SEQMLM_CODE_LIMIT": "2", "SEQMLM_CODE_MAX_BATCH": "2", "HOME": "/"},
        overrides=["max_batch=3"],
        options={"port": 4, "device": None},
    ).with_client_settings({"deadline_ms": 5})
    assert (settings.deadline_ms, settings.limit, settings.max_batch, settings.port) == (5, 2, 3, 4)
    assert settings.device == "auto"
    assert not complaints


def test_an_editor_may_name_the_section_of_the_server() -> None:
    sent = {"seqmlm": {"limit": 3}, "pylsp": {"plugins": {}}}
    settings, _ = ServerSettings().with_client_settings(sent)
    assert settings.limit == 3


@pytest.mark.parametrize("sent", [None, {}, {"seqmlm": None}], ids=repr)
def test_an_editor_without_wishes_changes_nothing(sent: Any) -> None:
    assert ServerSettings().with_client_settings(sent) == (ServerSettings(), [])


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"limit": "many"}, "limit"),
        ({"limit": 10**9}, "limit"),
        ({"roles": ["atribute"]}, "no role called 'atribute'. Did you mean 'attribute'"),
        ({"device": "cuda"}, "device cannot be set from there"),
        ({"newer": 1}, "newer cannot be set from there"),
        ([1], "not a list"),
        ({"seqmlm": "x"}, "not a str"),
    ],
    ids=repr,
)
def test_what_an_editor_may_not_set_is_told_and_left_out(sent: Any, message: str) -> None:
    settings, (complaint,) = ServerSettings().with_client_settings(sent)
    assert message in complaint
    assert settings == ServerSettings()


def test_what_is_wrong_is_told_in_plain_words() -> None:
    _, complaints = ServerSettings().with_client_settings({"roles": ["attribut"], "types": "int"})
    role, single = complaints
    assert "value error" not in role.lower()
    assert ".." not in role
    assert "it must be a list, such as ['int']" in single
    assert "tuple" not in single


def test_an_editor_may_ask_for_roles_and_types_alone() -> None:
    sent = {"roles": ["call", "Function"], "types": ["List"]}
    settings, complaints = ServerSettings().with_client_settings(sent)
    assert (settings.roles, settings.types) == (("call", "Function"), ("List",))
    assert not complaints


def test_one_wrong_setting_of_an_editor_does_not_cost_it_the_others() -> None:
    sent = {"deadline_ms": 20_000, "newer": 1, "limit": 0, "inline_probability": 0.25}
    settings, complaints = ServerSettings().with_client_settings(sent)
    assert (settings.deadline_ms, settings.inline_probability) == (20_000, 0.25)
    assert settings.limit == ServerSettings().limit
    assert ["newer" in complaints[0], "limit" in complaints[1]] == [True, True]
    assert len(complaints) == 2


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="deadline_ms"):
        load_settings(file=None, environment={"SEQMLM_CODE_DEADLINE": "3"})


def test_the_token_is_no_setting() -> None:
    settings = load_settings(file=None, environment={"SEQMLM_CODE_TOKEN": "s3cret"})
    assert "s3cret" not in repr(settings)
    with pytest.raises(ConfigError, match="token: unknown key"):
        load_settings(file=None, environment={}, overrides=["token=s3cret"])
