from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.protein.tokenizer import (
    RESIDUE_RANGE,
    TOKENS,
    VOCABULARY,
    GapPolicy,
    ResidueTokenizer,
    decode,
    encode,
)

# From the vocabulary of ESM-2: L 4, A 5, G 6, V 7, S 8, E 9, R 10, T 11, I 12, D 13, P 14, K 15,
# Q 16, N 17, F 18, Y 19, M 20, H 21, W 22, C 23, X 24, B 25, U 26, Z 27, O 28.
GOLDEN = {
    "MKTAYIAK": [20, 15, 11, 5, 19, 12, 5, 15],
    "LAGVSERTIDPKQNFYMHWC": list(range(4, 24)),
    "XBUZO": [24, 25, 26, 27, 28],
}

residues = st.text(alphabet="ACDEFGHIKLMNPQRSTVWYXBZUO", min_size=1, max_size=60)


def records_of(*contents: str) -> list[Record]:
    return [
        Record(f"P{number}", content, "x.fasta", number)
        for number, content in enumerate(contents, start=1)
    ]


def tokenize(*contents: str, gaps: GapPolicy = "refuse") -> tuple[list[list[int]], ReadReport]:
    report = ReadReport(read=len(contents))
    block = ResidueTokenizer(gaps).tokenize(records_of(*contents), report)
    assert block.tokens.dtype == np.uint8
    pieces = np.split(block.tokens, np.cumsum(block.lengths))
    assert pieces[-1].size == 0
    return [piece.tolist() for piece in pieces[:-1]], report


@pytest.mark.parametrize(("sequence", "ids"), GOLDEN.items(), ids=GOLDEN)
def test_ids_are_those_of_esm_2(sequence: str, ids: list[int]) -> None:
    assert tokenize(sequence)[0] == [ids]
    assert tokenize(sequence.lower())[0] == [ids]


def test_vocabulary_is_that_of_esm_2() -> None:
    assert len(VOCABULARY) == 33
    special = {"<cls>": 0, "<pad>": 1, "<eos>": 2, "<unk>": 3, "<null_1>": 31, "<mask>": 32}
    assert {token: VOCABULARY.id_of(token) for token in special} == special
    assert (VOCABULARY.id_of("."), VOCABULARY.id_of("-")) == (29, 30)
    assert VOCABULARY.ranges == {"protein": (4, 24)}


def test_ids_equal_those_of_the_transformers_tokenizer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    vocabulary_file = tmp_path / "vocab.txt"
    vocabulary_file.write_text("\n".join(TOKENS))
    reference = transformers.EsmTokenizer(str(vocabulary_file))
    for sequence in [*GOLDEN, "MKT<mask>YIAK"]:
        ours = ResidueTokenizer().parse(sequence).ids.tolist()
        assert ours == reference(sequence)["input_ids"]


def test_many_records_are_cut_where_they_end() -> None:
    tokens, report = tokenize("MK", "A", "WCX")
    assert tokens == [[20, 15], [5], [22, 23, 24]]
    assert report.used == 3
    assert not report.notes


POLICY = {
    "one stop at the end": ("refuse", "MK*", "MK", {"stop (*) at the end removed": 1}),
    "J": ("refuse", "JMjK", "XMXK", {"J (leucine or isoleucine) read as X": 2}),
    "gaps stripped": ("strip", "-M.K--", "MK", {"gap removed": 4}),
    "stop before trailing gaps": (
        "strip",
        "MK*--",
        "MK",
        {"gap removed": 2, "stop (*) at the end removed": 1},
    ),
    "gaps kept": ("keep", "M-K.", "M-K.", {}),
}


@pytest.mark.parametrize(("gaps", "given", "kept", "notes"), POLICY.values(), ids=POLICY)
def test_exceptional_characters_follow_the_policy(
    gaps: GapPolicy, given: str, kept: str, notes: dict[str, int]
) -> None:
    tokens, report = tokenize("AC", given, "WY", gaps=gaps)
    assert tokens == [[5, 23], [TOKENS.index(letter) for letter in kept], [22, 19]]
    assert report.notes == notes
    assert all(places == ["x.fasta, record 2 (P2)"] for places in report.examples.values())


REFUSED = {
    "digit": ("refuse", "MK7T", 3, "'7'"),
    "at sign": ("refuse", "@", 1, "'@'"),
    "space": ("refuse", "MK T", 3, "' '"),
    "NUL": ("refuse", "M\0K", 2, "'\\x00'"),
    "outside ASCII": ("refuse", "MKé", 3, "'é'"),
    "question mark": ("refuse", "M?", 2, "'?'"),
    "gap": ("refuse", "M-K", 2, "domain.gaps"),
    "dot": ("refuse", "MK.", 3, "domain.gaps"),
    "stop inside": ("refuse", "M*K*", 2, "stop inside"),
    "stop inside, gaps kept": ("keep", "M-*K", 3, "stop inside"),
    "two stops": ("refuse", "MK**", 3, "stop inside"),
    "after stripped gaps, counted in the original": ("strip", "--M-K1--*", 6, "'1'"),
    "first of several": ("refuse", "M1J2", 2, "'1'"),
    "J comes first but is fine": ("refuse", "JM1", 3, "'1'"),
}


@pytest.mark.parametrize(("gaps", "content", "position", "says"), REFUSED.values(), ids=REFUSED)
def test_a_refused_character_is_located(
    gaps: GapPolicy, content: str, position: int, says: str
) -> None:
    with pytest.raises(DataError) as caught:
        tokenize("MKJ*", "", content, "M9", gaps=gaps)
    message = str(caught.value)
    assert message.startswith(f"x.fasta, record 3 (P3): position {position} is ")
    assert says in message
    assert "\n" not in message
    assert "\0" not in message


@pytest.mark.parametrize(
    ("gaps", "content"),
    [("refuse", ""), ("refuse", "*"), ("strip", "--."), ("strip", "-*-")],
)
def test_a_record_without_residues_is_dropped_and_counted(gaps: GapPolicy, content: str) -> None:
    tokens, report = tokenize("MK", content, "A", gaps=gaps)
    assert tokens == [[20, 15], [], [5]]
    assert report.dropped == {"no sequence": 1}
    assert report.examples["no sequence"] == ["x.fasta, record 2 (P2)"]
    assert report.used == 2


def test_no_records_make_no_tokens() -> None:
    assert tokenize() == ([], ReadReport())


def test_an_unknown_gap_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="refuse, strip, keep"):
        ResidueTokenizer("drop")  # type: ignore[arg-type]


@given(st.lists(residues, min_size=1, max_size=8))
def test_decoding_gives_back_what_was_encoded(sequences: list[str]) -> None:
    tokens, _ = tokenize(*sequences)
    assert [decode(ids) for ids in tokens] == sequences
    assert [decode(ResidueTokenizer().parse(s).ids.tolist()) for s in sequences] == sequences


@given(st.text(max_size=30))
def test_any_text_is_tokenised_or_refused_with_its_position(text: str) -> None:
    try:
        (tokens,), _ = tokenize(text)
    except DataError as error:
        position = int(str(error).split("position ")[1].split(" ")[0])
        assert text[position - 1].upper() not in "ACDEFGHIKLMNPQRSTVWYXBZUOJ"
    else:
        assert decode(tokens) == text.upper().removesuffix("*").replace("J", "X")


@given(st.text(alphabet="ACDEFGHIKLMNPQRSTVWYXBZUO.-", min_size=1))
def test_only_standard_residues_are_units_and_all_of_them_are(sequence: str) -> None:
    (tokens,), _ = tokenize(sequence, gaps="keep")
    encoding = encode(np.array(tokens, dtype=np.uint8))
    is_unit = encoding.unit_ids >= 0
    assert is_unit.tolist() == [False, *(c in "ACDEFGHIKLMNPQRSTVWY" for c in sequence), False]
    assert encoding.unit_ids[is_unit].tolist() == list(range(is_unit.sum()))
    low, high = RESIDUE_RANGE
    assert ((encoding.ids[is_unit] >= low) & (encoding.ids[is_unit] < high)).all()
    assert not encoding.segment_ids.any()


def test_parsing_finds_masks_and_keeps_the_offsets_of_the_typed_text() -> None:
    encoding = ResidueTokenizer().parse(" mk <mask>\nX*")
    assert encoding.ids.tolist() == [0, 20, 15, 32, 24, 2]
    assert encoding.unit_ids.tolist() == [-1, 0, 1, -1, -1, -1]
    assert encoding.offsets is not None
    assert encoding.offsets.tolist() == [[0, 0], [1, 2], [2, 3], [4, 10], [11, 12], [0, 0]]


def test_parsing_follows_the_gap_policy() -> None:
    assert ResidueTokenizer("strip").parse("M-K--").ids.tolist() == [0, 20, 15, 2]
    assert ResidueTokenizer("keep").parse("M-K").ids.tolist() == [0, 20, 30, 15, 2]


UNPARSABLE = {
    "digit": ("MK7", "position 3 is '7'"),
    "after white space": ("M K 7", "position 5 is '7'"),
    "after a mask": ("M<mask>1", "position 8 is '1'"),
    "gap": ("M-K", "position 2 is '-'"),
    "stop inside": ("M*K", "position 2 is '*'"),
    "start token": ("<cls>MK", "position 1 is '<cls>'; special tokens are added automatically"),
    "unknown tag": ("M<masc>", "position 2 is '<masc>'; only <mask>"),
    "open bracket": ("M<mask", "position 2 is '<'"),
    "nothing": (" * ", "holds no residue"),
}


@pytest.mark.parametrize(("text", "says"), UNPARSABLE.values(), ids=UNPARSABLE)
def test_text_that_cannot_be_parsed_is_refused_with_the_position(text: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        ResidueTokenizer().parse(text)
    assert says in str(caught.value)


def test_decoding_leaves_special_tokens_out() -> None:
    assert decode([0, 1, 20, 32, 15, 3, 31, 30, 2]) == "MK-"
