from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.prepare import open_store, prepare
from seqmlm.data.report import ReadReport
from seqmlm.data.store import StoreWriter, TokenStore
from seqmlm.domain import Record
from seqmlm.encoding import Encoding
from seqmlm.errors import CheckpointError, ConfigError, DataError
from seqmlm.registry import DOMAINS
from seqmlm.testing import check_domain
from seqmlm_domains.text.domain import SAMPLES, TextDomain

KINDS = ["bpe", "wordpiece", "unigram", "character"]

CORPUS = [
    "The cat sat on the mat, and the other cat was that cat.\nThe mat sat still!",
    "That hat is the cat's hat.\n\nIt has the hat: a cat in that hat.",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u4e16\u754c\u597d\uff0c\u4f60\u4e5f\u597d\u3002",
]


def records_of(texts: Sequence[str]) -> list[Record]:
    return [Record(f"r{i}", text, "test.txt", i) for i, text in enumerate(texts, start=1)]


def learned(texts: Sequence[str] = CORPUS, **options: Any) -> TextDomain:
    domain = TextDomain(**options)
    domain.fit_tokenizer(records_of(texts))
    return domain


def encoded(domain: TextDomain, text: str) -> Encoding:
    block = domain.tokenize(records_of([text]), ReadReport(read=1))
    return domain.assemble(block.tokens, max_length=len(block.tokens) + 2)


def words_of(domain: TextDomain, encoding: Encoding) -> list[str]:
    """The decoded text of every unit."""
    ids, units = encoding.ids, encoding.unit_ids
    return [domain.decode(ids[units == unit].tolist()) for unit in range(encoding.num_units)]


def test_the_domain_is_found_by_its_name() -> None:
    assert DOMAINS.load("text") is TextDomain


@pytest.mark.parametrize("kind", KINDS)
def test_every_tokenizer_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    check_domain(TextDomain(tokenizer=kind), CORPUS, folder=tmp_path)  # type: ignore[arg-type]


def test_options_rebuild_the_domain() -> None:
    options = {
        "tokenizer": "unigram",
        "vocabulary_size": 500,
        "lowercase": True,
        "unmaskable_words": ["<unk>"],
        "chinese_units": "word",
        "file_format": "jsonl",
        "documents": "line",
        "heading": "# .*",
        "text_field": "body",
        "passage_characters": 500,
    }
    domain = TextDomain(**options)  # type: ignore[arg-type]
    assert dict(domain.options) == options
    assert TextDomain(**domain.options).options == domain.options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tokenizer": "bytes"}, "domain.tokenizer is 'bytes'"),
        ({"vocabulary_size": 261}, "from 262"),
        ({"tokenizer": "character", "vocabulary_size": 5}, "from 6"),
        ({"vocabulary_size": 1e4}, "domain.vocabulary_size is 10000.0"),
        ({"lowercase": "yes"}, "domain.lowercase"),
        ({"unmaskable_words": "<unk>"}, "it is a list"),
        ({"unmaskable_words": ["a b"]}, "'a b' is not a word without blanks"),
        ({"unmaskable_words": ["[MASK]"]}, "special token"),
        ({"unmaskable_words": ["unk"]}, "could be an ordinary token"),
        ({"chinese_units": "jieba"}, "domain.chinese_units"),
    ],
)
def test_an_option_outside_its_range_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TextDomain(**options)


def test_large_vocabularies_get_wide_stored_tokens() -> None:
    """The highest bit of a stored token marks the begin of a word."""
    assert TextDomain(vocabulary_size=32_768).token_dtype is np.uint16
    assert TextDomain(vocabulary_size=32_769).token_dtype is np.uint32


@pytest.mark.parametrize("kind", KINDS)
def test_a_literal_special_token_in_the_data_is_text(kind: str) -> None:
    text = "a [MASK] in a [PAD] with [CLS][SEP] and <unk>, [UNK]"
    domain = learned([text], tokenizer=kind)
    special = domain.vocabulary.special
    encoding = encoded(domain, text)
    assert not np.isin(encoding.ids[1:-1], list(vars(special).values())).any()
    assert (encoding.unit_ids[1:-1] >= 0).all()
    assert "".join(domain.decode(encoding.ids.tolist()).split()) == "".join(text.split())


@pytest.mark.parametrize("kind", KINDS)
def test_unmaskable_words_are_one_token_that_is_never_masked_nor_predicted(kind: str) -> None:
    domain = learned(["the <unk> cat", "a <unk><unk> mat"], tokenizer=kind,
                     unmaskable_words=["<unk>", "@-@"])  # fmt: skip
    placeholder = domain.vocabulary.id_of("<unk>")
    encoding = encoded(domain, "the <unk> cat")
    assert (encoding.ids == placeholder).sum() == 1
    assert (encoding.unit_ids[encoding.ids == placeholder] == -1).all()
    low, high = domain.vocabulary.ranges["text"]
    assert placeholder >= high
    learned_tokens = domain.vocabulary.tokens[low:high]
    assert not any("unk" in token for token in learned_tokens), "learned from the placeholder"
    assert "".join(domain.decode(encoding.ids.tolist()).split()) == "the<unk>cat"


WORDS = {
    "bpe": ["The", " cat", "'s", " hats", "!", "\n", "na\u00efve", " \u2014", " ", "\u4f60",
            "\u597d"],
    "wordpiece": ["The", "cat", "'", "s", "hats", "!", "na\u00efve", "\u2014", "\u4f60", "\u597d"],
    "unigram": ["The", " cat", "'", "s", " hats", "!", "\n", "na\u00efve", " \u2014", " ",
                "\u4f60", "\u597d"],
    "character": ["The", " ", "cat", "'", "s", " ", "hats", "!", "\n", "na\u00efve", " ", "\u2014",
                  " ", "\u4f60", "\u597d"],
}  # fmt: skip


def test_a_placeholder_that_normalised_text_would_make_a_token_of_is_refused() -> None:
    with pytest.raises(ConfigError, match="'\u20acuro' is also a word of the data"):
        learned(["\u20acURO"] * 9, tokenizer="wordpiece", lowercase=True,
                unmaskable_words=["\u20acuro"])  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_a_word_are_one_unit(kind: str) -> None:
    text = "The cat's hats!\nna\u00efve \u2014 \u4f60\u597d"
    size = {"bpe": 265, "wordpiece": 30, "unigram": 30, "character": 8_000}[kind]
    domain = learned([text], tokenizer=kind, vocabulary_size=size)
    encoding = encoded(domain, text)
    assert words_of(domain, encoding) == WORDS[kind]
    assert len(encoding.ids) - 2 > encoding.num_units, "some word must have several tokens"
    assert np.array_equal(domain.parse(text).unit_ids, encoding.unit_ids)


def test_a_word_with_an_unknown_character_inside_is_one_unit() -> None:
    domain = learned(["cafe is a cafe"], tokenizer="character")
    encoding = encoded(domain, "a caf\u2603e\u00e9 is")
    #                           [CLS] a ' ' c  a  f  snowman is a sign, e  unknown e-acute ...
    assert encoding.unit_ids.tolist() == [-1, 0, 1, 2, 2, 2, -1, 3, -1, 4, 5, 5, -1]
    encoding = encoded(domain, "ca\u00e9fe \u00e9a")
    assert encoding.unit_ids.tolist() == [-1, 0, 0, -1, 0, 0, 1, -1, 2, -1]
    assert domain.decode(encoding.ids.tolist()) == "ca\ufffdfe \ufffda"


def test_jieba_words_are_units_of_character_tokens() -> None:
    pytest.importorskip("jieba", reason="the extra 'chinese' is not installed")
    text = "\u6211\u6765\u5230\u5317\u4eac\u6e05\u534e\u5927\u5b66\u3002OK, 2 \u5317\u4eac!"
    words = ["\u6211", "\u6765\u5230", "\u5317\u4eac", "\u6e05\u534e\u5927\u5b66", "\u3002",
             "OK", ",", "2", "\u5317\u4eac", "!"]  # fmt: skip
    domain = learned([text], tokenizer="wordpiece", chinese_units="word")
    encoding = encoded(domain, text)
    assert words_of(domain, encoding) == words
    assert np.array_equal(domain.parse(text).unit_ids, encoding.unit_ids)
    characters = learned([text], tokenizer="wordpiece")
    assert np.array_equal(encoded(characters, text).ids, encoding.ids)
    assert encoded(characters, text).num_units == 16


DECODED = {
    "bpe": "The  cat;\n\n\u00e9t\u00e9",
    "wordpiece": "The cat ;\n\n\u00e9t\u00e9",
    "unigram": "The cat;\n\n\u00e9t\u00e9",
    "character": "The  cat;\n\n\u00e9t\u00e9",
}


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_gives_back_the_normalised_text(kind: str) -> None:
    text = "The  cat;\n\ne\u0301t\u00e9"
    domain = learned([text], tokenizer=kind)
    assert domain.decode(encoded(domain, text).ids.tolist()) == DECODED[kind]
    assert domain.decode(domain.parse(text).ids.tolist()) == DECODED[kind]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("bpe", "\u00e9t\u00e9"), ("wordpiece", "ete"), ("unigram", "\u00e9t\u00e9"),
     ("character", "\u00e9t\u00e9")],
)  # fmt: skip
def test_lower_casing_is_part_of_the_normalisation(kind: str, expected: str) -> None:
    domain = learned(["\u00c9T\u00c9"], tokenizer=kind, lowercase=True)
    assert domain.decode(domain.parse("\u00c9T\u00c9").ids.tolist()) == expected


BPE = learned()
CHARACTERS = learned(tokenizer="character")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(TEXT.filter(lambda text: "[MASK]" not in text and text))
def test_byte_level_bpe_loses_nothing_but_the_normal_form(text: str) -> None:
    import unicodedata

    assert BPE.decode(BPE.parse(text).ids.tolist()) == unicodedata.normalize("NFC", text)


@given(st.lists(st.sampled_from(["The", "cat", " ", "\n", ",", "\u4f60", "sat"]), max_size=400))
def test_long_texts_are_cut_for_speed_without_changing_a_token(parts: list[str]) -> None:
    text = "".join(parts)
    for domain in (BPE, CHARACTERS):
        block = domain.tokenize(records_of([text, text]), ReadReport(read=2))
        assert block.lengths[0] == block.lengths[1]
        if block.lengths[0]:
            whole = domain.parse(text)
            cut = domain.assemble(block.tokens[: block.lengths[0]], max_length=10_000)
            assert np.array_equal(cut.ids, whole.ids)
            assert np.array_equal(cut.unit_ids, whole.unit_ids)


@pytest.mark.parametrize("kind", KINDS)
def test_typed_masks_are_mask_tokens_without_a_unit(kind: str) -> None:
    domain = learned(tokenizer=kind)
    text = "The [MASK] sat on [MASK]"
    encoding = domain.parse(text)
    masks = np.flatnonzero(encoding.ids == domain.vocabulary.special.mask)
    assert len(masks) == 2
    assert (encoding.unit_ids[masks] == -1).all()
    assert encoding.offsets is not None
    assert [text[start:end] for start, end in encoding.offsets[masks]] == ["[MASK]", "[MASK]"]


def test_a_mask_hides_the_blank_before_it_where_tokens_begin_with_blanks() -> None:
    domains = {kind: learned(tokenizer=kind) for kind in KINDS}
    visible = {
        kind: domain.decode(domain.parse("on [MASK] mat").ids.tolist())
        for kind, domain in domains.items()
    }
    assert visible == {
        "bpe": "on mat", "unigram": "on mat", "wordpiece": "on mat", "character": "on  mat",
    }  # fmt: skip


def test_offsets_count_characters_of_the_typed_text() -> None:
    domain = learned()
    text = "The cat\u2019s [MASK] \U0001f600 sat"
    encoding = domain.parse(text)
    assert encoding.offsets is not None
    for id, (start, end) in zip(encoding.ids[1:-1], encoding.offsets[1:-1], strict=True):
        shown = domain.decode([int(id)])
        if "\ufffd" not in shown and id != domain.vocabulary.special.mask:
            assert text[start:end] == shown


@pytest.mark.parametrize("text", ["", "\ud800"], ids=["empty", "half a surrogate pair"])
def test_a_typed_text_that_cannot_be_encoded_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="input"):
        BPE.parse(text)


def test_records_with_nothing_to_mask_are_dropped_with_a_reason_and_unknown_tokens_counted() -> (
    None
):
    domain = learned(["the cat"], tokenizer="character", unmaskable_words=["<unk>"])
    report = ReadReport(read=5)
    block = domain.tokenize(
        records_of(["the cat", "", "\u2603\u2603", "<unk>", "c\u2603a\u2603"]), report
    )
    assert block.lengths.tolist() == [7, 0, 0, 0, 4]
    assert len(block.tokens) == 11
    assert report.dropped == {"empty document": 1, "nothing but unknown or unmaskable words": 2}
    assert report.notes == {"unknown token": 2}
    assert report.examples["unknown token"] == ["test.txt, record 5 (r5)"]


def test_a_word_longer_than_the_window_is_one_unit_of_what_is_inside() -> None:
    domain = learned(["pneumonoultramicroscopic"], tokenizer="character")
    tokens = domain.tokenize(records_of(["pneumonoultramicroscopic"]), ReadReport(read=1)).tokens
    for generator in (None, np.random.default_rng(0)):
        encoding = domain.assemble(tokens, max_length=7, generator=generator)
        assert encoding.unit_ids.tolist() == [-1, 0, 0, 0, 0, 0, -1]


def test_a_length_without_room_for_a_token_is_refused() -> None:
    tokens = BPE.tokenize(records_of(["The cat"]), ReadReport(read=1)).tokens
    with pytest.raises(ConfigError, match="at least 3"):
        BPE.assemble(tokens, max_length=2)


def test_data_without_anything_to_learn_are_refused() -> None:
    with pytest.raises(DataError, match="hold no text, only white space and unmaskable"):
        learned(["", " \n", "<unk> <unk>"], unmaskable_words=["<unk>"])


@pytest.mark.parametrize("unmaskable", [[], ["<unk>"]])
def test_a_frequent_placeholder_is_remarked_on_unless_it_is_unmaskable(
    caplog: pytest.LogCaptureFixture, unmaskable: list[str]
) -> None:
    with caplog.at_level("INFO", logger="seqmlm"):
        learned(["the cat <unk> sat on the <unk> mat"], unmaskable_words=unmaskable)
    said = [line for line in caplog.messages if line.startswith("<unk> is 25.0 % of the words")]
    assert len(said) == (not unmaskable)


def test_a_tokenizer_of_other_options_is_refused(tmp_path: Path) -> None:
    learned(tokenizer="character").save_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="kind = 'character', but the configuration says 'bpe'"):
        TextDomain().load_tokenizer(tmp_path)


def test_a_damaged_or_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        TextDomain().load_tokenizer(tmp_path)
    BPE.save_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace("cat", "dog", 1))
    with pytest.raises(CheckpointError, match="damaged"):
        TextDomain().load_tokenizer(tmp_path)


def test_other_programs_read_the_tokenizer_and_get_the_same_ids(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    for kind in KINDS:
        domain = learned(tokenizer=kind)
        domain.save_tokenizer(tmp_path)
        theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        for text in CORPUS:
            assert theirs.encode(text).ids == encoded(domain, text).ids.tolist()


@pytest.fixture
def store(tmp_path: Path) -> Callable[[Sequence[tuple[str, int]]], TokenStore]:
    def build(records: Sequence[tuple[str, int]]) -> TokenStore:
        lengths = np.array([length for _, length in records])
        writer = StoreWriter(tmp_path, token_dtype=np.uint16)
        tokens = np.arange(lengths.sum(), dtype=np.uint16)
        writer.append([name for name, _ in records], tokens, lengths)
        writer.finish(report=ReadReport(), made_from={}, version="0")
        return TokenStore(tmp_path)

    return build


def test_passages_of_a_document_stay_together(
    store: Callable[[Sequence[tuple[str, int]]], TokenStore],
) -> None:
    records = [(f"d{i}{part}", 10) for i in range(40) for part in ("", " \u00a72", " \u00a73")]
    groups = BPE.similarity_groups(store(records))
    assert groups.tolist() == [i for i in range(40) for _ in range(3)]


def test_a_document_that_dominates_the_corpus_is_parted_in_consecutive_stretches(
    store: Callable[[Sequence[tuple[str, int]]], TokenStore],
) -> None:
    # 1000 tokens in all: stretches of 10, the first document holds 900.
    book = [("book", 5)] + [(f"book \u00a7{part}", 5) for part in range(2, 181)]
    groups = BPE.similarity_groups(store([*book, ("a", 50), ("b", 25), ("b \u00a72", 25)]))
    assert groups.tolist() == [i // 2 for i in range(180)] + [90, 91, 91]


def test_a_store_keeps_the_tokenizer_and_a_loaded_domain_finds_the_store_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluation loads the model's vocabulary; it must not tokenise the data a second time."""
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "lines.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in CORPUS))
    domain = TextDomain()
    first = open_store(domain, [str(source)])
    fresh, loaded = TextDomain(), TextDomain()
    loaded.load_tokenizer(first.folder)
    for other in (fresh, loaded):
        assert open_store(other, [str(source)]).folder == first.folder
        assert other.vocabulary.fingerprint() == domain.vocabulary.fingerprint()
    stranger = learned(["something else"])
    assert open_store(stranger, [str(source)]).folder != first.folder


def test_building_a_store_twice_gives_the_same_tokens(tmp_path: Path) -> None:
    source = tmp_path / "documents.txt"
    source.write_text("\n".join(CORPUS))
    for kind in KINDS:
        stores = [
            prepare(TextDomain(tokenizer=kind), [str(source)], tmp_path / f"{kind}{i}")  # type: ignore[arg-type]
            for i in range(2)
        ]
        assert stores[0].fingerprint == stores[1].fingerprint
        files = [(store.folder / "tokenizer.json").read_bytes() for store in stores]
        assert files[0] == files[1]


def test_the_bundled_run_reads_its_text_whole_and_parts_it_for_a_split() -> None:
    run = TextDomain.bundled_run()
    domain, report = TextDomain(**run["domain"]), ReadReport()
    records = list(domain.read(run["data"]["sources"], report))
    domain.fit_tokenizer(records)
    block = domain.tokenize(records, report)
    assert report.used == report.read == len(records)
    assert not report.notes
    assert len("".join("".join(record.content for record in records).split())) == 81_237
    assert block.lengths.max() <= run["data"]["max_length"] - 2
    assert all(Path(name).name in (SAMPLES / "ATTRIBUTION.md").read_text()
               for name in run["data"]["sources"])  # fmt: skip
