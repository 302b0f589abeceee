"""Pairs of segments: what they are made of, their labels, and what gives the labels away."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.corpus import Corpus, Segments
from seqmlm.data.report import ReadReport
from seqmlm.data.store import StoreWriter, TokenStore
from seqmlm.domain import Domain, Record, build_domain
from seqmlm.errors import ConfigError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.objectives.ncp import NextCodeFragmentPrediction
from seqmlm.objectives.nsp import NextSentencePrediction
from seqmlm.objectives.pair import LabelledPair, PairObjective, sides
from seqmlm.objectives.sop import SentenceOrderPrediction

FOUND, MADE = 0, 1
DOT, FIRST_LETTER = 6, 7

Build = Callable[..., Corpus]
Place = tuple[int, int]

OBJECTIVES: dict[str, Callable[[Domain], PairObjective]] = {
    "nsp": NextSentencePrediction,
    "sop": SentenceOrderPrediction,
    "ncp": NextCodeFragmentPrediction,
}


class Coin(np.random.Generator):
    """Draws integers as any generator does, but tosses one given side."""

    def __init__(self, seed: int, label: int) -> None:
        super().__init__(np.random.Philox(seed))
        self._label = label

    def random(self, *args: Any, **kwargs: Any) -> Any:
        return 0.25 if self._label == FOUND else 0.75


def sentence(document: int, number: int) -> str:
    """Every word says where it belongs; sentences are of 2 to 6 words."""
    return " ".join([f"d{document}s{number}"] * (2 + (document + number) % 5)) + "."


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Make a corpus of documents, each a list of passages, each a number of sentences."""

    def make(
        documents: Sequence[Sequence[int]],
        *,
        records: Sequence[int] | None = None,
        max_length: int = 64,
    ) -> Corpus:
        found: list[Record] = []
        for document, passages in enumerate(documents):
            number = 0
            for part, size in enumerate(passages, start=1):
                text = " ".join(sentence(document, number + i) for i in range(size))
                suffix = f" \N{SECTION SIGN}{part}" if part > 1 else ""
                found.append(Record(f"d{document}{suffix}", text, "test", len(found) + 1))
                number += size
        domain = build_domain({"name": "text", "tokenizer": "wordpiece", "vocabulary_size": 300})
        domain.fit_tokenizer(found)
        store = stored(domain, found, tmp_path)
        chosen = np.arange(len(found)) if records is None else np.array(records)
        return Corpus(domain, store, chosen[store.lengths[chosen] > 0], max_length)

    return make


def stored(domain: Domain, records: Sequence[Record], folder: Path) -> TokenStore:
    block = domain.tokenize(records, ReadReport(read=len(records)))
    writer = StoreWriter(folder, token_dtype=domain.token_dtype)
    writer.append([record.name for record in records], block.tokens, block.lengths)
    writer.finish(report=ReadReport(), made_from={}, version="0")
    return TokenStore(folder)


def places(corpus: Corpus, tokens: npt.NDArray[np.unsignedinteger[Any]]) -> list[Place]:
    """Document and number of every sentence in some stored tokens, in order."""
    text = corpus.domain.decode(corpus.domain.token_ids(tokens).tolist())
    found = [(int(d), int(s)) for d, s in re.findall(r"d ?(\d+)s(\d+)", text)]
    return list(dict.fromkeys(found))


def pairs_of(objective: PairObjective, corpus: Corpus, number: int) -> list[LabelledPair]:
    records = corpus.divisible(within=objective.within)
    made = [
        objective.pair(corpus, int(records[seed % len(records)]), np.random.default_rng(seed))
        for seed in range(number)
    ]
    assert None not in made
    return [pair for pair in made if pair is not None]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_half_of_the_pairs_are_made(build: Build, name: str) -> None:
    corpus = build([[6, 4], [8], [5], [7, 3]])
    labels = [pair.label for pair in pairs_of(OBJECTIVES[name](corpus.domain), corpus, 10_000)]
    assert np.mean(labels) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("max_length", [64, 20], ids=["all fits", "cut"])
def test_a_foreign_segment_is_of_another_document_and_a_true_one_follows(
    build: Build, max_length: int
) -> None:
    corpus = build([[6, 1, 4], [8], [5, 5]], max_length=max_length)
    for pair in pairs_of(NextSentencePrediction(corpus.domain), corpus, 400):
        first, second = places(corpus, pair.first), places(corpus, pair.second)
        assert len(pair.first) + len(pair.second) <= max_length - 3
        (document,) = {document for document, _ in first}
        (other,) = {document for document, _ in second}
        assert (document == other) == (pair.label == FOUND)
        if pair.label == FOUND:
            assert second[0][1] == first[-1][1] + 1


def test_fragments_are_of_one_record_and_foreign_ones_of_any_other(build: Build) -> None:
    """One document of two passages would do for ncp, though not for nsp."""
    corpus = build([[6, 8]])
    seen = set()
    for pair in pairs_of(NextCodeFragmentPrediction(corpus.domain), corpus, 200):
        passages = {number // 6 > 0 for _, number in places(corpus, pair.first)}
        others = {number // 6 > 0 for _, number in places(corpus, pair.second)}
        assert len(passages) == len(others) == 1
        assert (passages == others) == (pair.label == FOUND)
        seen.add(pair.label)
    assert seen == {FOUND, MADE}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_record_outside_the_corpus_is_read(build: Build, name: str) -> None:
    """Held-out passages in the middle of a document, and held-out documents."""
    held_out = {1, 4, 5}
    corpus = build([[1, 1, 1], [6], [8], [5], [1, 4]], records=[0, 2, 3, 6, 7])
    allowed = {(0, 0), (0, 2), *((1, i) for i in range(6)), *((4, i) for i in range(5))}
    assert len(corpus.store) - len(held_out) == len(corpus.records)
    for pair in pairs_of(OBJECTIVES[name](corpus.domain), corpus, 300):
        assert set(places(corpus, pair.first)) <= allowed
        assert set(places(corpus, pair.second)) <= allowed


@pytest.mark.parametrize("max_length", [64, 21, 20, 9], ids=["all fits", "odd", "even", "tiny"])
def test_a_swap_keeps_every_token_and_one_more_swap_undoes_it(
    build: Build, max_length: int
) -> None:
    corpus = build([[6, 1, 4], [1, 1], [5, 5]], max_length=max_length)
    objective = SentenceOrderPrediction(corpus.domain)
    for seed in range(200):
        record = int(corpus.divisible(within="document")[seed % 5])
        found, made = (objective.pair(corpus, record, Coin(seed, label)) for label in (0, 1))
        assert found is not None
        assert made is not None
        assert (found.label, made.label) == (FOUND, MADE)
        assert np.array_equal(found.first, made.second)
        assert np.array_equal(found.second, made.first)
        together = [*places(corpus, found.first), *places(corpus, found.second)]
        assert together == sorted(together)
        assert len({document for document, _ in together}) == 1


@pytest.mark.parametrize("name", ["nsp", "ncp"])
@pytest.mark.parametrize("max_length", [64, 21], ids=["all fits", "cut"])
def test_neither_length_nor_first_side_tells_whether_the_second_is_foreign(
    build: Build, name: str, max_length: int
) -> None:
    corpus = build([[6, 4], [12], [2], [7, 3]], max_length=max_length)
    objective = OBJECTIVES[name](corpus.domain)
    records = corpus.divisible(within=objective.within)
    for seed in range(200):
        record = int(records[seed % len(records)])
        found, made = (objective.pair(corpus, record, Coin(seed, label)) for label in (0, 1))
        assert found is not None
        assert made is not None
        assert np.array_equal(found.first, made.first)
        assert len(found.second) == len(made.second)


def starts_behind_dots(
    domain: Domain, tokens: npt.NDArray[np.unsignedinteger[Any]]
) -> npt.NDArray[np.bool_]:
    return np.concatenate([[True], tokens[:-1] == DOT])


@pytest.fixture
def marked(
    words: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Corpus]:
    """Records of 2 to 6 segments of 1 to 7 letters and a dot; each segment begins with an a."""

    monkeypatch.setattr(type(words), "segment_starts", starts_behind_dots)
    monkeypatch.setattr(type(words), "why_indivisible", "")

    def make(max_length: int) -> Corpus:
        generator = np.random.default_rng(1)
        texts = [
            "".join("a" + "b" * n + "." for n in generator.integers(0, 7, generator.integers(2, 7)))
            for _ in range(200)
        ]
        records = [Record(f"r{i}", text, "test", i) for i, text in enumerate(texts, start=1)]
        return Corpus(words, stored(words, records, tmp_path), np.arange(200), max_length)

    return make


@pytest.mark.parametrize("name", ["nsp", "ncp"])
@pytest.mark.parametrize("max_length", [64, 17], ids=["all fits", "cut"])
def test_both_kinds_of_second_sides_begin_with_a_segment_and_end_alike(
    marked: Callable[[int], Corpus], name: str, max_length: int
) -> None:
    """A second side that ends with a whole segment must not be a true one more often."""
    corpus = marked(max_length)
    made = pairs_of(OBJECTIVES[name](corpus.domain), corpus, 6_000)
    assert {int(pair.second[0]) for pair in made} == {FIRST_LETTER}
    ends_whole = np.array([pair.second[-1] == DOT for pair in made])
    labels = np.array([pair.label for pair in made])
    lengths = np.array([len(pair.second) for pair in made])
    shares = [ends_whole[labels == label].mean() for label in (FOUND, MADE)]
    error = np.sqrt(ends_whole.var() * sum(1 / (labels == label).sum() for label in (FOUND, MADE)))
    assert ends_whole.mean() > 0.05, "the test sees both kinds of ends"
    assert abs(shares[0] - shares[1]) < 3 * error
    assert abs(np.corrcoef(lengths, labels)[0, 1]) < 3 / np.sqrt(len(made))


LENGTHS = st.lists(st.integers(1, 9), min_size=2, max_size=8)


def cut(lengths: Sequence[int], split: int, room: int) -> tuple[list[int], list[int]]:
    """Both sides of segments whose tokens are numbered through."""
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    segments = Segments(np.arange(bounds[-1], dtype=np.uint16), bounds)
    first, second = sides(segments, split, room=room)
    return first.tolist(), second.tolist()


@given(LENGTHS, st.integers(1, 7), st.integers(2, 40))
def test_sides_are_whole_segments_where_one_fits(lengths: list[int], split: int, room: int) -> None:
    split = min(split, len(lengths) - 1)
    first, second = cut(lengths, split, room)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    assert first
    assert second
    assert len(first) + len(second) <= room
    assert first[0] in bounds
    assert second[0] == bounds[split]
    if max(lengths) <= room // 2:
        assert first[-1] + 1 == second[0]
        assert second[-1] + 1 in bounds
    if sum(lengths) <= room:
        assert first + second == list(range(sum(lengths)))


@given(LENGTHS, st.integers(1, 7), st.integers(2, 40))
def test_lengths_of_the_sides_do_not_tell_which_came_first(
    lengths: list[int], split: int, room: int
) -> None:
    """What is read from both ends alike is as likely in either order."""
    split = min(split, len(lengths) - 1)
    first, second = cut(lengths, split, room)
    mirrored = cut(lengths[::-1], len(lengths) - split, room)
    assert (len(first), len(second)) == (len(mirrored[1]), len(mirrored[0]))


def test_a_document_goes_on_in_the_next_record_only_where_that_is_known(build: Build) -> None:
    corpus = build([[1, 2], [1], [1, 0, 1]])
    assert places(corpus, corpus.segments(0, within="document").tokens) == [(0, 0), (0, 1), (0, 2)]
    assert corpus.divisible(within="document").tolist() == [0, 1]
    assert corpus.divisible(within="record").tolist() == [1]


def test_a_pair_is_encoded_as_bert_writes_it(build: Build) -> None:
    corpus = build([[4], [5]])
    objective = SentenceOrderPrediction(corpus.domain)
    single = corpus.domain.assemble(corpus.store[0], max_length=64)
    prepared = objective.prepare(corpus, 0, single, Coin(0, MADE))
    special = corpus.domain.vocabulary.special
    ids, segments = prepared.encoding.ids, prepared.encoding.segment_ids
    assert np.flatnonzero(ids == special.end).tolist() == [
        *np.flatnonzero(np.diff(segments)),
        len(ids) - 1,
    ]
    assert np.flatnonzero(ids == special.start).tolist() == [0]
    assert np.unique(segments).tolist() == [0, 1]
    assert (np.diff(segments) >= 0).all()
    target = prepared.targets["sop"]
    assert (target.positions.tolist(), target.labels.tolist()) == ([0], [MADE])
    # Nothing is lost or added but the second end token.
    assert sorted(ids.tolist()) == sorted([*single.ids.tolist(), special.end])


def test_a_record_of_one_sentence_makes_no_pair_and_is_counted(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = build([[1], [4], [1], [3]])
    objective = SentenceOrderPrediction(corpus.domain)
    with caplog.at_level(logging.INFO, "seqmlm"):
        objective.check(corpus)
    assert "sop: 2 of 4 training records hold a single segment" in caplog.text
    single = corpus.domain.assemble(corpus.store[0], max_length=64)
    prepared = objective.prepare(corpus, 0, single, np.random.default_rng(0))
    assert prepared.encoding is single
    assert not prepared.targets


@pytest.mark.parametrize(
    ("name", "documents", "max_length", "message"),
    [
        ("sop", [[1], [1]], 64, "none of the 2 training records has a second one"),
        ("nsp", [[1], [0]], 64, "none of the 1 training records has a second one"),
        ("nsp", [[6, 4]], 64, "all 2 training records with two segments are of one"),
        ("nsp", [[6, 4]], 64, r"several documents \(domain.documents=heading or"),
        ("ncp", [[6]], 64, "from another record, and all 1 training"),
        ("sop", [[6], [4]], 4, "data.max_length = 4: a pair of sop needs 3 special tokens"),
    ],
    ids=[
        "one sentence",
        "empty documents",
        "one document",
        "names the setting",
        "one record",
        "too short",
    ],
)
def test_data_that_give_no_pairs_are_refused(
    build: Build, name: str, documents: list[list[int]], max_length: int, message: str
) -> None:
    corpus = build(documents, max_length=max_length)
    with pytest.raises(ConfigError, match=message):
        OBJECTIVES[name](corpus.domain).check(corpus)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(
    ("domain", "reason"),
    [("protein", "they have no segments, such as sentences or lines"), ("kg", "a triple")],
)
def test_a_domain_without_segments_is_refused(name: str, domain: str, reason: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"'{name}' does not fit domain '{domain}': it parts .* and {reason}"
    ):
        OBJECTIVES[name](build_domain({"name": domain}))


def test_a_single_segment_embedding_is_refused(build: Build) -> None:
    corpus = build([[4], [5]])
    encoder = EncoderConfig(
        vocabulary_size=300, mask_token=4, layers=1, hidden_size=8, heads=2, segments=1
    )
    with pytest.raises(ConfigError, match=r"model.segments = 1: sop numbers the two sides"):
        SentenceOrderPrediction(corpus.domain).build_module(encoder)
