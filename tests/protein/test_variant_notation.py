from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES
from seqmlm_domains.protein.variants.notation import UnscorableVariantError, parse_variant
from seqmlm_domains.protein.variants.offset import choose_offset

WILD_TYPE = "MKTAYIAKQR"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K2G", "MGTAYIAKQR"),
        ("k2g", "MGTAYIAKQR"),
        (" K2G ", "MGTAYIAKQR"),
        ("K2G:Y5W", "MGTAWIAKQR"),
        ("Y5W,K2G", "MGTAWIAKQR"),
        ("K2G; Y5W", "MGTAWIAKQR"),
        ("K2K", WILD_TYPE),
        ("WT", WILD_TYPE),
        ("_wt", WILD_TYPE),
        ("K2del", "MTAYIAKQR"),
        ("K2_A4del", "MYIAKQR"),
        ("K2_T3insGG", "MKGGTAYIAKQR"),
        ("M1A:K2_T3insGG:R10del", "AKGGTAYIAKQ"),
        ("MKTAYIAKQRW", "MKTAYIAKQRW"),
        ("mktayiakqg*", "MKTAYIAKQG"),
    ],
)
def test_a_variant_is_the_sequence_that_its_mutations_make(text: str, expected: str) -> None:
    assert parse_variant(text).applied_to(WILD_TYPE, offset=1) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no mutation is given"),
        ("K2*", "stop codon"),
        ("K2ter", "stop codon"),
        ("K2G:Y5*", "stop codon"),
        ("K2X", "'X' is none of the 20"),
        ("K2-", "'-' is none of the 20"),
        ("2G", "'2G' is no mutation"),
        ("K2G:", "'' is no mutation"),
        ("p.Lys2Gly", "'P.LYS2GLY' is no mutation"),
        ("A2G", "A2 does not match the wild type, which has K at 2"),
        ("K0G", "K0 is outside of the wild type, which has residues 1 to 10"),
        ("R11G", "R11 is outside"),
        ("K2G:K2A", "two mutations meet at K2"),
        ("K2_A4del:T3G", "two mutations meet at T3"),
        ("A4_K2del", "K2 comes before A4"),
        ("K2_A4insG", "K2 and A4 are no neighbours"),
        ("M1_R10del", "every residue is deleted"),
        ("MKTAYIAKJR", "'J' is none of the 20"),
        ("synonymous", "it has no probability; SYNONYMOUS was read as a sequence"),
        ("NA", "no mutation is given"),
        ("nan", "no mutation is given"),
    ],
)
def test_what_cannot_be_scored_has_a_reason(text: str, reason: str) -> None:
    with pytest.raises(UnscorableVariantError, match=r".") as refused:
        parse_variant(text).applied_to(WILD_TYPE, offset=1)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("text", "moves"),
    [("K2G", False), ("WT", False), ("K2del", True), ("K2_T3insG", True), ("MKT", True),
     ("K2del:Y5_I6insG", True), ("MKTAYIAKQG", False)],
)  # fmt: skip
def test_insertions_and_deletions_move_residues(text: str, moves: bool) -> None:
    assert parse_variant(text).moves_residues(WILD_TYPE) == moves


@given(
    wild_type=st.text(STANDARD_RESIDUES, min_size=1, max_size=30),
    offset=st.integers(-50, 300),
    data=st.data(),
)
def test_substitutions_change_their_sites_alone(
    wild_type: str, offset: int, data: st.DataObject
) -> None:
    changes = data.draw(
        st.dictionaries(
            st.integers(0, len(wild_type) - 1), st.sampled_from(STANDARD_RESIDUES), min_size=1
        )
    )
    text = ":".join(f"{wild_type[site]}{site + offset}{new}" for site, new in changes.items())
    expected = [changes.get(site, letter) for site, letter in enumerate(wild_type)]
    assert parse_variant(text).applied_to(wild_type, offset=offset) == "".join(expected)


def mutations(*texts: str) -> list[tuple[object, ...]]:
    return [parse_variant(text).mutations for text in texts]


@pytest.mark.parametrize(
    ("texts", "offset", "matching"),
    [
        (["K2A", "T3A"], 1, 2),
        (["K1A", "T2A"], 0, 2),
        # Only a third numbering explains the letters of five residues.
        (["M101A", "K102A", "T103A", "A104G", "Y105A"], 101, 5),
        # One wrong letter among them does not hide it.
        (["M101A", "K102A", "T103A", "A104G", "Y105A", "W106A"], 101, 5),
        # Four would agree somewhere by chance in a long protein: counting from 1, with reasons.
        (["M101A", "K102A", "T103A", "A104G"], 1, 0),
        ([], 1, 0),
    ],
    ids=["from 1", "from 0", "from 101", "one wrong", "too few", "none"],
)
def test_the_offset_is_found_from_the_letters(texts: list[str], offset: int, matching: int) -> None:
    choice = choose_offset(WILD_TYPE, mutations(*texts))  # type: ignore[arg-type]
    assert (choice.offset, choice.matching) == (offset, matching)


def test_counting_from_one_wins_a_tie_that_is_reported() -> None:
    choice = choose_offset("AAAC", mutations("A2C"))  # type: ignore[arg-type]
    assert choice.offset == 1
    assert choice.also_possible == (0, 2)
    assert "at least as many would at 0, 2" in choice.describe()


def test_a_given_offset_is_kept_whatever_the_letters_say() -> None:
    choice = choose_offset(WILD_TYPE, mutations("K2A"), offset=7)  # type: ignore[arg-type]
    assert (choice.offset, choice.matching, choice.is_given) == (7, 0, True)
