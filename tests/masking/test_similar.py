"""Similar units in the place of hidden ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from seqmlm.domain import Domain, build_domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.policy import Masked, MaskingPolicy
from seqmlm.masking.similar import SimilarCorruptor

ChiSquare = Callable[[npt.ArrayLike, npt.ArrayLike], float]
ONLY_SIMILAR: dict[str, Any] = {"similar": 1.0, "random": 0.0, "keep": 0.0}
TABLE = "cat\tdog\ncat\tcow\t3\ncat\tmouse\nox\tasp\nhen\towl\n"


def policy(table: str, selector: str = "unit", **shares: Any) -> MaskingPolicy:
    corruptor = {"name": "similar", "table": table, **shares}
    settings = {"rate": 1.0, "selector": {"name": selector}, "corruptor": corruptor}
    return MaskingPolicy.from_settings(settings, where="policy")


def hide(domain: Domain, chosen: MaskingPolicy, text: str, seed: int) -> Masked:
    return chosen.apply(
        domain.parse(text),
        vocabulary=domain.vocabulary,
        token_range=domain.vocabulary.ranges[domain.name],
        generator=np.random.default_rng(seed),
    )


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "similar.tsv"
    path.write_text(TABLE)
    return str(path)


def test_candidates_are_drawn_by_weight_and_have_the_same_length(
    words: Domain, table: str, chi_square_p: ChiSquare
) -> None:
    """cat -> dog 1/4, cow 3/4; mouse has another length."""
    chosen = policy(table, **ONLY_SIMILAR)
    chosen.fit(words, [])
    texts = [words.decode(hide(words, chosen, "cat", seed).ids.tolist()) for seed in range(1_000)]
    assert set(texts) == {"dog", "cow"}
    assert chi_square_p([texts.count("dog"), texts.count("cow")], [250, 750]) > 1e-3


@pytest.mark.parametrize("selector", ["unit", "ngram"])
def test_words_of_an_ngram_are_replaced_one_by_one(
    words: Domain, table: str, selector: str
) -> None:
    chosen = policy(table, selector, **ONLY_SIMILAR)
    chosen.fit(words, [])
    found = {words.decode(hide(words, chosen, "hen cat", s).ids.tolist()) for s in range(40)}
    assert found == {"owl dog", "owl cow"}


def test_a_unit_without_candidates_gets_random_tokens_and_is_counted(
    words: Domain, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = policy(table, **ONLY_SIMILAR)
    stored = np.array([words.vocabulary.id_of(c) for c in "cat ox hen"], np.uint8)
    with caplog.at_level(logging.INFO, "seqmlm"):
        chosen.fit(words, [stored])
    assert "2 have candidates; 2 of 8 maskable tokens" in caplog.text
    assert "2 candidates of another length left out" in caplog.text
    drawn = np.array([hide(words, chosen, "ox", seed).ids[1:3] for seed in range(500)])
    assert len(np.unique(drawn)) == 26


def test_the_mask_token_never_appears_and_shares_hold() -> None:
    domain = build_domain({"name": "protein"})
    chosen = policy("domain")
    chosen.fit(domain, [])
    sequence = "ACDEFGHIKLMNPQRSTVWY" * 500
    masked = hide(domain, chosen, sequence, seed=0)
    counts = masked.counts
    assert counts.masked == 0
    assert not (masked.ids == domain.vocabulary.special.mask).any()
    # 10 % kept, and a twentieth of the 10 % random ones is the true residue by chance.
    assert counts.kept / counts.selected == pytest.approx(0.105, abs=0.01)
    assert chosen.mask_token_rate == 0


def test_proteins_follow_blosum62() -> None:
    """W scores F 1, Y 2, C -2 in half-bits: weights 2 ** 0.5, 2 and 0.5."""
    domain = build_domain({"name": "protein"})
    weights = {(unit[0], other[0]): weight for unit, other, weight in domain.similar_units()}
    ids = domain.vocabulary.id_of
    assert len(weights) == 20 * 19
    found = [weights[ids("W"), ids(other)] for other in "FYC"]
    assert found == pytest.approx([2**0.5, 2, 0.5])


def test_a_domain_without_a_table_says_what_to_give(words: Domain) -> None:
    with pytest.raises(ConfigError, match=r"'words' brings no table .* table = 'similar\.tsv'"):
        policy("domain").fit(words, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cat", "similar.tsv:1: 1 fields"),
        ("cat\tDog", "similar.tsv:1: the text: 'D' is not"),
        ("cat\ta dog", "similar.tsv:1: 'a dog' is 2 units"),
        ("cat\tdog\t-1", "similar.tsv:1: -1 must be"),
    ],
    ids=["fields", "unreadable", "units", "weight"],
)
def test_faulty_tables_are_explained(
    words: Domain, tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "similar.tsv"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        policy(str(path)).fit(words, [])


def test_shares_must_add_up() -> None:
    with pytest.raises(ConfigError, match=r"similar = 0\.8, random = 0\.3, keep = 0\.1"):
        SimilarCorruptor(random=0.3)


def test_an_unfitted_corruptor_says_so(words: Domain, table: str) -> None:
    with pytest.raises(ConfigError, match=r"call Objective\.fit"):
        hide(words, policy(table), "cat", seed=0)
