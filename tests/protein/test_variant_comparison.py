from __future__ import annotations

import csv
import gzip
import math

import numpy as np
import pytest

from seqmlm.finetuning.statistics import correlation, ranks
from seqmlm_domains.protein.domain import SAMPLES
from seqmlm_domains.protein.variants.comparison import blosum62_scores, compare
from seqmlm_domains.protein.variants.offset import OffsetChoice
from seqmlm_domains.protein.variants.scorer import VariantScore, VariantScores
from seqmlm_domains.protein.variants.site_independent import SiteIndependentModel

WILD_TYPE = "MKTA"


def scored(*items: VariantScore) -> VariantScores:
    return VariantScores(items, WILD_TYPE, "masked-marginal", OffsetChoice(1, 4, 4), None)


def single(site: int, letter: str, score: float) -> VariantScore:
    return VariantScore(f"{WILD_TYPE[site]}{site + 1}{letter}", score, "", ((site, letter),))


def test_the_stored_esm_1v_scores_of_tem_1_correlate_as_published() -> None:
    """0.703 was computed from the five columns of the source by another program."""
    with gzip.open(SAMPLES / "BLAT_ECOLX_Stiffler2015_singles.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    measured = np.array([float(row["DMS_score"]) for row in rows])
    predicted = np.array([float(row["esm1v_mean"]) for row in rows])
    assert len(rows) == 4996
    assert round(correlation(ranks(measured), ranks(predicted)), 3) == 0.703


def test_tied_values_share_their_mean_rank() -> None:
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
    found = correlation(ranks(np.array([1.0, 5, 5, 9])), ranks(np.array([0.0, 1, 2, 3])))
    assert found == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_blosum62_adds_up_the_substitutions() -> None:
    # Of the published table: K to R 2, T to S 1, M to W -1.
    variants = [((1, "R"),), ((2, "S"), (0, "W")), ()]
    assert blosum62_scores(WILD_TYPE, variants).tolist() == [2.0, 0.0, 0.0]


def test_the_model_stands_beside_the_bars() -> None:
    scores = scored(
        single(0, "W", -3.0),
        single(1, "R", -1.0),
        VariantScore("K2R:T3S", -2.0, "", ((1, "R"), (2, "S"))),
        single(3, "S", -0.5),
    )
    found = compare(scores, [0.1, 0.8, 0.3, 0.9])
    assert found.variants == 4
    assert list(found.spearman) == ["masked-marginal", "BLOSUM62", "number of mutations"]
    assert found.spearman["masked-marginal"].value == pytest.approx(1)
    # BLOSUM62 gives -1, 2, 3, 1: ranks 1, 3, 4, 2 against 1, 3, 2, 4.
    assert found.spearman["BLOSUM62"].value == pytest.approx(0.2)
    # Ranks 3, 3, 1, 3 against 1, 3, 2, 4.
    assert found.spearman["number of mutations"].value == pytest.approx(1 / math.sqrt(3 * 5))
    interval = found.spearman["BLOSUM62"]
    assert -1 <= interval.low <= interval.value <= interval.high <= 1


def test_the_number_of_mutations_says_nothing_of_single_mutants() -> None:
    scores = scored(single(0, "W", -3.0), single(1, "R", -1.0), single(2, "S", -2.0))
    assert math.isnan(compare(scores, [0.1, 0.8, 0.3]).spearman["number of mutations"].value)


def test_the_site_independent_model_is_shown_apart_and_added() -> None:
    probabilities = np.full((4, 20), 0.05)
    probabilities[1] = np.linspace(1, 20, 20) / 210
    family = SiteIndependentModel(np.log(probabilities), 10, 5.0, 0)
    scores = scored(single(0, "W", -3.0), single(1, "R", -1.0), single(2, "S", -2.0))
    found = compare(scores, [0.1, 0.8, 0.3], site_independent=family)
    assert list(found.spearman)[3:] == ["site-independent", "masked-marginal + site-independent"]


def test_what_cannot_be_compared_is_counted() -> None:
    scores = scored(
        single(0, "W", -3.0),
        single(1, "R", -1.0),
        single(2, "S", -1.0),
        VariantScore("K2del", -4.0),
        VariantScore("K2*", None, "stop codon"),
    )
    found = compare(scores, [0.1, 0.8, math.nan, 0.3, 0.4])
    assert (found.variants, found.not_compared) == (2, 2)
    assert found.to_json()["spearman"]["number of mutations"]["value"] is None


def test_without_a_measured_value_there_is_no_correlation() -> None:
    found = compare(scored(single(0, "W", -3.0)), [math.nan])
    assert found.variants == 0
    assert math.isnan(found.spearman["masked-marginal"].value)
