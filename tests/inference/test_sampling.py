"""Drawing from a distribution: temperature, top-k, top-p."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.errors import ConfigError
from seqmlm.inference.sampling import Sampling

CHANCES = [0.1, 0.4, 0.2, 0.3]  # from best to worst: ids 1, 3, 2, 0


def frequencies(sampling: Sampling, draws: int = 4000) -> np.ndarray:
    """How often each id is drawn by evenly spread chances."""
    uniforms = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws
    log_probabilities = torch.tensor(CHANCES, dtype=torch.float64).log().expand(draws, -1)
    chosen = sampling.choose(log_probabilities, uniforms)
    return np.bincount(chosen.numpy(), minlength=4) / draws


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), CHANCES),
        (Sampling(temperature=0), [0, 1, 0, 0]),
        (Sampling(temperature=0.5), np.square(CHANCES) / np.square(CHANCES).sum()),
        (Sampling(temperature=1e9), [0.25] * 4),
        (Sampling(top_k=1), [0, 1, 0, 0]),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_k=9), CHANCES),
        (Sampling(top_p=0.39), [0, 1, 0, 0]),
        (Sampling(top_p=0.41), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(top_k=3, top_p=0.75), [0, 4 / 7, 0, 3 / 7]),  # 4/9 + 3/9 is enough
        (Sampling(temperature=0.5, top_p=0.5), [0, 1, 0, 0]),  # .16 of .30
    ],
    ids=str,
)
def test_tokens_come_as_often_as_they_should(sampling: Sampling, expected: list[float]) -> None:
    np.testing.assert_allclose(frequencies(sampling), expected, atol=1e-3)


def test_the_first_of_equally_probable_tokens_is_the_most_probable() -> None:
    even = torch.full((1, 5), math.log(0.2), dtype=torch.float64)
    assert Sampling(temperature=0).choose(even, torch.zeros(1, dtype=torch.float64)).item() == 0


@given(
    scores=st.lists(st.floats(-50, 0), min_size=1, max_size=6),
    uniform=st.floats(0, 1, exclude_max=True),
    temperature=st.floats(0.01, 10),
    top_p=st.floats(0.001, 1),
)
def test_what_is_drawn_is_always_among_the_tokens(
    scores: list[float], uniform: float, temperature: float, top_p: float
) -> None:
    values = torch.tensor([scores], dtype=torch.float64).log_softmax(-1)
    sampling = Sampling(temperature=temperature, top_p=top_p)
    (chosen,) = sampling.choose(values, torch.tensor([uniform], dtype=torch.float64)).tolist()
    assert 0 <= chosen < len(scores)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Sampling(temperature=-1.0), "temperature = -1.0: must be 0 or more"),
        (lambda: Sampling(temperature=math.nan), "temperature = nan: must be 0 or more"),
        (lambda: Sampling(top_k=0), "top_k = 0: must be at least 1"),
        (lambda: Sampling(top_p=0.0), "top_p = 0.0: must be above 0 and at most 1"),
        (lambda: Sampling(top_p=1.5), "top_p = 1.5: must be above 0 and at most 1"),
    ],
    ids=["negative", "not a number", "no token", "no probability", "too much"],
)
def test_what_cannot_be_drawn_from_is_refused(build: Callable[[], Sampling], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
