"""Settings of a run reach what is built from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import seqmlm_kernels
from seqmlm.config import configure
from seqmlm.data.packing import pack
from seqmlm.domain import build_domain
from seqmlm.objectives.rows import Row
from seqmlm.training.building import build_model, build_objectives


@pytest.mark.parametrize("choice", ["deterministic", "atomic"])
def test_the_kernels_get_the_attention_backward_of_the_run(
    choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(
        domain="protein",
        sources=["proteins.fasta"],
        overrides=[
            f"training.attention_backward={choice}",
            *("model.layers=1", "model.hidden_size=8", "model.heads=1"),
        ],
    )
    domain = build_domain(config.domain.model_dump())
    model = build_model(config, domain, build_objectives(config, domain))
    given: list[str] = []
    attend = seqmlm_kernels.attention

    def recorded(*operands: Tensor, **arguments: Any) -> Tensor:
        given.append(arguments["backward"])
        return attend(*operands, **arguments)

    monkeypatch.setattr(seqmlm_kernels, "attention", recorded)
    with torch.inference_mode():
        model(pack([Row.of(domain.parse("MKT"))]))
    assert given == [choice]
    assert f'attention_backward = "{choice}"' in config.to_toml()
