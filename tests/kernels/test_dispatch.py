"""Which backend runs, and what is said when one cannot."""

from __future__ import annotations

import logging

import pytest
import torch

from seqmlm_kernels import (
    BackendUnavailableError,
    available_backends,
    dispatch,
    masked_softmax,
    reference,
    torch_backend,
)

SCORES = torch.zeros(1, 2)
ALLOWED = torch.tensor([[3]], dtype=torch.int32)


def test_automatic_backend_on_cpu_is_torch() -> None:
    assert dispatch.select_backend("auto", torch.device("cpu")) is torch_backend


@pytest.mark.parametrize(
    ("name", "module"), [("reference", reference), ("torch", torch_backend)], ids=str
)
def test_named_backend_is_the_one_that_runs(name: str, module: object) -> None:
    assert dispatch.select_backend(name, torch.device("cpu")) is module


def test_backend_that_does_not_exist_here_is_refused_not_replaced() -> None:
    with pytest.raises(
        BackendUnavailableError,
        match=r"backend='triton' was asked for and cannot run: .*Available: auto, reference, torch",
    ):
        masked_softmax(SCORES, ALLOWED, backend="triton")


def test_unknown_backend_is_a_wrong_argument() -> None:
    with pytest.raises(ValueError, match=r"backend is 'cuda'; it must be one of: auto, reference"):
        masked_softmax(SCORES, ALLOWED, backend="cuda")


def test_available_backends_are_listed() -> None:
    assert available_backends() == ("reference", "torch")


def test_fallback_on_cuda_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    dispatch._log_fallback.cache_clear()
    with caplog.at_level(logging.WARNING, logger="seqmlm_kernels"):
        for _ in range(3):
            chosen = dispatch.select_backend("auto", torch.device("cuda"))
    assert chosen is torch_backend
    assert [record.message for record in caplog.records] == [
        "backend 'auto' runs torch instead of triton on CUDA: "
        "this build of seqmlm_kernels does not contain it"
    ]
