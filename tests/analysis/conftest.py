"""Models as an analysis sees them, and a small finished run."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmlm.analysis.run import AnalysedRun, Corpus
from seqmlm.config import configure
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.model.model import Model
from seqmlm.objectives.rows import TrainedObjective
from seqmlm.training.loop import train

TINY = Path(__file__).parents[2] / "configs" / "tiny" / "protein.toml"
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture(scope="session")
def analysed(build_model: Callable[..., Model], words: Domain) -> Callable[..., AnalysedRun]:
    """Build a run of a tiny untrained model; options are those of the encoder."""

    def build(
        *, direction: Any = None, domain: Domain | None = None, **options: Any
    ) -> AnalysedRun:
        model = build_model(words if domain is None else domain, **options)
        if direction is not None:
            model.trained_objectives = (TrainedObjective("clm", direction, "causal"),)
        return AnalysedRun(model, Path("runs/words"))

    return build


@pytest.fixture(scope="session")
def corpus_of(
    words: Domain, word_store: Callable[[list[str]], TokenStore]
) -> Callable[[list[str]], Corpus]:
    """Open a corpus of words that holds all of some texts."""

    def build(texts: list[str]) -> Corpus:
        return Corpus(words, word_store(texts), np.arange(len(texts)), max_length=64)

    return build


@pytest.fixture(scope="session")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 sequences of 24 to 40 residues."""
    path = tmp_path_factory.mktemp("data") / "tiny.fasta"
    generator = random.Random(0)
    sequences = [
        "".join(generator.choices(RESIDUES, k=generator.randint(24, 40))) for _ in range(48)
    ]
    path.write_text("".join(f">p{i}\n{sequence}\n" for i, sequence in enumerate(sequences)))
    return path


@pytest.fixture(scope="session")
def trained(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    settings = configure(
        domain=None, sources=[str(fasta)], files=[TINY], overrides=["training.steps=2"]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
        train(settings, folder, resume=False, allow_drift=[], console=None)
    return folder
