"""Every selector and corruptor keeps its contract in every domain, as do those of the example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqmlm.registry import CORRUPTORS, SELECTORS
from seqmlm.testing import check_corruptor, check_selector
from tests.contract.domains import TEXTS, built

DOMAINS = ["code", "dialogue", "kg", "protein", "text"]
TYPES: dict[str, list[int | str]] = {
    "code": ["parameter", "read", 2, "attribute"],
    "kg": ["head", "tail"],
}
BY_TYPE = ("typed", "group")

CORRUPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((domain, {"name": "mixed", "per": per})
      for domain in DOMAINS for per in ("token", "unit", "group")),
    *((domain, {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0}) for domain in DOMAINS),
    *((domain, {"name": "similar", "table": "corpus"}) for domain in ("code", "dialogue", "text")),
    *((domain, {"name": "similar", "table": "type"}) for domain in ("code", "kg")),
    ("protein", {"name": "similar"}),
]  # fmt: skip

LEXICONS = {
    "code": "width\theight\nK\tx\n",
    "kg": "ann\tbob\nann\tx\n",
    "protein": "A\tG\t2\nA\tS\nK\tR\n",
    "text": "The\tover\nfox\tdogs\nover\t13\n",
}


@pytest.mark.parametrize(
    ("name", "domain_name"),
    [
        (name, domain)
        for name in SELECTORS.builtin
        for domain in (TYPES if name in BY_TYPE else DOMAINS)
    ],
)
def test_selector_keeps_its_contract(name: str, domain_name: str) -> None:
    options = {"types": TYPES[domain_name]} if name in BY_TYPE else {}
    selector = SELECTORS.build({"name": name, **options}, where="selector")
    check_selector(selector, built(domain_name), TEXTS[domain_name])


@pytest.mark.parametrize(
    "options",
    [
        {"name": "ngram", "p": [0, 0, 1]},
        {"name": "span", "stop_probability": 0.05, "max_units": 40},
        {"name": "block", "single": 0.0, "longest": 9},
        {"name": "scored", "exponent": 4.0},
        {"name": "scored", "scores": "pmi"},
    ],
    ids=str,
)
def test_selector_keeps_its_contract_with_other_options(options: dict[str, Any]) -> None:
    check_selector(SELECTORS.build(options, where="selector"), built("text"), TEXTS["text"])


@pytest.mark.parametrize(("domain_name", "options"), CORRUPTIONS, ids=str)
def test_corruptor_keeps_its_contract(domain_name: str, options: dict[str, Any]) -> None:
    """Eight times the same texts, so that there are neighbours in the corpus."""
    corruptor = CORRUPTORS.build(options, where="corruptor")
    check_corruptor(corruptor, built(domain_name), TEXTS[domain_name] * 8)


@pytest.mark.parametrize("name", ["similar", "counterfactual"])
@pytest.mark.parametrize("domain_name", LEXICONS)
def test_corruptor_by_a_file_keeps_its_contract(
    domain_name: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text(LEXICONS[domain_name])
    key = "table" if name == "similar" else "lexicon"
    corruptor = CORRUPTORS.build({"name": name, key: str(path)}, where="corruptor")
    check_corruptor(corruptor, built(domain_name), TEXTS[domain_name])


def test_every_corruptor_is_checked() -> None:
    checked = {options["name"] for _, options in CORRUPTIONS} | {"counterfactual"}
    assert checked == set(CORRUPTORS.builtin)


@pytest.mark.usefixtures("plugins_installed")
@pytest.mark.parametrize("domain_name", [*DOMAINS, "music"])
def test_the_example_of_a_selector_and_a_corruptor_keep_their_contracts(domain_name: str) -> None:
    domain = built(domain_name)
    selector = SELECTORS.build({"name": "seqmlm_even:EvenSelector"}, where="selector")
    check_selector(selector, domain, TEXTS[domain_name])
    corruptor = CORRUPTORS.build({"name": "seqmlm_even:ShuffleCorruptor"}, where="corruptor")
    check_corruptor(corruptor, domain, TEXTS[domain_name])
