"""Names predicted by way of their types, and names of asked types alone, in Java."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from seqmlm.cli import main
from seqmlm.config import configure
from seqmlm.data.packing import pack
from seqmlm.errors import CheckpointError
from seqmlm.model.model import Model
from seqmlm.model.model_folder import OBJECTIVES_FILE, file_sha256
from seqmlm.objectives.rows import Row, Targets, TrainedObjective
from seqmlm.objectives.typed_mlm import Condition, TypedMaskedLanguageModelling, in_order
from seqmlm.training.loop import train
from seqmlm.vocabulary import AllowedTokens
from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.completion.completion import CompletionRequest, CompletionResult
from seqmlm_domains.code.completion.cursor import Cursor
from seqmlm_domains.code.completion.name_scorer import MOST_MASKS, _MaskedName
from seqmlm_domains.code.completion.project import Project, count_names
from seqmlm_domains.code.completion.type_stage import TypeStage
from seqmlm_domains.code.domain import CodeDomain
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_tokens import SourceTokens
from tests.code.completion.java_sources import ENTRY, LEDGER, write_project

TINY = Path(__file__).parents[3] / "configs" / "tiny" / "code.toml"
PLACE = "§"


@pytest.fixture(scope="module")
def typed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that learned types and names of a small Java project."""
    folder = tmp_path_factory.mktemp("typed_run")
    overrides = [
        "objectives=[{name='typed_mlm', policy={per='unit', rate=0.3, selector={name='unit'}}}]",
        *("domain.language='java'", "domain.maskable='identifiers'"),
        *("domain.passage_characters=2000", "data.max_length=256"),
        *("training.steps=20", "training.evaluate_every=20", "training.checkpoint_every=20"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMLM_CACHE", str(folder / "cache"))
        project = str(write_project(folder / "project"))
        train(
            configure(domain="code", sources=[project], files=[TINY], overrides=overrides),
            folder / "run",
        )
    return folder / "run"


@pytest.fixture(scope="module")
def completer(typed_run: Path) -> Completer:
    """It knows the project; its model is the trained one."""
    project = Project(
        count_names([SourceTokens.of(text, "java") for text in (LEDGER, ENTRY)]), {}, {}
    )
    model = Model.load(typed_run)
    return Completer(model, project, type_stage=TypeStage.load(typed_run, model))


def request(marked: str, *types: str, limit: int = 100) -> CompletionRequest:
    source, offset = marked.replace(PLACE, ""), marked.index(PLACE)
    wanted = frozenset(types) if types else None
    return CompletionRequest(
        source=source, offset=offset, language="java", limit=limit, types=wanted
    )


def in_ledger(before: str, behind: str, *types: str) -> CompletionRequest:
    """A place in a file of the project; its own text is given up to where it is due."""
    assert LEDGER.count(before) == 1
    start = LEDGER.index(before) + len(before)
    end = LEDGER.index(behind, start)
    return request(LEDGER[:start] + PLACE + LEDGER[end:], *types)


def answer(completer: Completer, asked: CompletionRequest) -> CompletionResult:
    (found,) = completer.complete_batch([asked])
    return found


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(in_ledger("String label = ", ";"), "String", id="an initial value"),
        pytest.param(in_ledger("        best = ", ";"), "Entry", id="an assigned value"),
        pytest.param(in_ledger("return best", ";"), "Entry", id="a returned value, half typed"),
        pytest.param(in_ledger("private long ", ";"), "long", id="a field"),
        pytest.param(in_ledger("public void add(Entry ", ")"), "Entry", id="a parameter"),
        pytest.param(in_ledger("public String ", "()"), "String", id="a method"),
    ],
)
def test_the_type_that_the_source_gives_is_taken(
    completer: Completer, asked: CompletionRequest, expected: str
) -> None:
    (only,) = answer(completer, asked).types
    assert only.name == expected
    assert only.probability == pytest.approx(1)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(in_ledger("balance += ", "."), id="an object"),
        pytest.param(in_ledger("int count = ", ".size"), id="an object in an initial value"),
        pytest.param(
            request(f"class A {{ String f() {{ String x = {PLACE}\n }} }}"), id="what may go on"
        ),
    ],
)
def test_where_the_source_gives_none_the_model_expects_types(
    completer: Completer, asked: CompletionRequest
) -> None:
    types = answer(completer, asked).types
    probabilities = [each.probability for each in types]
    assert len(types) == 3
    assert probabilities == sorted(probabilities, reverse=True)
    assert math.fsum(probabilities) < 1
    assert "<none>" not in {each.name for each in types}


@pytest.mark.parametrize(
    ("marked", "condition"),
    [
        ("class A { String owner; String f() { return §; } }", Condition.DECLARED),
        ("class A { String owner; void f() { g(§); } }", Condition.PREDICTED),
    ],
    ids=["declared", "predicted"],
)
def test_names_are_scored_as_in_training(
    completer: Completer, typed_run: Path, marked: str, condition: Condition
) -> None:
    """Against the loss of the objective for the same hidden name."""
    model = Model.load(typed_run)
    domain = model.domain
    assert isinstance(domain, CodeDomain)
    objective = TypedMaskedLanguageModelling(domain)
    model.add_objective_modules([objective])
    model.load_state_dict(load_file(typed_run / "model" / OBJECTIVES_FILE), strict=False)
    (label,) = domain.encode_texts(["owner"]).ids
    mask = model.vocabulary.special.mask
    encoding = domain.parse(marked.replace(PLACE, model.vocabulary.tokens[mask]))
    places = np.flatnonzero(encoding.ids == mask).astype(np.int32)
    labels = np.array([label], np.int32)
    string = np.array([domain.declared_types.index("String")], np.int32)
    conditions = np.array([condition], np.int32)
    targets = {
        "typed_mlm": Targets(places, labels, domain.allowed_at(labels)),
        "typed_mlm.types": Targets(places, string),
        "typed_mlm.conditions": Targets(places, conditions),
    }
    batch = pack([Row.of(encoding, targets=targets)])
    with model.inference():
        states = objective.token_states(model, model(batch), batch)
        (loss,) = model.token_losses(states, in_order(batch.targets_for("typed_mlm"))).tolist()

    asked = request(marked)
    evidence = completer.evidence(asked)
    assert evidence is not None
    tokens = completer._tokens_of(evidence)
    (scores,) = completer._scorer.score([(evidence, tokens)])
    (number,) = (n for n in range(len(evidence.names)) if evidence.names[n] == "owner")
    assert -scores.log_likelihoods[number] == pytest.approx(loss, abs=1e-4)
    unaware = Completer(completer.model, completer.project)
    (plain,) = unaware._scorer.score([(evidence, tokens)])
    assert abs(plain.log_likelihoods[number] - scores.log_likelihoods[number]) > 1e-4
    assert plain.types == ()


def test_only_names_of_the_types_asked_for_are_proposed(completer: Completer) -> None:
    for types, expected in (
        (("String",), {"owner", "label", "describe"}),
        (("int", "boolean"), {"count", "factor", "isLarger"}),
        (("Unheard",), set()),
    ):
        found = answer(completer, in_ledger("balance += ", ".", *types))
        assert {item.text for item in found.completions} == expected
        assert {item.type for item in found.completions} <= set(types)
        if expected:
            assert math.fsum(math.exp(item.score) for item in found.completions) == pytest.approx(1)
            assert {each.name for each in found.types} <= set(types)


def test_types_of_the_open_file_count_beside_those_of_the_project(completer: Completer) -> None:
    marked = "class A { int fresh; void f(String owner) { g(§); } }"
    found = answer(completer, request(marked, "int"))
    assert {item.text for item in found.completions} == {"fresh", "count", "factor"}
    by_role = replace(request(marked, "int"), types=None)
    (of_any,) = (x for x in answer(completer, by_role).completions if x.text == "owner")
    assert of_any.type == "String"


def test_where_a_name_is_bound_its_own_declaration_decides(completer: Completer) -> None:
    marked = "class A { void f(String count, int... rest) { var factor = 1; g(§); } }"
    assert {item.text for item in answer(completer, request(marked, "int")).completions} == set()
    for types, expected in (("String", "count"), ("int[]", "rest")):
        found = {
            item.text: item.type for item in answer(completer, request(marked, types)).completions
        }
        assert found[expected] == types
        assert "factor" not in found
    other = "class A { void f(int a) { other.§ } }"
    assert {item.text for item in answer(completer, request(other, "int")).completions} >= {"count"}


def test_a_name_is_shown_as_what_it_has_the_asked_type_as(completer: Completer) -> None:
    marked = """class A {
  static class B { int next; long wide() { return 1; } }
  int next() { return 1; }
  long f(long given) { Object other = given; return §; }
}"""
    for types, expected in (
        (("long",), {"given": (Role.PARAMETER, "long"), "f": (Role.FUNCTION, "long")}),
        (("int",), {"next": (Role.FUNCTION, "int"), "count": (Role.VARIABLE, "int")}),
        (("String",), {"describe": (Role.FUNCTION, "String"), "owner": (Role.VARIABLE, "String")}),
    ):
        found = answer(completer, request(marked, *types)).completions
        shown = {item.text: (item.role, item.type) for item in found}
        assert expected.items() <= shown.items()


def test_types_and_roles_both_bind(completer: Completer) -> None:
    asked = request("class A { void f(Ledger x) { x.§ } }", "long")
    source, offset = asked.source, asked.offset
    names = completer.complete(
        source, offset, "java", roles=["function"], types=["long"], limit=100
    )
    assert {item.text for item in names} == {"balance", "amount"}


def test_what_is_not_allowed_has_probability_zero_in_both_stages(completer: Completer) -> None:
    asked = in_ledger("balance += ", ".", "String")
    cursor = Cursor.at(SourceTokens.of(asked.source, "java"), asked.offset)
    assert cursor is not None
    evidence = completer.evidence_at(cursor, types=asked.types)
    scorer, stage = completer._scorer, completer.type_stage
    assert stage is not None
    tokens = completer._tokens_of(evidence)
    allowed = scorer._allowed_tokens(evidence, tokens)
    assert allowed is not None
    domain = completer.model.domain
    assert isinstance(domain, CodeDomain)
    names = ("owner", "label", "describe")
    theirs = {id for name in names for id in domain.encode_texts([name]).ids[:MOST_MASKS].tolist()}
    assert set(np.flatnonzero(allowed.mask()).tolist()) == theirs
    row = scorer._rows(evidence)[0]
    name = _MaskedName(range(1), scorer._allowed_types(evidence))
    (predicted,), _ = scorer._predict([row.row], list(row.positions), [allowed], [name])
    inside = allowed.mask()[scorer._range]
    assert np.exp(predicted[inside]).sum() == pytest.approx(1, abs=1e-5)
    assert not np.exp(predicted[~inside]).any()

    states = torch.randn(2, completer.model.encoder.config.hidden_size)
    two = stage.allowed(["String", "long"])
    free, held = stage.probabilities(states, [None, two])
    assert free[0] == 0, "no type is none"
    assert (free[1:] > 0).all()
    assert held.sum().item() == pytest.approx(1, abs=1e-6)
    assert set(held.nonzero()[:, 0].tolist()) == set(np.flatnonzero(two.mask()).tolist())


def test_a_type_that_the_model_does_not_tell_apart_is_an_unknown_one(completer: Completer) -> None:
    stage = completer.type_stage
    assert stage is not None
    types = completer.model.domain.declared_types
    unknown = AllowedTokens.of([types.index("<unknown>")], len(types))
    assert np.array_equal(stage.allowed(["Unheard"]).words, unknown.words)


def test_a_model_that_reads_from_left_to_right_there_expects_no_types(
    completer: Completer,
) -> None:
    objective = TrainedObjective("clm", "left_to_right", None)
    model = completer.model
    earlier = model.trained_objectives
    model.trained_objectives = (*earlier, objective)
    try:
        causal = Completer(model, completer.project, type_stage=completer.type_stage)
    finally:
        model.trained_objectives = earlier
    asked = in_ledger("String label = ", ";", "String")
    cut = replace(asked, source=asked.source[: asked.offset])
    found = answer(causal, cut)
    assert {item.text for item in found.completions} == {"owner", "label", "describe"}
    assert found.types == ()
    assert answer(causal, asked).types


def test_a_run_without_a_type_stage_has_none_and_a_damaged_one_is_refused(
    typed_run: Path, tmp_path: Path
) -> None:
    model = Model.load(typed_run)
    model.save(tmp_path / "plain")
    assert TypeStage.load(tmp_path / "plain", model) is None
    objective = TypedMaskedLanguageModelling(model.domain)
    model.add_objective_modules([objective])
    model.save(tmp_path / "typed")
    assert TypeStage.load(tmp_path / "typed", model) is not None
    path = tmp_path / "typed" / OBJECTIVES_FILE
    weights = load_file(path)
    del weights["objective_modules.typed_mlm.join.bias"]
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=OBJECTIVES_FILE):
        TypeStage.load(tmp_path / "typed", model)
    config = tmp_path / "typed" / "config.json"
    content = json.loads(config.read_text()) | {"objectives_sha256": file_sha256(path)}
    config.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"join\.bias"):
        TypeStage.load(tmp_path / "typed", model)


def test_the_command_completes_names_of_given_types(
    typed_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = in_ledger("String label = ", ";")
    file = tmp_path / "Ledger.java"
    file.write_text(asked.source)
    command = ["complete", str(typed_run), "--file", str(file), "--offset", str(asked.offset)]
    outputs = []
    for options in (
        ["--type", "long", "--type", "int", "--json"],
        ["--type", "String"],
        ["--type", "Strin"],
    ):
        monkeypatch.setattr(sys, "argv", ["seqmlm", "code", *command, *options])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        outputs.append(capsys.readouterr().out)
    found = {item["text"]: item["type"] for item in json.loads(outputs[0])}
    assert found == {"balance": "long", "count": "int"}
    assert outputs[1].startswith("expected type: String 1.00\n")
    assert "owner: String" in outputs[1]
    assert outputs[2] == "No name of the project is declared with type 'Strin'.\n"
