"""What each objective can learn in principle: x_i = f(x_{i+1})."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from seqmlm.data.packing import PackedBatch, pack
from seqmlm.domain import Domain
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Objective
from seqmlm.registry import OBJECTIVES

SOURCES, IMAGES = "abcd", "wxyz"
STEPS, SEQUENCES, PAIRS = 150, 16, 6
MASK_ONLY = {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0}


def sequences(words: Domain, generator: np.random.Generator) -> list[str]:
    """Pairs f(b) b: the left letter is decided by the right one, the right one by nothing.

    As f is one to one, the right letter follows from the left one; only the left letters tell
    the directions apart.
    """
    drawn = generator.integers(len(SOURCES), size=(SEQUENCES, PAIRS))
    return ["".join(IMAGES[b] + SOURCES[b] for b in row) for row in drawn]


def batches(words: Domain, objective: Objective, *, seed: int) -> Iterator[PackedBatch]:
    generator = np.random.default_rng(seed)
    while True:
        texts = sequences(words, generator)
        yield pack([row for text in texts for row in objective.rows(words.parse(text), generator)])


def loss_at_left_letters(words: Domain, objective: Objective) -> float:
    """Train a tiny model, then its mean loss, nats, at left letters whose right one is true."""
    torch.manual_seed(0)
    config = EncoderConfig(
        vocabulary_size=len(words.vocabulary),
        mask_token=words.vocabulary.special.mask,
        layers=1,
        hidden_size=32,
        heads=2,
    )
    model = Model(words, config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    made = batches(words, objective, seed=0)
    for _ in range(STEPS):
        batch = next(made)
        found = objective.loss(model, model(batch), batch)
        optimizer.zero_grad()
        (found.total / found.count).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    images, sources = (
        torch.tensor([words.vocabulary.id_of(letter) for letter in letters])
        for letters in (IMAGES, SOURCES)
    )
    batch = next(batches(words, objective, seed=1))
    targets = batch.targets[objective.name]
    with model.inference():
        each = model.token_head.loss(
            model(batch), targets.rows, targets.labels, allowed=targets.allowed
        )
    chosen = torch.isin(targets.labels, images)
    if objective.causal_direction is None:
        chosen &= torch.isin(batch.ids[targets.rows + 1], sources)
    return float(each[chosen].mean())


@pytest.mark.parametrize(
    ("settings", "learns"),
    [
        ({"name": "mlm", "policy": {"corruptor": MASK_ONLY}}, True),
        ({"name": "clm"}, False),
        ({"name": "clm", "direction": "right_to_left"}, True),
        ({"name": "prefix_lm"}, False),
    ],
    ids=["mlm", "left to right", "right to left", "prefix"],
)
def test_only_those_who_see_what_follows_learn_the_left_letters(
    words: Domain, settings: dict[str, Any], learns: bool
) -> None:
    objective = OBJECTIVES.build(settings, words, where="objectives.0")
    loss = loss_at_left_letters(words, objective)
    if learns:
        assert loss < 0.1
    else:
        assert loss > math.log(len(SOURCES)) - 0.05
