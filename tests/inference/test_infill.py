"""Filling several masks: each strategy against enumeration of all fillings."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference.infill import Infilling, Strategy
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.mlm import MaskedLanguageModelling

Models = Callable[..., Model]
PValue = Callable[[object, object], float]

STRATEGIES: list[Strategy] = list(get_args(Strategy))
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
LETTERS = string.ascii_lowercase
TWO_MASKS = "a<mask><mask>b"


@pytest.fixture(scope="module")
def model(words: Domain, build_model: Models) -> Model:
    return build_model(words, window=3, global_every=2)


def chances(model: Model, text: str) -> list[np.ndarray]:
    """p of every letter at each mask, from one pass."""
    masks = model.fill_mask(text, top_k=26)
    return [
        np.array([item.probability for item in sorted(mask, key=lambda item: item.token)])
        for mask in masks
    ]


def conditionals(model: Model, side: int) -> np.ndarray:
    """``[26, 26]``: p of the letter at one of two masks for each letter at the other."""
    hole, known = ("<mask>", "{}") if side == 0 else ("{}", "<mask>")
    texts = [f"a{hole}{known}b".format(letter) for letter in LETTERS]
    return np.stack([chances(model, text)[0] for text in texts])


def drawn(model: Model, strategy: Strategy, samples: int, sweeps: int = 1) -> np.ndarray:
    """``[26, 26]``: how often each pair of letters fills the two masks."""
    (fillings,) = model.infill([TWO_MASKS], strategy=strategy, samples=samples, sweeps=sweeps)
    counts = np.zeros((26, 26))
    for (left, right), count in Counter(item.tokens for item in fillings).items():
        counts[LETTERS.index(left), LETTERS.index(right)] = count
    return counts


def fits(counts: np.ndarray, expected: np.ndarray, chi_square_p: PValue) -> bool:
    """Whether counts may come from a distribution; rare pairs count together."""
    expected = expected.ravel() * counts.sum()
    common = expected >= 5
    return (
        chi_square_p(
            [*counts.ravel()[common], counts.ravel()[~common].sum()],
            [*expected[common], expected[~common].sum()],
        )
        > 1e-3
    )


def sequential_distribution(model: Model) -> np.ndarray:
    """The joint distribution of the chain rule, the more confident mask first."""
    left, right = chances(model, TWO_MASKS)
    joint: np.ndarray = left[:, None] * conditionals(model, 1)
    if left.max() < right.max():
        joint = (right[:, None] * conditionals(model, 0)).T
    return joint


@every_strategy
def test_one_mask_is_filled_as_by_fill_mask(model: Model, strategy: Strategy) -> None:
    ((best,),) = model.fill_mask("wo<mask>d", top_k=1)
    ((found,),) = model.infill(["wo<mask>d"], strategy=strategy, temperature=0)
    assert found.tokens == (best.token,)
    assert found.text == f"wo{best.token}d"
    assert found.positions == (3,)
    assert found.log_likelihood == pytest.approx(math.log(best.probability), abs=1e-6)


def test_independent_filling_is_the_product_of_the_marginals(
    model: Model, chi_square_p: PValue
) -> None:
    left, right = chances(model, TWO_MASKS)
    counts = drawn(model, "independent", 1000)
    assert fits(counts, np.outer(left, right), chi_square_p)
    assert not fits(counts, sequential_distribution(model), chi_square_p)
    ((found,),) = model.infill([TWO_MASKS], strategy="independent")
    expected = [p[LETTERS.index(x)] for p, x in zip((left, right), found.tokens, strict=True)]
    np.testing.assert_allclose(found.log_probabilities, np.log(expected), atol=1e-5)


def test_sequential_filling_draws_from_the_chain_rule(model: Model, chi_square_p: PValue) -> None:
    expected = sequential_distribution(model)
    assert expected.sum() == pytest.approx(1, abs=1e-5)
    assert fits(drawn(model, "sequential", 1000), expected, chi_square_p)
    (fillings,) = model.infill([TWO_MASKS], samples=20)
    for found in fillings:
        pair = tuple(map(LETTERS.index, found.tokens))
        assert found.log_likelihood == pytest.approx(math.log(expected[pair]), abs=1e-5)


def test_left_to_right_fills_in_order_of_position(model: Model) -> None:
    ((found,),) = model.infill(["<mask>q<mask><mask>"], strategy="left_to_right")
    text, expected = "<mask>q<mask><mask>", []
    for letter in found.tokens:
        expected.append(math.log(chances(model, text)[0][LETTERS.index(letter)]))
        text = text.replace("<mask>", letter, 1)
    assert text == found.text
    np.testing.assert_allclose(found.log_probabilities, expected, atol=1e-5)


def test_the_most_confident_mask_comes_first_at_every_step(model: Model) -> None:
    """By hand on four masks, two of them side by side."""
    pieces = ["<mask>", "e", "<mask>", "<mask>", "s", "<mask>"]
    ((found,),) = model.infill(["".join(pieces)], temperature=0)
    expected = {}
    while "<mask>" in pieces:
        masks = [at for at, piece in enumerate(pieces) if piece == "<mask>"]
        best = chances(model, "".join(pieces))
        at, p = max(zip(masks, best, strict=True), key=lambda pair: pair[1].max())
        pieces[at], expected[at] = LETTERS[p.argmax()], math.log(p.max())
    assert found.text == "".join(pieces)
    np.testing.assert_allclose(
        found.log_probabilities, [expected[at] for at in sorted(expected)], atol=1e-5
    )


@pytest.mark.parametrize("sweeps", [1, 3])
def test_gibbs_sampling_goes_where_its_transitions_lead(
    model: Model, sweeps: int, chi_square_p: PValue
) -> None:
    """Both orders of a sweep are equally likely: 676 states, every transition enumerated."""
    given_right, given_left = conditionals(model, 0), conditionals(model, 1)
    state = sequential_distribution(model)
    for _ in range(sweeps):
        left_first = state.sum(axis=0) @ given_right  # p of the left letter drawn first
        right_first = state.sum(axis=1) @ given_left
        state = (left_first[:, None] * given_left + right_first * given_right.T) / 2
    assert state.sum() == pytest.approx(1, abs=1e-4)
    assert fits(drawn(model, "gibbs", 1000, sweeps), state, chi_square_p)


def test_gibbs_filling_is_scored_by_its_pseudo_log_likelihood(model: Model) -> None:
    ((found,),) = model.infill([TWO_MASKS], strategy="gibbs", sweeps=2)
    left, right = map(LETTERS.index, found.tokens)
    expected = [conditionals(model, 0)[right, left], conditionals(model, 1)[left, right]]
    np.testing.assert_allclose(found.log_probabilities, np.log(expected), atol=1e-5)


@pytest.fixture(scope="module")
def who_chases_whom(words: Domain) -> Model:
    """Trained on 'c m' and 'm c': cat meets mouse, mouse meets cat; a cat meets no cat."""
    torch.manual_seed(0)
    config = EncoderConfig(vocabulary_size=33, mask_token=4, layers=1, hidden_size=32, heads=2)
    model = Model(words, config)
    objective = MaskedLanguageModelling(
        words, {"rate": 0.75, "corruptor": {"name": "mixed", "mask": 1, "random": 0, "keep": 0}}
    )
    generator = np.random.default_rng(0)
    texts = ["c m", "m c"] * 24
    batch = pack([row for text in texts for row in objective.rows(words.parse(text), generator)])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        loss = objective.loss(model, model(batch), batch)
        optimizer.zero_grad()
        (loss.total / loss.count).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize(
    ("strategy", "impossible"),
    [("independent", 0.5), ("sequential", 0.0), ("left_to_right", 0.0), ("gibbs", 0.0)],
)
def test_only_independent_filling_combines_what_does_not_go_together(
    who_chases_whom: Model, strategy: Strategy, impossible: float
) -> None:
    (fillings,) = who_chases_whom.infill(
        ["<mask> <mask>"], strategy=strategy, samples=150, sweeps=2
    )
    wrong = np.mean([set(item.tokens) != {"c", "m"} for item in fillings])
    assert wrong == pytest.approx(impossible, abs=0.15 if impossible else 0.02)


@every_strategy
def test_a_text_is_filled_alike_alone_in_a_batch_and_in_small_batches(
    model: Model, strategy: Strategy
) -> None:
    texts = ["<mask>bc", "x<mask><mask>z <mask>", "<mask>"]
    together = model.infill(texts, strategy=strategy, samples=3, seed=5)
    small = model.infill(texts, strategy=strategy, samples=3, seed=5, tokens_per_batch=1)
    for text, fillings, others in zip(texts, together, small, strict=True):
        (alone,) = model.infill([text], strategy=strategy, samples=3, seed=5)
        for one, two, three in zip(fillings, others, alone, strict=True):
            assert one.text == two.text == three.text
            np.testing.assert_allclose(one.log_probabilities, two.log_probabilities, atol=1e-5)
            np.testing.assert_allclose(one.log_probabilities, three.log_probabilities, atol=1e-5)


@every_strategy
def test_the_seed_decides(model: Model, strategy: Strategy) -> None:
    def fill(seed: int) -> list[list[Infilling]]:
        return model.infill(["<mask><mask><mask>"], strategy=strategy, samples=4, seed=seed)

    assert fill(1) == fill(1)
    assert fill(1) != fill(2)
    assert len({item.text for item in fill(1)[0]}) > 1


def test_no_texts_give_no_fillings(model: Model) -> None:
    assert model.infill([]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "greedy"}, "strategy = 'greedy': it is one of independent, sequential"),
        ({"samples": 0}, "samples = 0: must be at least 1"),
        ({"sweeps": 0}, "sweeps = 0: must be at least 1"),
        ({"temperature": -1.0}, "temperature = -1.0"),
    ],
    ids=["strategy", "samples", "sweeps", "temperature"],
)
def test_unusable_arguments_are_refused(
    model: Model, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        model.infill(["<mask>"], **arguments)  # type: ignore[arg-type]


def test_a_text_without_a_mask_is_refused(model: Model) -> None:
    with pytest.raises(DataError, match="There is no <mask> in 'word'"):
        model.infill(["wo<mask>d", "word"])
