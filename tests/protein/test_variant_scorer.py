"""Scores against a loop that fills masks one text at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from seqmlm.data.packing import pack
from seqmlm.domain import Domain, build_domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row, TrainedObjective
from seqmlm_domains.protein import VariantScorer
from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES, VOCABULARY
from seqmlm_domains.protein.variants.hidden_residues import window_around
from seqmlm_domains.protein.variants.passes import RandomMasks
from seqmlm_domains.protein.variants.scorer import mean_scores

WILD_TYPE = "MKTAYIAKQRQISFVKSHFS"
VARIANTS = ["K2G", "A4W", "S20A", "M1V", "K2G:A4W:S20A", "R10D,K2G", "K2K", "WT", "K2G"]


@pytest.fixture(scope="module")
def model(build_model: Callable[..., Model]) -> Model:
    return build_model(build_domain({"name": "protein"}))


def masked(sequence: str, sites: set[int]) -> str:
    return "".join("<mask>" if i in sites else letter for i, letter in enumerate(sequence))


def filled(model: Model, sequence: str, sites: set[int]) -> dict[int, dict[str, float]]:
    """Log p of every residue at each hidden site."""
    fillings = model.fill_mask(masked(sequence, sites), top_k=20)
    return {
        site: {filling.token: math.log(filling.probability) for filling in found}
        for site, found in zip(sorted(sites), fillings, strict=True)
    }


def unmasked(model: Model, sequence: str) -> dict[int, dict[str, float]]:
    with model.inference():
        hidden = model(pack([Row.of(model.domain.parse(sequence))]))
        values, ids = model.token_head.top_k(
            hidden, torch.arange(1, len(sequence) + 1), 20,
            allowed=model.allowed_tokens, backend="reference",
        )  # fmt: skip
    return {
        site: {VOCABULARY.tokens[token]: value for token, value in zip(*row, strict=True)}
        for site, row in enumerate(zip(ids.tolist(), values.tolist(), strict=True))
    }


def changes(variant: str) -> dict[int, str]:
    if variant == "WT":
        return {}
    parts = variant.replace(",", ":").split(":")
    found = {int(part[1:-1]) - 1: part[-1] for part in parts}
    return {site: new for site, new in found.items() if WILD_TYPE[site] != new}


def brute_force(model: Model, variant: str, method: str) -> float:
    new = changes(variant)
    if method == "pseudo-likelihood":
        sequence = "".join(new.get(i, letter) for i, letter in enumerate(WILD_TYPE))
        of_variant, of_wild_type = model.pseudo_log_likelihood([sequence, WILD_TYPE])
        return of_variant - of_wild_type
    if not new:
        return 0.0
    if method == "wt-marginal":
        expected = unmasked(model, WILD_TYPE)
    elif method == "joint-mask":
        expected = filled(model, WILD_TYPE, set(new))
    else:
        expected = {site: filled(model, WILD_TYPE, {site})[site] for site in new}
    return sum(expected[site][new[site]] - expected[site][WILD_TYPE[site]] for site in new)


@pytest.mark.parametrize(
    "method", ["wt-marginal", "masked-marginal", "joint-mask", "pseudo-likelihood"]
)
def test_scores_equal_a_loop_over_single_texts(model: Model, method: str) -> None:
    scores = VariantScorer(model).score(WILD_TYPE, VARIANTS, method=method)  # type: ignore[arg-type]
    expected = [brute_force(model, variant, method) for variant in VARIANTS]
    assert scores.values == pytest.approx(expected, abs=2e-5)
    assert [item.variant for item in scores.items] == VARIANTS
    assert scores.numbering.offset == 1


def test_the_hidden_residue_is_the_one_that_is_read(model: Model) -> None:
    """Two reference scorers mask one residue and read its neighbour: the start token shifts."""
    scorer = VariantScorer(model)
    for site, residue in enumerate(WILD_TYPE):
        best = model.fill_mask(masked(WILD_TYPE, {site}), top_k=20)[0]
        others = [letter for letter in STANDARD_RESIDUES if letter != residue]
        variants = [f"{residue}{site + 1}{letter}" for letter in others]
        found = dict(zip(others, scorer.score(WILD_TYPE, variants).values, strict=True))
        order = sorted([*others, residue], key=lambda letter: -found.get(letter, 0.0))
        assert order == [filling.token for filling in best]


def test_random_masks_average_what_is_filled_in_under_them(model: Model) -> None:
    masks = RandomMasks(rate=0.25, draws=3, seed=5)
    scores = VariantScorer(model).score(WILD_TYPE, VARIANTS, method="random-mask", masks=masks)
    generator = np.random.default_rng(5)
    found: dict[int, list[dict[str, float]]] = {site: [] for site in range(len(WILD_TYPE))}
    for _ in range(3):
        for mask in np.array_split(generator.permutation(len(WILD_TYPE)), 4):
            for site, row in filled(model, WILD_TYPE, set(mask.tolist())).items():
                found[site].append(row)
    assert {len(rows) for rows in found.values()} == {3}
    expected = [
        sum(
            float(np.mean([row[new] - row[WILD_TYPE[site]] for row in found[site]]))
            for site, new in changes(variant).items()
        )
        for variant in VARIANTS
    ]
    assert scores.values == pytest.approx(expected, abs=2e-5)


def test_random_masks_in_windows_hide_what_lies_within(model: Model) -> None:
    """With every residue hidden there is one mask, and its part of the window is all masks."""
    scorer = VariantScorer(model, max_length=9)
    found = scorer.score(
        WILD_TYPE, ["Q11W"], method="random-mask", masks=RandomMasks(rate=1, draws=1)
    )
    expected = filled(model, WILD_TYPE[7:14], set(range(7)))[3]
    assert found.values[0] == pytest.approx(expected["W"] - expected["Q"], abs=2e-5)


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": 1.5}, {"draws": 0}])
def test_impossible_random_masks_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="mask "):
        RandomMasks(**options)  # type: ignore[arg-type]


def test_an_ensemble_is_the_mean_of_its_scores(
    model: Model, build_model: Callable[..., Model]
) -> None:
    other = build_model(build_domain({"name": "protein"}), layers=1)
    variants = ["K2G", "K2*", "A4W"]
    first, second = (VariantScorer(each).score(WILD_TYPE, variants) for each in (model, other))
    mean = mean_scores([first, second])
    assert mean.values == pytest.approx((first.values + second.values) / 2, nan_ok=True)
    assert mean.items[1].reason == first.items[1].reason


def test_both_conventions_agree_on_one_mutation_and_differ_on_two(model: Model) -> None:
    scorer = VariantScorer(model)
    variants = ["K2G", "K2G:A4W"]
    single = scorer.score(WILD_TYPE, variants, method="masked-marginal").values
    joint = scorer.score(WILD_TYPE, variants, method="joint-mask").values
    assert single[0] == pytest.approx(joint[0], abs=1e-6)
    assert abs(single[1] - joint[1]) > 1e-3


def test_insertions_and_deletions_have_a_pseudo_likelihood(model: Model) -> None:
    texts = ["K2del", "K2_T3insGG", WILD_TYPE + "WW", "A4_Y5del:S20A"]
    sequences = [
        WILD_TYPE[:1] + WILD_TYPE[2:],
        WILD_TYPE[:2] + "GG" + WILD_TYPE[2:],
        WILD_TYPE + "WW",
        WILD_TYPE[:3] + WILD_TYPE[5:-1] + "A",
    ]
    scores = VariantScorer(model).score(WILD_TYPE, texts, method="pseudo-likelihood")
    base = model.pseudo_log_likelihood([WILD_TYPE])[0]
    expected = [value - base for value in model.pseudo_log_likelihood(sequences)]
    assert scores.values == pytest.approx(expected, abs=1e-4)
    assert [item.substitutions for item in scores.items] == [None] * 4


@pytest.mark.parametrize("method", ["wt-marginal", "masked-marginal", "joint-mask"])
def test_other_methods_say_why_they_score_no_insertion(model: Model, method: str) -> None:
    scores = VariantScorer(model).score(WILD_TYPE, ["K2del", "K2G"], method=method)  # type: ignore[arg-type]
    assert scores.items[0].score is None
    assert scores.items[0].reason == (
        f"insertions and deletions have no {method}: use pseudo-likelihood"
    )
    assert scores.items[1].score is not None


def test_rows_without_a_score_keep_their_place_and_say_why(model: Model) -> None:
    variants = ["K2G", "K2*", "W2G", "nonsense", "", "K2G"]
    scores = VariantScorer(model).score(WILD_TYPE, variants)
    assert [item.variant for item in scores.items] == variants
    assert [item.score is None for item in scores.items] == [False, True, True, True, True, False]
    assert [bool(item.reason) for item in scores.items] == [False, True, True, True, True, False]
    assert scores.items[0].score == scores.items[5].score
    assert scores.num_scored == 2
    assert np.isnan(scores.values[1])


@pytest.mark.parametrize("method", ["masked-marginal", "pseudo-likelihood"])
def test_each_different_variant_is_computed_once(model: Model, method: str) -> None:
    totals = []
    VariantScorer(model).score(
        WILD_TYPE,
        ["K2G", "K2G", "K2G:A4W", "A4W;K2G", "K2W"],
        method=method,  # type: ignore[arg-type]
        on_progress=lambda done, passes: totals.append((done, passes)),
    )
    # Two sites; or three sequences and the wild type, of 20 residues each.
    passes = 2 if method == "masked-marginal" else 4 * 20
    assert totals[-1] == (passes, passes)


@pytest.mark.parametrize(
    "method", ["wt-marginal", "masked-marginal", "joint-mask", "pseudo-likelihood"]
)
def test_scores_do_not_depend_on_the_batch(model: Model, method: str) -> None:
    scorer = VariantScorer(model, max_length=13)
    variants = ["K2G", "A4W:F14D", "S20A"]
    one, many = (
        scorer.score(WILD_TYPE, variants, method=method, tokens_per_batch=tokens).values  # type: ignore[arg-type]
        for tokens in (1, 10_000)
    )
    assert one == pytest.approx(many, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize(("site", "window"), [(1, (0, 7)), (10, (7, 14)), (19, (13, 20))])
def test_a_long_protein_is_seen_through_a_window_centred_on_the_site(
    model: Model, site: int, window: tuple[int, int]
) -> None:
    old, new = WILD_TYPE[site], "W"
    start, end = window
    for method, found in (("masked-marginal", filled), ("wt-marginal", None)):
        scores = VariantScorer(model, max_length=9).score(
            WILD_TYPE,
            [f"{old}{site + 1}{new}"],
            method=method,  # type: ignore[arg-type]
        )
        inside = WILD_TYPE[start:end]
        expected = (
            unmasked(model, inside) if found is None else found(model, inside, {site - start})
        )[site - start]
        assert scores.values[0] == pytest.approx(expected[new] - expected[old], abs=2e-5)
        assert scores.window == 7


@pytest.mark.parametrize("room", [1, 2, 3, 6, 7])
def test_every_window_holds_its_sites_and_has_its_length(room: int) -> None:
    length = 12
    for first in range(length):
        for last in range(first, min(first + room, length)):
            start, end = window_around(first, last, length=length, room=room)
            assert 0 <= start <= first <= last < end <= length
            assert end - start == min(room, length)


def test_sites_too_far_apart_to_be_hidden_together_are_reported(model: Model) -> None:
    scorer = VariantScorer(model, max_length=9)
    variants = ["K2G:S20A", "K2G:K8A"]
    far, near = scorer.score(WILD_TYPE, variants, method="joint-mask").items
    assert far.reason == (
        "the mutated sites span 19 residues, the window of this model has 7: use masked-marginal"
    )
    assert near.score is not None
    assert scorer.score(WILD_TYPE, variants).num_scored == 2


def test_letters_that_are_no_standard_residue_are_seen_but_not_scored(model: Model) -> None:
    unknown = "MKXAYIAK"
    scores = VariantScorer(model).score(unknown, ["X3A", "K2G"])
    assert "'X' is none of the 20" in scores.items[0].reason
    expected = filled(model, unknown, {1})[1]
    assert scores.values[1] == pytest.approx(expected["G"] - expected["K"], abs=2e-5)


@pytest.mark.parametrize("wild_type", ["MK1T", "MK*TA", "", "M K-T"])
def test_a_wild_type_that_is_no_protein_is_refused(model: Model, wild_type: str) -> None:
    with pytest.raises(DataError, match="wild type"):
        VariantScorer(model).score(wild_type, ["K2G"])


def test_a_model_that_cannot_score_is_refused(
    model: Model, words: Domain, build_model: Callable[..., Model]
) -> None:
    with pytest.raises(ConfigError, match="is of domain 'words': variants need one of 'protein'"):
        VariantScorer(build_model(words))
    causal = build_model(build_domain({"name": "protein"}))
    causal.trained_objectives = (TrainedObjective("clm", "left_to_right", "causal"),)
    with pytest.raises(ConfigError, match="trained causally"):
        VariantScorer(causal)
    with pytest.raises(ConfigError, match="max_length = 2: must be from 3"):
        VariantScorer(model, max_length=2)
    with pytest.raises(ConfigError, match="Did you mean 'masked-marginal'"):
        VariantScorer(model).score(WILD_TYPE, ["K2G"], method="masked_marginals")  # type: ignore[arg-type]


def test_a_run_says_how_long_its_windows_are(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    (tmp_path / "config.toml").write_text(
        'domain.name = "protein"\ndata = {sources = ["x.fasta"], max_length = 9}\n'
    )
    assert VariantScorer.load(tmp_path, device="cpu").score(WILD_TYPE, ["K2G"]).window == 7
    assert VariantScorer.load(tmp_path / "model", device="cpu").score(WILD_TYPE, []).window is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scores_on_a_gpu_equal_those_on_the_cpu(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    cpu, gpu = (
        VariantScorer.load(tmp_path, device=device).score(WILD_TYPE, VARIANTS).values
        for device in ("cpu", "cuda")
    )
    assert gpu == pytest.approx(cpu, abs=2e-3)
