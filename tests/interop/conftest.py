"""Small models of every architecture that Hugging Face folders are written of and read as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmlm.interop.exporting import export_model
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from tests.interop.small_models import SHAPES, BuildModel, domain_of


@pytest.fixture(scope="session")
def build_model() -> BuildModel:
    """Make a model of an architecture with random weights, biases and norms included."""
    domains = {kind: domain_of(kind) for kind in SHAPES}

    def build(kind: str, **options: Any) -> Model:
        domain = domains[kind]
        torch.manual_seed(1)
        config = EncoderConfig(
            vocabulary_size=len(domain.vocabulary),
            mask_token=domain.vocabulary.special.mask,
            **({"layers": 3, "hidden_size": 16, "heads": 2} | SHAPES[kind] | options),
        )
        model = Model(domain, config, head_transform=True).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model

    return build


@pytest.fixture
def exported(tmp_path: Path, build_model: BuildModel) -> Callable[[str], Path]:
    """Write such a model as a Hugging Face folder."""

    def export(kind: str) -> Path:
        folder = tmp_path / kind
        export_model(build_model(kind), folder)
        return folder

    return export
