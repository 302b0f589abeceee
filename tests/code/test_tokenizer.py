from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.code.pieces import cut
from seqmlm_domains.code.tokenizer import CodeTokenizer
from seqmlm_domains.code.vocabulary_training import (
    CONTINUATION,
    SMALLEST_VOCABULARY,
    PieceCounts,
    check_vocabulary_size,
    train,
)

CORPUS = ["def get_total(items):\n    return sum(items)\n\n", "x = get_total(items) or None\n"] * 9


def counted(texts: list[str]) -> PieceCounts:
    counts = PieceCounts()
    for text in texts:
        counts.add(text)
    return counts


@pytest.fixture(scope="module")
def tokenizer() -> CodeTokenizer:
    learned = train(counted(CORPUS), vocabulary_size=SMALLEST_VOCABULARY + 60)
    return CodeTokenizer(learned, domain="code")


def tokens_of(tokenizer: CodeTokenizer, text: str) -> list[str]:
    return [tokenizer.vocabulary.tokens[id] for id in tokenizer.encode([text]).ids]


sources = st.text(
    st.one_of(
        st.sampled_from(" \t\n\f\v_$aB9.(='\"#\\\0\u00e9\u4e2d\U0001f600\u2028\u00a0\ufeff"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=60,
)


@given(text=sources)
def test_decoding_gives_the_source_back(tokenizer: CodeTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode([text]).ids.tolist()) == text


@given(text=sources)
def test_pieces_add_up_to_the_text(text: str) -> None:
    assert "".join(cut(text)) == text


@given(text=sources)
def test_tokens_stand_in_order_and_cover_all_but_implied_blanks(
    tokenizer: CodeTokenizer, text: str
) -> None:
    offsets = tokenizer.encode([text]).offsets
    assert (np.diff(offsets[:, 0]) >= 0).all()
    covered = {place for start, end in offsets.tolist() for place in range(start, end)}
    assert {text[place] for place in set(range(len(text))) - covered} <= {" "}


@given(texts=st.lists(sources, max_size=5))
def test_texts_are_encoded_independently(tokenizer: CodeTokenizer, texts: list[str]) -> None:
    together = tokenizer.encode(texts)
    alone = [tokenizer.encode([text]) for text in texts]
    assert together.lengths.tolist() == [len(each.ids) for each in alone]
    assert together.ids.tolist() == [id for each in alone for id in each.ids.tolist()]
    assert together.offsets.tolist() == [row for each in alone for row in each.offsets.tolist()]


def test_a_name_is_the_same_token_wherever_it_stands(tokenizer: CodeTokenizer) -> None:
    assert tokens_of(tokenizer, "return items") == ["return", "items"]
    assert tokens_of(tokenizer, "(items") == ["(", "items"]


def test_two_blanks_between_words_are_written(tokenizer: CodeTokenizer) -> None:
    assert tokens_of(tokenizer, "x  x") == ["x", "\u0120", CONTINUATION + "\u0120", "x"]


def test_nothing_is_unknown(tokenizer: CodeTokenizer) -> None:
    every_byte = "".join(map(chr, range(0x20))) + "\u00ff\u0800\U0010ffff"
    assert tokenizer.vocabulary.special.unknown not in tokenizer.encode([every_byte]).ids


def test_special_tokens_in_a_source_are_text(tokenizer: CodeTokenizer) -> None:
    special = tokenizer.vocabulary.special
    ids = tokenizer.encode(["a<|mask|>b<|padding|>"]).ids
    assert not np.isin(ids, [special.mask, special.padding]).any()


def test_line_starts_lie_behind_the_indentation(tokenizer: CodeTokenizer) -> None:
    text = "if x:\n\n    y()\n  # z\n"
    tokens = tokenizer.encode([text])
    starts = tokens.offsets[tokenizer.line_starts(tokens.ids), 0].tolist()
    assert starts == [0, text.index("y"), text.index("#")]


def test_equal_texts_give_equal_vocabularies() -> None:
    size = SMALLEST_VOCABULARY + 40
    first, second = (train(counted(CORPUS), vocabulary_size=size) for _ in range(2))
    assert first == second


def test_a_vocabulary_needs_room_for_all_bytes() -> None:
    with pytest.raises(ConfigError, match=str(SMALLEST_VOCABULARY)):
        check_vocabulary_size(SMALLEST_VOCABULARY - 1)


def test_white_space_teaches_no_vocabulary() -> None:
    with pytest.raises(DataError, match="white space"):
        train(counted([" \n\t", ""]), vocabulary_size=SMALLEST_VOCABULARY)
