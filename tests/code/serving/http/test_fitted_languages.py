"""What a service says of languages, whose run was fitted to one of them alone."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.mixture import Mixture
from seqmlm_domains.code.completion.project import Project
from tests.code.serving.http.served import body, served
from tests.code.serving.scripted_completer import ScriptedCompleter


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of a service that knows names of Java."""
    project = Project({"java": ContextTable.of([])}, {"java": Mixture.typical()}, {})
    with served(ScriptedCompleter(project=project)) as running, running.client() as made:
        yield made


def test_the_only_language_of_the_run_need_not_be_said(client: httpx.Client) -> None:
    sent = body()
    del sent["language"]
    answer = client.post("/v1/completions", json=sent).json()

    assert answer["candidates"]
    assert answer["notice"] is None


def test_the_languages_of_the_run_are_told(client: httpx.Client) -> None:
    assert client.get("/v1/health").json()["languages"] == ["java"]


def test_of_a_language_that_the_run_does_not_know_that_is_said(client: httpx.Client) -> None:
    answer = client.post("/v1/completions", json=body()).json()

    assert answer["candidates"]
    assert "fitted to no file in python, only to java" in answer["notice"]
