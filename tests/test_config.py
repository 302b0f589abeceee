"""The configuration: where values come from, what is refused, and how it is said."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm.config import (
    RunConfig,
    apply_override,
    configure,
    merge,
    read_config_file,
    validate,
)
from seqmlm.domain import build_domain
from seqmlm.errors import ConfigError, UnknownNameError
from seqmlm.training.building import build_objectives
from seqmlm_domains.protein.domain import ProteinDomain

MINIMAL: dict[str, Any] = {"domain": {"name": "protein"}, "data": {"sources": ["a.fasta"]}}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_file(content: str, name: str = "run.toml") -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write_file


def overridden(*assignments: str) -> RunConfig:
    return configure(domain="protein", sources=["a.fasta"], overrides=assignments)


# Reading and writing


def test_resolved_configuration_survives_writing_and_reading(write: Any) -> None:
    given = overridden(
        "optimizer.learning_rate=0.000123456789012345",
        "training.seed=9223372036854775807",
        "objectives.0.policy.selector={name='span', stop_probability=0.3}",
        "domain.gaps=strip",
        'data.sources=["ä b.fasta", "-"]',
    )
    again = validate(read_config_file(write(given.to_toml())))
    assert again == given
    assert again.to_toml() == given.to_toml()
    assert again.data.sources == ["ä b.fasta", "-"]


def test_options_that_are_not_set_are_left_out_of_the_file() -> None:
    """TOML has no null."""
    written = validate(MINIMAL | {"domain": {"name": "protein", "clusters": None}}).to_toml()
    assert tomllib.loads(written)["domain"] == {"name": "protein"}


def test_configurations_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        overridden().training.steps = 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a = ", "not valid TOML"),
        ("[training]\nsteps = \nseed = 1", "not valid TOML.*line 2"),
        ("a = " + "[" * 20_000, "not valid TOML"),
        ("a = " + "9" * 5_000, "not valid TOML"),
    ],
    ids=["unfinished", "no value", "deeply nested", "5,000 digits"],
)
def test_broken_files_are_named(write: Any, content: str, message: str) -> None:
    path = write(content)
    with pytest.raises(ConfigError, match=f"--config {path}: {message}"):
        read_config_file(path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin1.toml").write_bytes("a = 'ü'".encode("latin-1"))
    for path in (tmp_path / "absent.toml", tmp_path, tmp_path / "latin1.toml"):
        with pytest.raises(ConfigError, match=f"--config {path}: cannot be read"):
            read_config_file(path)


# Precedence


def test_values_come_from_the_core_the_domain_the_file_and_the_flags_in_this_order(
    write: Any,
) -> None:
    file = write("[training]\nsteps = 7\nseed = 7\n[optimizer]\nwarmup_steps = 7")
    built = configure(
        domain="protein", sources=["a.fasta"], files=[file], overrides=["training.seed=8"]
    )
    assert built.training.tokens_per_batch == 8192  # the core's
    assert built.objectives[0].model_extra == {"policy": {"rate": 0.15}}  # the domain's
    assert (built.training.steps, built.optimizer.warmup_steps) == (7, 7)  # the file's
    assert built.training.seed == 8  # the flag's


def test_later_files_and_overrides_win(write: Any) -> None:
    first = write("[training]\nsteps = 1\nseed = 1\nlog_every = 1", "first.toml")
    second = write("[training]\nsteps = 2\nseed = 2", "second.toml")
    built = configure(
        domain="protein",
        sources=["a.fasta"],
        files=[first, second],
        overrides=["training.seed=3", "training.seed=4"],
    )
    assert (built.training.log_every, built.training.steps, built.training.seed) == (1, 2, 4)


def test_a_resumed_configuration_lies_below_the_files(write: Any) -> None:
    resumed = write(overridden("training.steps=5", "training.seed=5").to_toml(), "config.toml")
    file = write("[training]\nsteps = 6", "more.toml")
    built = configure(domain=None, files=[file], resumed=resumed)
    assert (built.training.steps, built.training.seed) == (6, 5)
    assert built.domain.name == "protein"


def test_without_data_the_bundled_run_is_used_and_may_be_overridden() -> None:
    built = configure(domain="protein", overrides=["model.dropout=0.2"])
    assert built.data.sources[0].endswith("blactamase_family.fasta.gz")
    assert built.objectives[0].model_extra == {"policy": {"rate": 0.4}}
    assert built.model.dropout == 0.2


@pytest.mark.parametrize("how", ["argument", "file", "override"])
def test_with_data_nothing_of_the_bundled_run_is_used(write: Any, how: str) -> None:
    built = configure(
        domain="protein",
        sources=["a.fasta"] if how == "argument" else [],
        files=[write('data.sources = ["a.fasta"]')] if how == "file" else [],
        overrides=['data.sources=["a.fasta"]'] if how == "override" else [],
    )
    assert built.data.sources == ["a.fasta"]
    assert built.model.dropout == 0.0
    assert built.objectives[0].model_extra == {"policy": {"rate": 0.15}}


def test_sources_replace_those_of_the_file(write: Any) -> None:
    file = write('[data]\nsources = ["file.fasta"]\nmax_length = 99')
    built = configure(domain="protein", sources=["given.fasta"], files=[file])
    assert (built.data.sources, built.data.max_length) == (["given.fasta"], 99)


def test_tables_merge_and_lists_are_replaced() -> None:
    base = {"a": {"b": 1, "c": 2}, "list": [1, 2]}
    assert merge(base, {"a": {"c": 3}, "list": [4]}) == {"a": {"b": 1, "c": 3}, "list": [4]}
    assert base == {"a": {"b": 1, "c": 2}, "list": [1, 2]}


def test_defaults_that_a_domain_hands_out_are_never_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = ProteinDomain.default_config()
    monkeypatch.setattr(ProteinDomain, "default_config", classmethod(lambda domain: shared))
    overridden("objectives.0.policy.rate=0.9")
    assert overridden().objectives[0].model_extra == {"policy": {"rate": 0.15}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[training]\nsteps = 3", r"No domain: say --domain NAME \(.*protein.*\), or --config"),
        ('domain = "protein"', r"domain = 'protein': it must be a table. Write \[domain\]"),
        ('data = "a"\n[domain]\nname = "protein"', "data = 'a': it must be a table"),
        ("[domain]\nname = 5", "domain.name = 5: it must be a string"),
    ],
    ids=["none", "string", "data string", "number"],
)
def test_a_run_needs_a_domain(write: Any, content: str, message: str) -> None:
    """`domain = "protein"` instead of a table ended in a traceback once."""
    with pytest.raises(ConfigError, match=message):
        configure(domain=None, files=[write(content)])


def test_an_unknown_domain_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"no domain called 'protien'\. Did you mean"):
        configure(domain="protien", sources=["a.fasta"])


# Overrides


@pytest.mark.parametrize(
    "path", ["objectives.0.policy.rate", "objectives[0].policy.rate", " objectives[0].policy.rate "]
)
def test_entries_of_lists_are_reached_by_number(path: str) -> None:
    assert overridden(f"{path}=0.3").objectives[0].model_extra == {"policy": {"rate": 0.3}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("'a b'", "a b"),
        ("a b", "a b"),
        ("[1, 2]", [1, 2]),
        ("{a = 1}", {"a": 1}),
        (" 3 ", 3),
        ("x=y", "x=y"),
        ("", ""),
        ("9" * 5000, "9" * 5000),
        ("[" * 20_000, "[" * 20_000),
    ],
    ids=["integer", "float", "boolean", "quoted", "bare", "list", "table", "blanks", "equals",
         "empty", "5,000 digits", "deeply nested"],
)  # fmt: skip
def test_values_are_read_as_toml_and_else_as_strings(text: str, value: object) -> None:
    settings: dict[str, Any] = {}
    apply_override(settings, f"section.key={text}")
    assert settings == {"section": {"key": value}}


def test_absent_tables_are_created_on_the_way() -> None:
    settings: dict[str, Any] = {"objectives": [{"name": "mlm"}]}
    apply_override(settings, "objectives.0.policy.corruptor.mask=1.0")
    assert settings == {"objectives": [{"name": "mlm", "policy": {"corruptor": {"mask": 1.0}}}]}


def test_whole_entries_of_lists_can_be_replaced() -> None:
    settings: dict[str, Any] = {"objectives": [{"name": "mlm"}]}
    apply_override(settings, "objectives[0]={name='other'}")
    assert settings == {"objectives": [{"name": "other"}]}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.steps", "--set training.steps: write it as section.key=value"),
        ("=3", "write it as section.key=value"),
        ("objectives.1.weight=2", "'1' is not one of the entries 0 to 0"),
        ("objectives[-1].weight=2", "'-1' is not one of the entries"),
        ("objectives.²=2", "'²' is not one of the entries"),
        ("objectives.first.weight=2", "'first' is not one of the entries"),
        ("model.layers.x=2", "'x' does not lead anywhere: there is a value above it"),
        ("model.layers.x.y=2", "'x' does not lead anywhere"),
    ],
)
def test_paths_that_lead_nowhere_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overridden(assignment)


PATHS = st.lists(
    st.sampled_from(
        [
            *("domain", "name", "gaps", "data", "sources", "model", "layers", "objectives", "0"),
            *("policy", "selector", "corruptor", "mask", "rate", "per", "weight", "optimizer"),
            *("betas", "training", "steps", "seed"),
        ]
    )
    | st.text(max_size=5),
    max_size=5,
).map(".".join)
VALUES = st.text(max_size=10) | st.sampled_from(
    ["nan", "-inf", "1e308", "-1", "0", "0.5", "true", "[]", "[[1]]", "{}", "{name = 5}", "''",
     "'span'", "2020-01-01", "9" * 30]
)  # fmt: skip


@settings(max_examples=300)
@given(path=PATHS, text=VALUES)
def test_no_override_fails_otherwise_than_with_a_config_error(path: str, text: str) -> None:
    try:
        built = overridden(f"{path}={text}")
        build_objectives(built, build_domain(built.domain.model_dump()))
    except ConfigError:
        return
    assert isinstance(built, RunConfig)


# Validation


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("trainin.steps=3", r"trainin: unknown key\. Did you mean 'training'\? Known here: data"),
        ("training.stpes=3", r"training\.stpes: unknown key\. Did you mean 'steps'\?"),
        ("model.hiden_size=3", r"model\.hiden_size: unknown key\. Did you mean 'hidden_size'\?"),
        ("optimizer.lr=3", r"optimizer\.lr: unknown key\..* Known here: betas, clip_norm"),
        ("training.steps=0", r"training\.steps = 0: input should be greater than or equal to 1"),
        ("training.steps=abc", r'training\.steps = "abc": input should be a valid integer'),
        ("training.steps=1.5", r"training\.steps = 1\.5: input should be a valid integer"),
        ("training.steps=nan", r"training\.steps = NaN: input should be a finite number"),
        ("training.steps=[1]", r"training\.steps = \[1\]: input should be a valid integer"),
        ("training.steps=99999999999999999999", r"training\.steps = 9+: input should be less"),
        ("training.seed=-1", r"training\.seed = -1"),
        ("optimizer.learning_rate=inf", r"learning_rate = Infinity: input should be a finite"),
        ("optimizer.learning_rate=0", r"learning_rate = 0: input should be greater than 0"),
        ("optimizer.betas=[0.9]", r"optimizer\.betas\.1: missing"),
        ("optimizer.betas=[0.9, 1.0]", r"optimizer\.betas\.1 = 1\.0: input should be less than 1"),
        ("optimizer.schedule=line", "'cosine', 'linear', 'warmup_stable_decay' or 'constant'"),
        ("data.validation_fraction=1", r"validation_fraction = 1: input should be less than 1"),
        ("data.max_length=2", r"data\.max_length = 2: input should be greater than or equal to 3"),
        ("data.sources=[]", r"data\.sources = \[\]: list should have at least 1 item"),
        ("data.sources=a.fasta", r'data\.sources = "a\.fasta": input should be a valid list'),
        ("model=5", r"model = 5: input should be a valid dictionary"),
        ("objectives=[]", r"objectives = \[\]: list should have at least 1 item"),
        ("objectives=mlm", r'objectives = "mlm": input should be a valid list'),
        ("objectives.0.weight=inf", r"objectives\.0\.weight = Infinity"),
        ("objectives.0.name=3", r"objectives\.0\.name = 3: input should be a valid string"),
        ("training.backend=cuda", "'auto', 'reference', 'torch' or 'triton'"),
        ("training.attention_backward=fast", "'deterministic' or 'atomic'"),
    ],
    ids=lambda text: text if "=" in text and " = " not in text else "",
)
def test_faults_name_path_value_and_what_is_allowed(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overridden(assignment)


def test_every_fault_is_a_line_of_its_own() -> None:
    with pytest.raises(ConfigError) as error:
        overridden("training.steps=0", "model.layers=x", "optimiser.epsilon=1")
    lines = str(error.value).splitlines()
    assert [line.split(":")[0].split(" ")[0] for line in lines] == [
        "model.layers",
        "training.steps",
        "optimiser",
    ]


def test_missing_data_says_how_to_give_it() -> None:
    with pytest.raises(ConfigError, match=r"data\.sources: missing\. Give it with --data"):
        validate({"domain": {"name": "protein"}, "data": {}})


def test_options_of_domains_and_objectives_pass_through_to_their_constructors() -> None:
    built = overridden("domain.gaps=keep", "objectives.0.anything=1")
    assert built.domain.model_extra is not None
    assert built.domain.model_extra["gaps"] == "keep"
    assert built.objectives[0].model_extra == {"policy": {"rate": 0.15}, "anything": 1}
