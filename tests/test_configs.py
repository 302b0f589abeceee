"""Every complete run of ``configs/`` is valid, and what it names can be built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from seqmlm.config import RunConfig, configure
from seqmlm.domain import Domain, Record, build_domain
from seqmlm.objectives.schedule import Mixture, build_schedule
from seqmlm.training.building import build_model, build_objectives

CONFIGS = Path(__file__).parents[1] / "configs"
PATHS = sorted(CONFIGS.rglob("*.toml"))

TEXTS = {
    "text": ["The sun rises. Birds sing.", "\u4f60\u597d\u4e16\u754c\u3002 It rains."],
    "code": ["def area(width):\n    return width * width\n"],
    "dialogue": ['[["ann", "Hello."], ["bob", "Who is there?"]]'],
    "kg": ["ann\tparent_of\tbob", "bob\tchild_of\tann"],
}


def loaded(path: Path) -> RunConfig:
    return configure(domain=None, sources=["data"], files=[path])


def tiny(config: RunConfig) -> Domain:
    """The domain with a vocabulary of two texts at most."""
    domain = build_domain(config.domain.model_dump())
    if not domain.has_vocabulary:
        texts: Sequence[str] = TEXTS[config.domain.name]
        domain.fit_tokenizer(
            [Record(f"r{i}", text, "test", i) for i, text in enumerate(texts, start=1)]
        )
    return domain


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_configuration_builds_its_objectives_schedule_and_model(path: Path) -> None:
    config = loaded(path)
    domain = tiny(config)
    objectives = build_objectives(config, domain)
    labels = [objective.name for objective in objectives]
    schedule = build_schedule(**config.schedule.model_dump(), labels=labels)
    assert len(schedule.loss_shares) == len(config.objectives)
    with torch.device("meta"):  # shapes without memory: some of them are of 300 million parameters
        model = build_model(config, domain, objectives)
    assert model.encoder.config.layers == config.model.layers


def test_unilm_mixes_its_four_objectives_by_the_shares_of_the_paper() -> None:
    config = loaded(CONFIGS / "unilm_v1.toml")
    labels = [objective.name for objective in build_objectives(config, tiny(config))]
    shares = Mixture.from_shares(config.schedule.shares, labels).loss_shares
    assert dict(zip(labels, shares, strict=True)) == pytest.approx(
        {"mlm": 1 / 3, "prefix_lm": 1 / 3, "left_to_right": 1 / 6, "right_to_left": 1 / 6}
    )
