"""Similar units in the place of hidden ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.domain import Domain, build_domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.policy import Masked, MaskingPolicy
from seqmlm.masking.selectors import Selection, UnitSelector
from seqmlm.masking.similar import SimilarCorruptor
from seqmlm.masking.unit_table import WHOLE_UNIT_SELECTORS, UnitTable
from seqmlm.registry import SELECTORS
from seqmlm_domains.text.domain import TextDomain
from seqmlm_domains.text.tokenizer import TextTokenizer
from seqmlm_domains.text.training import (
    PARAGRAPH,
    SPECIAL_TOKENS,
    TokenizerSettings,
    train_tokenizer,
)

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


@pytest.mark.parametrize(
    "corruptor",
    [{"name": "similar"}, {"name": "similar", "table": "corpus"}, {"name": "counterfactual"}],
    ids=["table", "corpus", "counterfactual"],
)
def test_pieces_of_words_are_not_replaced(
    words: Domain, table: str, corruptor: dict[str, Any]
) -> None:
    """By default a policy chooses tokens: pieces would be looked up as if they were words."""
    file = "lexicon" if corruptor["name"] == "counterfactual" else "table"
    settings = {"corruptor": {file: table} | corruptor}
    stored = [np.array([words.vocabulary.id_of(c) for c in text], np.uint8) for text in ("a", "ox")]
    chosen = MaskingPolicy.from_settings(settings, where="policy")
    with pytest.raises(ConfigError, match=r"tokens 'o', 'x', but .* name = 'unit' }, or 'ngram'"):
        chosen.fit(words, stored)
    if corruptor.get("table") != "corpus":
        chosen.fit(words, stored[:1])
        whole = MaskingPolicy.from_settings({"rate": 1.0} | settings, where="policy")
        whole.fit(words, stored)


def test_the_selectors_that_are_recommended_exist() -> None:
    assert {"token", *WHOLE_UNIT_SELECTORS} == {*SELECTORS.builtin}


def test_proteins_need_no_selector_of_units() -> None:
    """A residue is a unit of one token."""
    domain = build_domain({"name": "protein"})
    chosen = MaskingPolicy.from_settings({"corruptor": {"name": "similar"}}, where="policy")
    residues = np.array([domain.vocabulary.id_of(letter) for letter in "MKVLA"], np.uint8)
    chosen.fit(domain, [residues])
    assert hide(domain, chosen, "MKVLA" * 20, seed=0).counts.selected > 0


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
    counts = hide(words, chosen, "ox cat", seed=0).counts
    assert (counts.selected, counts.without_candidate) == (5, 2)
    assert "40.00% at random for want of a candidate" in counts.describe()
    drawn = np.array([hide(words, chosen, "ox", seed).ids[1:3] for seed in range(500)])
    assert len(np.unique(drawn)) == 26


@pytest.mark.parametrize(
    ("text", "level"),
    [("ox " * 300, "WARNING"), ("ox " * 50 + "cat", "INFO")],
    ids=["nothing covered", "3 %"],
)
def test_a_table_that_covers_less_than_1_percent_is_a_warning(
    words: Domain, table: str, text: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    stored = np.array([words.vocabulary.id_of(letter) for letter in text], np.uint8)
    with caplog.at_level(logging.INFO, "seqmlm"):
        policy(table).fit(words, [stored])
    assert [record.levelname for record in caplog.records] == [level]


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


def test_words_of_a_group_stand_for_one_another(words: Domain, tmp_path: Path) -> None:
    """The format of WordNet's sets; what is no word of the domain is passed over."""
    path = tmp_path / "synsets.tsv"
    path.write_text("noun\tcat feline dog Tom\nverb\tdog tag\n")
    chosen = policy(str(path), table_format="groups", **ONLY_SIMILAR)
    chosen.fit(words, [])
    found = {words.decode(hide(words, chosen, "dog cat", seed).ids.tolist()) for seed in range(60)}
    assert found == {"cat dog", "tag dog"}


def test_the_example_of_macbert_is_reproduced(tmp_path: Path) -> None:
    """ "MLM as correction" in the readme of MacBERT: an n-gram, replaced word by word.

    language model -> text system, predict -> calculate, probability -> possibility: each in as many
    pieces. (The readme writes po ##si ##bility, which is no spelling of it.)
    """
    vocabulary = "we use a language model to pre ##di ##ct the pro ##ba ##bility of next word . "
    vocabulary += "text system ca ##lc ##ulate po ##ssi"
    domain = word_pieces(vocabulary.split())
    table = tmp_path / "similar.tsv"
    table.write_text(
        "language\ttext\nmodel\tsystem\npredict\tcalculate\nprobability\tpossibility\n"
    )
    corruptor = SimilarCorruptor(str(table), **ONLY_SIMILAR)
    corruptor.fit(domain, [])
    sentence = "we use a language model to predict the probability of the next word ."
    encoding = domain.parse(sentence)
    n_grams = [3, 4, 6, 8]  # "language model", "predict", "probability"
    positions = np.flatnonzero(np.isin(encoding.unit_ids, n_grams)).astype(np.int32)
    selection = Selection(positions, positions, units=encoding.unit_ids[positions])
    corruption = corruptor.corrupt(
        encoding.ids,
        selection,
        mask_id=domain.vocabulary.special.mask,
        token_range=domain.vocabulary.ranges["text"],
        uniform=np.random.default_rng(0).random((len(positions), 2)),
    )
    tokens = [domain.vocabulary.tokens[token] for token in corruption.ids.tolist()]
    expected = "we use a text system to ca ##lc ##ulate the po ##ssi ##bility of the next word ."
    assert tokens[1:-1] == expected.split()
    assert corruption.without_candidate == 0


def word_pieces(pieces: list[str]) -> TextDomain:
    """A text domain with a WordPiece vocabulary of the given pieces."""
    domain = TextDomain(tokenizer="wordpiece", lowercase=True)
    settings = TokenizerSettings(kind="wordpiece", lowercase=True)
    content = json.loads(train_tokenizer(settings, ["a"]).to_str())
    tokens = dict.fromkeys([*SPECIAL_TOKENS, *pieces])
    content["model"]["vocab"] = {token: number for number, token in enumerate(tokens)}
    for item in content["added_tokens"]:
        if item["content"] == PARAGRAPH:
            item["id"] = len(tokens)
    domain._use(TextTokenizer(json.dumps(content), settings))
    return domain


@given(seed=st.integers(0, 2**32), rate=st.floats(0.01, 1))
def test_length_and_everything_not_selected_stay_as_they_are(
    words: Domain, seed: int, rate: float
) -> None:
    corruptor = SimilarCorruptor()
    corruptor._table = UnitTable.of([((7, 8), (9, 9), 1.0), ((7,), (8,), 1.0)])
    chosen = MaskingPolicy(UnitSelector(), corruptor, rate)
    encoding = words.parse("ab a abc. b ab")
    masked = chosen.apply(
        encoding,
        vocabulary=words.vocabulary,
        token_range=words.vocabulary.ranges["words"],
        generator=np.random.default_rng(seed),
    )
    others = ~np.isin(np.arange(len(encoding)), masked.positions)
    assert len(masked.ids) == len(encoding)
    assert np.array_equal(masked.ids[others], encoding.ids[others])
    assert not (masked.ids == words.vocabulary.special.mask).any()
    counts = masked.counts
    assert counts.without_candidate <= counts.replaced + counts.kept == counts.selected


def test_a_table_without_any_candidate_makes_everything_random(
    words: Domain, tmp_path: Path
) -> None:
    path = tmp_path / "similar.tsv"
    path.write_text("cat\tmouse\n")
    chosen = policy(str(path), **ONLY_SIMILAR)
    chosen.fit(words, [])
    counts = hide(words, chosen, "cat ox hen", seed=0).counts
    assert counts.without_candidate == counts.selected == 8


def test_a_domain_without_a_table_says_what_to_give(words: Domain) -> None:
    with pytest.raises(ConfigError, match=r"WordDomain' brings no table .* table = 'similar\.tsv'"):
        policy("domain").fit(words, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cat", "similar.tsv:1: 1 fields"),
        ("cat\tDog", "similar.tsv:1: the text: 'D' is not"),
        ("cat\ta dog", "similar.tsv:1: 'a dog' is 2 units"),
        ("cat\tdog\t-1", "similar.tsv:1: -1 must be"),
        ("", "holds no line"),
    ],
    ids=["fields", "unreadable", "units", "weight", "empty"],
)
def test_faulty_tables_are_explained(
    words: Domain, tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "similar.tsv"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        policy(str(path)).fit(words, [])


@pytest.mark.parametrize("line", ["cat dog", "noun\tcat"], ids=["no label", "one word"])
def test_faulty_groups_are_explained(words: Domain, tmp_path: Path, line: str) -> None:
    path = tmp_path / "synsets.tsv"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=r"synsets.tsv:1: a line is label TAB word word"):
        policy(str(path), table_format="groups").fit(words, [])


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"table_format = 'csv'; it is 'pairs' or 'groups'"):
        SimilarCorruptor(table_format="csv")  # type: ignore[arg-type]


def test_shares_must_add_up() -> None:
    with pytest.raises(ConfigError, match=r"similar = 0\.8, random = 0\.3, keep = 0\.1"):
        SimilarCorruptor(random=0.3)


def test_an_unfitted_corruptor_says_so(words: Domain, table: str) -> None:
    with pytest.raises(ConfigError, match=r"call Objective\.fit"):
        hide(words, policy(table), "cat", seed=0)
