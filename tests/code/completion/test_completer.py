"""Completion with a really trained, tiny model."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seqmlm.cli import main
from seqmlm.errors import CheckpointError, ConfigError
from seqmlm.model.model import Model
from seqmlm_domains.code.completion import name_scorer
from seqmlm_domains.code.completion.completer import PARTS, Completer
from seqmlm_domains.code.completion.completion import CompletionRequest
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.mixture import TERMS, Mixture
from seqmlm_domains.code.completion.name_scorer import NameTokens
from seqmlm_domains.code.completion.project import Project, count_names
from seqmlm_domains.code.domain import CodeDomain
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_tokens import SourceTokens
from tests.code.sources import SOURCE


@pytest.fixture(scope="module")
def completer(code_run: Path) -> Completer:
    project = Project(count_names([SourceTokens.of(SOURCE, "python")]), {}, {})
    return Completer(Model.load(code_run), project)


def request(marked: str, *, language: str = "python", limit: int = 10) -> CompletionRequest:
    return CompletionRequest(
        source=marked.replace("|", "", 1),
        offset=marked.index("|"),
        language=language,
        limit=limit,
    )


def test_names_of_file_and_project_are_completed_from_their_prefix(completer: Completer) -> None:
    (found,) = completer.complete_batch([request("valid = 1\nprint(va|)")])
    assert found.used_model
    assert {item.text for item in found.completions} == {"valid", "value", "values"}
    for item in found.completions:
        assert (item.start, item.end) == (16, 18)
        assert set(item.parts) == set(PARTS)
        assert item.source in PARTS


def test_scores_are_log_probabilities_among_names_with_the_prefix(completer: Completer) -> None:
    names = completer.complete("print(va", 8, "python", limit=100)
    assert math.fsum(math.exp(item.score) for item in names) == pytest.approx(1)
    assert [item.score for item in names] == sorted((item.score for item in names), reverse=True)


def test_the_limit_keeps_the_best(completer: Completer) -> None:
    every = completer.complete("print(", 6, "python", limit=100)
    assert completer.complete("print(", 6, "python", limit=3) == every[:3]


def test_only_names_of_the_roles_asked_for_are_proposed(completer: Completer) -> None:
    source = "def ready(): pass\ntotal.amount\n"
    for roles, expected in (
        ({Role.FUNCTION}, {"ready", "total"}),
        ({Role.ATTRIBUTE}, {"listdir", "amount"}),
        ({Role.KEYWORD, Role.IMPORT}, {"start", "os"}),
        ({Role.CLASS}, set()),
    ):
        found = completer.complete(source, len(source), "python", roles=roles)
        assert {item.text for item in found} == expected


def test_with_roles_the_model_chooses_among_the_tokens_of_their_names(
    completer: Completer,
) -> None:
    cursor = Cursor.at(SourceTokens.of("x = value", "python"), 4)
    assert cursor is not None
    evidence = completer.evidence_at(cursor, roles=frozenset({Role.ATTRIBUTE}))
    domain = completer.model.domain
    assert isinstance(domain, CodeDomain)
    names = [evidence.names[number] for number in range(len(evidence.names))]
    allowed = completer._scorer._allowed_tokens(evidence, NameTokens.of(names, domain))
    assert allowed is not None
    assert set(np.flatnonzero(allowed.mask())) == set(
        domain.encode_texts(["listdir", "amount"]).ids
    )
    special = completer.model.vocabulary.special
    nothing = np.zeros(0, np.uint32)
    row, masks = name_scorer._gap(special, nothing, nothing, groups=(1,))
    (predicted,) = completer._scorer._predict([row], list(masks), [allowed])
    inside = allowed.mask()[completer._scorer._range]
    assert np.exp(predicted[inside]).sum() == pytest.approx(1, abs=1e-5)
    assert not np.exp(predicted[~inside]).any()


def test_the_lexical_answer_asks_no_model(completer: Completer) -> None:
    found = completer.complete_lexically(request("total = 1\nto|"))
    assert not found.used_model
    assert [item.text for item in found.completions] == ["total"]
    assert "model" not in found.completions[0].parts


def test_a_batch_answers_each_request_as_if_alone(completer: Completer) -> None:
    requests = [request("a.|b"), request("x = '|'"), request("value = |"), request("|")]
    together = completer.complete_batch(requests)
    for one, found in zip(requests, together, strict=True):
        (alone,) = completer.complete_batch([one])
        assert [item.text for item in found.completions] == [
            item.text for item in alone.completions
        ]
        assert [item.score for item in found.completions] == pytest.approx(
            [item.score for item in alone.completions], abs=1e-4
        )


def test_a_name_is_not_proposed_because_it_is_being_typed(completer: Completer) -> None:
    assert completer.complete("unheard", 7, "python") == []
    assert [item.text for item in completer.complete("unheard = 1\nunh", 15, "python")] == [
        "unheard"
    ]


def test_what_stands_behind_the_cursor_counts(completer: Completer) -> None:
    found = completer.complete("def f(): return zz\nzzz = 1\n", 18, "python")
    assert [item.text for item in found] == ["zzz"]


def test_nothing_is_known_of_an_empty_file_without_a_project(code_run: Path) -> None:
    found = Completer.load(code_run).complete_batch([request("|"), request("x|", language="java")])
    assert [len(result.completions) for result in found] == [0, 0]


@pytest.mark.parametrize(
    "source",
    ["(" * 100_000, "{[(" * 30_000 + "val", "a.b = c # d\r\n" * 20_000, "\0\ud800\U0001f600 = val"],
    ids=["brackets", "open brackets", "long", "no text"],
)
def test_hostile_sources_are_answered(completer: Completer, source: str) -> None:
    place = CompletionRequest(source=source, offset=len(source), language="python")
    (found,) = completer.complete_batch([place])
    assert found.completions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"language": "cobol"}, "language = 'cobol': it is one of python, java"),
        ({"offset": 9}, "offset = 9: the source has 4 characters"),
        ({"offset": -1}, "offset = -1"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(
    completer: Completer, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        completer.complete_batch([replace(request("x = |"), **changes)])  # type: ignore[arg-type]


def test_fitting_writes_what_completion_reads(
    code_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    Model.load(code_run).save(folder / "model")
    repository = code_run.parent / "repository"
    arguments = ["fit", str(folder), "--data", str(repository), "--positions", "100", "--json"]
    arguments += ["--held-out", str(repository / "module[01].py")]
    monkeypatch.setattr(sys, "argv", ["seqmlm", "code", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    report = json.loads(capsys.readouterr().out)
    assert set(report["python"]) == {"left", "both"}
    project = Project.load(folder)
    assert set(project.table("python").names) >= {"total0", "values", "amount"}
    weights = project.mixture("python").with_model["both"]
    assert not np.array_equal(weights, Mixture.unfitted().with_model["both"])
    fitted = Completer.load(folder).complete("amo", 3, "python")
    assert [item.text for item in fitted] == ["amount"]
    (folder / "completion" / "weights.json").write_text('{"weights": {"python": {}}')
    with pytest.raises(CheckpointError, match="Run `seqmlm code fit` again"):
        Completer.load(folder)


def test_weights_of_other_terms_are_refused() -> None:
    content = Mixture.unfitted().to_json()
    del content["with_model"]["left"][TERMS[0]]
    with pytest.raises(CheckpointError, match="this version adds up other terms"):
        Mixture.from_json(content)


def test_groups_of_masks_change_nothing_for_one_another(completer: Completer) -> None:
    scorer = completer._scorer
    left, right = np.array([550, 551], np.uint32), np.array([552], np.uint32)
    special = completer.model.vocabulary.special
    row, masks = name_scorer._gap(special, left, right, groups=(2, 3))
    alone, alone_masks = name_scorer._gap(special, left, right, groups=(2,))
    together = scorer._predict([row], list(masks), [None] * len(masks))
    by_itself = scorer._predict([alone], list(alone_masks), [None] * len(alone_masks))
    for place in range(2):
        np.testing.assert_allclose(together[place], by_itself[place], atol=1e-5)
    assert row.ids[: masks.start].tolist() == [special.start, 550, 551, 552, special.end]
    assert row.position_ids.tolist() == [0, 1, 2, 5, 6, 3, 4, 3, 4, 5]
