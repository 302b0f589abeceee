"""Tiny untrained models of two domains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmlm.domain import Domain, Record, build_domain
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from tests.finetuning.labelled_data import LETTERS


@pytest.fixture(scope="session", autouse=True)
def _one_thread_and_no_pictures() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        # Half the time of so small a run; test_plots draws.
        patch.setattr("seqmlm.finetuning.plots._can_draw", lambda: False)
        yield
    torch.set_num_threads(threads)


def tiny_model(domain: Domain, **options: Any) -> Model:
    torch.manual_seed(0)
    shape = {"layers": 2, "hidden_size": 32, "heads": 2, "segments": 2} | options
    return Model(
        domain,
        EncoderConfig(
            vocabulary_size=len(domain.vocabulary),
            mask_token=domain.vocabulary.special.mask,
            **shape,
        ),
    )


@pytest.fixture(scope="session")
def characters() -> Domain:
    """Text, a character a token."""
    domain = build_domain({"name": "text", "tokenizer": "character"})
    alphabet = LETTERS + "xyz?.0123456789"
    domain.fit_tokenizer([Record("alphabet", f"{alphabet} {alphabet}", "test", 1)])
    return domain


@pytest.fixture(scope="session")
def text_run(characters: Domain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; its weights are random."""
    folder = tmp_path_factory.mktemp("text") / "model"
    tiny_model(characters).save(folder)
    return folder


@pytest.fixture(scope="session")
def protein_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for proteins."""
    folder = tmp_path_factory.mktemp("protein") / "model"
    tiny_model(build_domain({"name": "protein"})).save(folder)
    return folder
