from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.protein.homologs import align_homologs, identities, write_remote_homologs
from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES
from seqmlm_domains.protein.variants.site_independent import (
    PSEUDOCOUNTS,
    fit_site_independent,
    sequence_weights,
)

WILD_TYPE = "MKTAYIAKQRQISFVKSHFS"
GAP = 20


def fasta(path: Path, *sequences: str) -> str:
    path.write_text("".join(f">h{i}\n{sequence}\n" for i, sequence in enumerate(sequences)))
    return str(path)


def letters(row: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> str:
    return "".join((STANDARD_RESIDUES + "-")[code] for code in row)


@pytest.mark.parametrize(
    ("homolog", "expected"),
    [
        ("MKTAYIAKQRQISWVKSHFS", "MKTAYIAKQRQISWVKSHFS"),
        ("GGMKTAYIAKQRQISWVKSHFSGG", "MKTAYIAKQRQISWVKSHFS"),
        ("AYIAKQRQISWVK", "---AYIAKQRQISWVK----"),
        ("MKTAYIAKWWWWQRQISFVKSHFS", "MKTAYIAKQRQISFVKSHFS"),
        ("MKTAYIAKQXQISFVKSHFS*", "MKTAYIAKQ-QISFVKSHFS"),
    ],
    ids=["substitution", "longer", "shorter", "insertion", "unknown letter and stop"],
)
def test_homologs_are_aligned_to_the_sites_of_the_wild_type(homolog: str, expected: str) -> None:
    assert letters(align_homologs(WILD_TYPE, [homolog])[0]) == expected


def test_an_alignment_is_taken_as_it_is() -> None:
    rows = ["MK-TAYI", "MRw-.TGYI", "-KG-A--"]
    assert [letters(row) for row in align_homologs("MKTAYI", rows)] == [
        "MKTAYI",
        "MRTGYI",
        "-K-A--",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["MK-TAYI", "MKTAYI"], "differ in length"),
        (["MK-TAYG", "MKGTAYG"], "no row is the wild type"),
    ],
)
def test_rows_that_are_no_alignment_of_the_wild_type_are_refused(
    rows: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        align_homologs("MKTAYI", rows)


def test_homologs_close_to_the_wild_type_are_left_out(tmp_path: Path) -> None:
    # 20, 19 and 18 of 20 residues are the same.
    homologs = [WILD_TYPE, "W" + WILD_TYPE[1:], "WW" + WILD_TYPE[2:]]
    shares = identities(WILD_TYPE, align_homologs(WILD_TYPE, homologs))
    assert shares == pytest.approx([1, 0.95, 0.9])
    source = fasta(tmp_path / "h.fasta", *homologs)
    model = fit_site_independent(WILD_TYPE, [source], max_identity=0.95)
    assert (model.homologs, model.left_out) == (1, 2)
    written = tmp_path / "remote.fasta"
    counts = write_remote_homologs(WILD_TYPE, [source], written, max_identity=0.95)
    assert (counts.written, counts.left_out, counts.empty) == (1, 2, 0)
    assert written.read_text() == f">h2\n{homologs[2]}\n"


def test_a_family_without_remote_homologs_is_not_written(tmp_path: Path) -> None:
    source = fasta(tmp_path / "h.fasta", WILD_TYPE)
    with pytest.raises(DataError, match="none is left"):
        write_remote_homologs(WILD_TYPE, [source], tmp_path / "out", max_identity=0.95)
    with pytest.raises(ConfigError, match=r"max-identity 1\.5: it is a share"):
        write_remote_homologs(WILD_TYPE, [source], tmp_path / "out", max_identity=1.5)
    assert not (tmp_path / "out").exists()


def test_homologs_without_a_residue_are_counted_and_not_aligned(tmp_path: Path) -> None:
    remote = "WW" + WILD_TYPE[2:]
    source = fasta(tmp_path / "h.fasta", "", remote, "*")
    written = tmp_path / "remote.fasta"
    counts = write_remote_homologs(WILD_TYPE, [source], written, max_identity=0.95)
    assert (counts.written, counts.left_out, counts.empty) == (1, 0, 2)
    assert written.read_text() == f">h1\n{remote}\n"
    assert fit_site_independent(WILD_TYPE, [source]).homologs == 1


def test_the_family_that_is_read_is_never_written_over(tmp_path: Path) -> None:
    source = fasta(tmp_path / "h.fasta", WILD_TYPE, "WW" + WILD_TYPE[2:])
    before = Path(source).read_bytes()
    for sources in ([source], [str(tmp_path / "*.fasta")], [str(tmp_path)]):
        with pytest.raises(ConfigError, match="is a file that is read"):
            write_remote_homologs(WILD_TYPE, sources, Path(source), max_identity=0.95)
    assert Path(source).read_bytes() == before


def test_copies_share_the_weight_of_one() -> None:
    rows = np.array([[0] * 10, [0] * 10, [0] * 9 + [1], [2] * 10], np.uint8)
    assert sequence_weights(rows) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


def test_a_gap_is_no_match() -> None:
    rows = np.array([[0] * 5 + [GAP] * 5, [1] * 5 + [GAP] * 5], np.uint8)
    assert sequence_weights(rows).tolist() == [1, 1]


def test_frequencies_are_smoothed_by_the_composition(tmp_path: Path) -> None:
    source = fasta(tmp_path / "h.fasta", "A" * 10, "G" * 10)
    model = fit_site_independent("A" * 10, [source], max_identity=1.1)
    assert (model.homologs, model.effective_homologs) == (2, 2.0)
    row = np.exp(model.log_probabilities[3])
    assert row.sum() == pytest.approx(1)
    # One of each and PSEUDOCOUNTS shared evenly: half each, but for the small share of the rest.
    expected = (1 + PSEUDOCOUNTS * (0.5 + 1e-4)) / (2 + PSEUDOCOUNTS * (1 + 20e-4))
    assert row[STANDARD_RESIDUES.index("A")] == pytest.approx(expected)
    assert model.score("A" * 10, ((3, "G"),)) == pytest.approx(0)
    assert model.score("A" * 10, ()) == 0
    unseen = math.log(PSEUDOCOUNTS * 1e-4 / (1 + PSEUDOCOUNTS * (0.5 + 1e-4)))
    assert model.score("A" * 10, ((3, "W"), (4, "W"))) == pytest.approx(2 * unseen)


def test_a_family_of_near_copies_alone_is_refused(tmp_path: Path) -> None:
    source = fasta(tmp_path / "h.fasta", WILD_TYPE)
    with pytest.raises(DataError, match="all 1 homologs are at least 95% identical"):
        fit_site_independent(WILD_TYPE, [source])
