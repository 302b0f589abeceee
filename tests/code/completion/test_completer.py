"""Completion with a really trained, tiny model."""

from __future__ import annotations

import json
import math
import shutil
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
from seqmlm_domains.code.completion.project import Project, count_names, read_trained_length
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
    assert {item.text for item in found.completions} == {"valid", "value", "values", "vars"}
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
    gap = name_scorer._gap(special, nothing, nothing, groups=(1,))
    (predicted,), _ = completer._scorer._predict([gap.row], list(gap.positions), [allowed], [])
    inside = allowed.mask()[completer._scorer._range]
    assert np.exp(predicted[inside]).sum() == pytest.approx(1, abs=1e-5)
    assert not np.exp(predicted[~inside]).any()


def test_the_parts_of_a_name_add_up_to_its_lead_over_the_average_candidate(
    completer: Completer,
) -> None:
    for marked in ("print(va|", "value.|"):
        answers = [
            completer.complete_batch([request(marked, limit=10_000)])[0],
            completer.complete_lexically(request(marked, limit=10_000)),
        ]
        for found in answers:
            scores = np.array([item.score for item in found.completions])
            sums = [math.fsum(item.parts.values()) for item in found.completions]
            assert sums == pytest.approx(scores - scores.mean(), abs=1e-6)
            for item in found.completions:
                assert item.parts[item.source] == max(item.parts.values())


def test_of_a_single_candidate_no_part_is_said_to_favour_it(completer: Completer) -> None:
    (only,) = completer.complete("first_thing = 1\nfirst_th", 24, "python")
    assert (only.text, only.source) == ("first_thing", "only")
    assert set(only.parts.values()) == {0.0}


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


@pytest.mark.parametrize(
    ("marked", "names"),
    [
        pytest.param("myVariable = 1\nprint(MYV|)", {"myVariable"}, id="upper case"),
        pytest.param("class ConfigError: pass\nraise confige|", {"ConfigError"}, id="lower case"),
        pytest.param("Ready = 1\nprint(Read|)", {"Ready"}, id="as it is, where there is one"),
        pytest.param("Valid = 1\nprint(VALI|)", {"Valid"}, id="of the file"),
        pytest.param("Values = 1\nprint(VALUES|)", {"Values", "values"}, id="of both"),
    ],
)
def test_letter_case_counts_only_where_a_name_begins_exactly_so(
    completer: Completer, marked: str, names: set[str]
) -> None:
    (found,) = completer.complete_batch([request(marked)])
    assert {item.text for item in found.completions} == names
    source, offset = marked.replace("|", ""), marked.index("|")
    for item in found.completions:
        assert item.text.lower().startswith(source[item.start : item.end].lower())
        assert item.end == item.word_end == offset


@pytest.mark.parametrize("literal", ['f"hi {valu|', 'f"hi {valu|"', 'f"hi {valu|}"'])
def test_names_are_completed_in_the_hole_of_a_literal_closed_or_not(
    completer: Completer, literal: str
) -> None:
    (found,) = completer.complete_batch([request(f"return {literal}")])
    assert {item.text for item in found.completions} == {"value", "values"}


def test_of_a_long_text_the_places_are_those_of_the_whole(completer: Completer) -> None:
    source = "far = 1\n" + "near = value\n" * 60_000 + "print(neat)\n" + "far = 1\n" * 40_000
    offset = source.index("neat)") + 3
    (item,) = completer.complete(source, offset, "python")
    assert (item.text, item.start, item.end) == ("near", offset - 3, offset)
    assert item.word_end == offset + 1
    assert completer.complete(source.replace("neat)", "far)"), offset, "python", limit=1)


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
        ({"language": "Python"}, "Did you mean 'python'"),
        ({"limit": 0}, "limit = 0: it is at least 1"),
        ({"limit": -1}, "limit = -1"),
        ({"offset": 9}, "offset = 9: the source has 4 characters"),
        ({"offset": -1}, "offset = -1"),
        ({"limit": "5"}, "limit = '5': it must be of type int"),
        ({"limit": 2.5}, "limit = 2.5: it must be of type int"),
        ({"offset": "3"}, "offset = '3': it must be of type int"),
        ({"language": None}, "language = None: it must be of type str"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(
    completer: Completer, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        completer.complete_batch([replace(request("x = |"), **changes)])  # type: ignore[arg-type]


def test_roles_are_given_as_such_or_by_name(completer: Completer) -> None:
    by_name = completer.complete("x.", 2, "python", roles=["attribute", "Call"])
    assert by_name
    assert by_name == completer.complete("x.", 2, "python", roles=[Role.ATTRIBUTE, Role.CALL])
    with pytest.raises(ConfigError, match=r"no role called 'atribute'. Did you mean 'attr"):
        completer.complete("x.", 2, "python", roles=["atribute"])
    with pytest.raises(ConfigError, match="role called 'other'"):
        completer.complete("x.", 2, "python", roles=[Role.OTHER])


def test_an_empty_list_of_roles_or_types_asks_for_any(completer: Completer) -> None:
    of_any = completer.complete("x.", 2, "python")
    assert of_any
    assert completer.complete("x.", 2, "python", roles=[], types=[]) == of_any


def test_a_single_name_is_no_list_of_roles_or_types(completer: Completer) -> None:
    with pytest.raises(ConfigError, match=r"roles = 'call': give several, such as \['call'\]"):
        completer.complete("x.", 2, "python", roles="call")
    with pytest.raises(ConfigError, match=r"types = 'int': give several, such as \['int'\]"):
        completer.complete("x.", 2, "python", types="int")
    with pytest.raises(ConfigError, match="types: 3 is no name of a type"):
        completer.complete("x.", 2, "python", types=[3])  # type: ignore[list-item]


def test_learned_positions_are_used_as_far_as_they_were_trained(code_run: Path) -> None:
    model = Model.load(code_run)
    trained_length = read_trained_length(code_run)
    assert trained_length == read_trained_length(code_run / "model") == 48
    rotary = Completer(model, trained_length=trained_length)
    assert rotary._scorer._context_tokens == name_scorer.MOST_CONTEXT
    config = replace(model.encoder.config, positions="learned", max_positions=200)
    model.encoder.config = config
    for known, expected in ((trained_length, 48), (None, 200)):
        completer = Completer(model, trained_length=known)
        assert completer._scorer._context_tokens == expected


def test_a_run_that_was_never_fitted_is_used_with_a_warning(
    code_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Completer.load(code_run)
    assert "was never fitted to a project" in caplog.text
    assert "seqmlm code fit" in caplog.text


@pytest.mark.parametrize("step", ["new_directory", "write_file", "remove_directory"])
def test_a_project_that_is_saved_anew_is_the_old_or_the_new_one_whenever_it_ends(
    code_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    shutil.copytree(code_run / "model", tmp_path / "model")
    projects = [
        Project(count_names([SourceTokens.of(text, "python")]), {"python": Mixture.typical()}, {})
        for text in ("old = 1", "new = 1")
    ]
    assert not Project.load(tmp_path).is_fitted
    projects[0].save(tmp_path)

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"seqmlm_domains.code.completion.project.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            projects[1].save(tmp_path)
    expected = "new" if step == "remove_directory" else "old"
    found = Project.load(tmp_path)
    assert found.is_fitted
    assert found.table("python").names == (expected,)
    folder = projects[1].save(tmp_path)
    assert Project.load(tmp_path).table("python").names == ("new",)
    assert len(list(folder.iterdir())) == 2


def test_the_command_completes_names_of_given_roles(
    code_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "a.py"
    file.write_text("total.amount = limit(x)\n")
    command = ["complete", str(code_run), "--file", str(file), "--line", "2", "--column", "1"]
    names = {}
    for roles in (["attribute"], ["attribute", "call"]):
        options = [part for role in roles for part in ("--role", role)]
        monkeypatch.setattr(sys, "argv", ["seqmlm", "code", *command, *options, "--json"])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        names[len(roles)] = {item["text"] for item in json.loads(capsys.readouterr().out)}
    assert names == {1: {"amount"}, 2: {"amount", "limit"}}


def test_fitting_writes_what_completion_reads(
    code_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    folder = tmp_path / "run"
    folder.mkdir()
    Model.load(code_run).save(folder / "model")
    repository = code_run.parent / "repository"
    others = tmp_path / "others"
    others.mkdir()
    (others / "binary.py").write_bytes(b"x = 1\0")
    (others / "A.java").write_text("class A { int x; }\n")
    arguments = ["fit", str(folder), "--data", str(repository), "--positions", "100", "--json"]
    arguments += ["--data", str(others)]
    arguments += ["--held-out", str(repository / "module[01].py")]
    monkeypatch.setattr(sys, "argv", ["seqmlm", "code", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "dropped: binary: a NUL byte: 1" in caplog.text
    assert "java: the held-out files hold too few names" in caplog.text
    written = capsys.readouterr()
    report = json.loads(written.out)
    assert set(report["python"]) == {"left", "both"}
    for phase in ("reading", "counting names", "asking the model", "weighing the parts"):
        assert phase in written.err
    project = Project.load(folder)
    assert set(project.table("python").names) >= {"total0", "values", "amount"}
    weights = project.mixture("python").with_model["both"]
    assert not np.array_equal(weights, Mixture.typical().with_model["both"])
    fitted = Completer.load(folder).complete("amo", 3, "python")
    assert [item.text for item in fitted] == ["amount"]
    weights_file = folder / "completion" / "weights.json"
    content = json.loads(weights_file.read_text())
    del content["version"]  # as the first version wrote it
    weights_file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"of version 1.*Run `seqmlm code fit` again"):
        Completer.load(folder)
    weights_file.write_text('{"weights": {"python": {}}')
    with pytest.raises(CheckpointError, match="Run `seqmlm code fit` again"):
        Completer.load(folder)


def test_weights_of_other_terms_are_refused() -> None:
    content = Mixture.typical().to_json()
    of_left = content["with_model"]["left"]
    del of_left["exception"]  # as of an earlier version
    known = Mixture.from_json(content)
    for sides, weights in Mixture.typical().with_model.items():
        assert np.array_equal(known.with_model[sides], weights)
    del of_left[TERMS[0]]
    with pytest.raises(CheckpointError, match="this version adds up other terms"):
        Mixture.from_json(content)


def test_groups_of_masks_change_nothing_for_one_another(completer: Completer) -> None:
    scorer = completer._scorer
    left, right = np.array([550, 551], np.uint32), np.array([552], np.uint32)
    special = completer.model.vocabulary.special
    both = name_scorer._gap(special, left, right, groups=(2, 3))
    alone = name_scorer._gap(special, left, right, groups=(2,))
    together, by_itself = (
        scorer._predict([gap.row], list(gap.positions), [None] * len(gap.positions), [])[0]
        for gap in (both, alone)
    )
    for place in range(2):
        np.testing.assert_allclose(together[place], by_itself[place], atol=1e-5)
    row, masks = both.row, both.positions
    assert row.ids[: masks.start].tolist() == [special.start, 550, 551, 552, special.end]
    assert row.position_ids.tolist() == [0, 1, 2, 5, 6, 3, 4, 3, 4, 5]
