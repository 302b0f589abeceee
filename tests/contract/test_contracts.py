"""Every registered domain and objective is held to its contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqmlm.domain import build_domain
from seqmlm.errors import ConfigError
from seqmlm.objectives.pair import PairObjective
from seqmlm.registry import DOMAINS, OBJECTIVES
from seqmlm.testing import check_domain, check_objective, check_pair_objective
from tests.contract.domains import TEXTS, built

PAIR_OBJECTIVES = [
    name for name in OBJECTIVES.names() if issubclass(OBJECTIVES.load(name), PairObjective)
]


@pytest.mark.usefixtures("plugins_installed")
@pytest.mark.parametrize("name", sorted(TEXTS))
def test_domain_keeps_its_contract(name: str, tmp_path: Path) -> None:
    check_domain(build_domain({"name": name}), TEXTS[name], folder=tmp_path)


@pytest.mark.parametrize("names", [(), ("read", "attribute")], ids=["none", "two of eleven"])
def test_types_of_units_without_a_name_are_refused(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = build_domain({"name": "code"})
    monkeypatch.setattr(type(domain), "unit_types", names)
    with pytest.raises(AssertionError, match="a type of a unit has no name in unit_types"):
        check_domain(domain, TEXTS["code"], folder=tmp_path)


@pytest.mark.usefixtures("plugins_installed")
def test_every_registered_domain_is_checked() -> None:
    assert set(DOMAINS.names()) <= set(TEXTS)


@pytest.mark.usefixtures("plugins_installed")
@pytest.mark.parametrize("domain_name", sorted(TEXTS))
@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_objective_keeps_its_contract(name: str, domain_name: str) -> None:
    domain = built(domain_name)
    if name in PAIR_OBJECTIVES and domain.why_indivisible:
        with pytest.raises(ConfigError, match=f"'{name}' does not fit domain '{domain_name}'"):
            OBJECTIVES.build({"name": name}, domain, where="objectives.0")
        return
    if name == "typed_mlm" and not domain.declared_types:
        with pytest.raises(ConfigError, match=f"domain '{domain_name}' declares no types"):
            OBJECTIVES.build({"name": name}, domain, where="objectives.0")
        return
    if name == "masked_relation" and domain_name != "kg":
        with pytest.raises(ConfigError, match=f"'{name}' does not fit domain '{domain_name}'"):
            OBJECTIVES.build({"name": name}, domain, where="objectives.0")
        return
    objective = OBJECTIVES.build({"name": name}, domain, where="objectives.0")
    check_objective(objective, domain, TEXTS[domain_name])


@pytest.mark.usefixtures("plugins_installed")
@pytest.mark.parametrize("domain_name", ["code", "dialogue", "text"])
@pytest.mark.parametrize("name", PAIR_OBJECTIVES)
def test_pair_objective_keeps_its_contract(name: str, domain_name: str) -> None:
    domain = built(domain_name)
    objective = OBJECTIVES.build({"name": name}, domain, where="objectives.0")
    check_pair_objective(objective, domain, TEXTS[domain_name])


@pytest.mark.usefixtures("plugins_installed")
@pytest.mark.parametrize("domain_name", ["music", "protein", "text"])
def test_the_example_of_an_objective_keeps_its_contract(domain_name: str) -> None:
    domain = built(domain_name)
    policy = {"rate": 0.3, "selector": {"name": "seqmlm_even:EvenSelector"}}
    settings = {"name": "seqmlm_even:EvenMaskedModelling", "policy": policy}
    objective = OBJECTIVES.build(settings, domain, where="objectives.0")
    check_objective(objective, domain, TEXTS[domain_name])


@pytest.mark.usefixtures("plugins_installed")
def test_plugin_is_found_through_its_entry_point_and_by_module_and_class() -> None:
    assert "music" in DOMAINS.names()
    assert DOMAINS.load("music") is DOMAINS.load("seqmlm_music:MusicDomain")


def test_plugin_is_unknown_when_it_is_not_installed() -> None:
    assert "music" not in DOMAINS.names()
