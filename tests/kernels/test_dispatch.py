"""Which backend runs, and what is said when one cannot."""

from __future__ import annotations

import logging
import sys
import types

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


CUDA = torch.device("cuda")


def use_card(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    """What torch says of a machine with one GPU, called Card."""
    major, minor = capability
    card = types.SimpleNamespace(name="Card", major=major, minor=minor)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: card)


@pytest.fixture
def proven_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU on which the kernels were proven."""
    monkeypatch.delitem(sys.modules, "seqmlm_kernels.triton_backend", raising=False)
    use_card(monkeypatch, (9, 0))
    monkeypatch.setattr(dispatch, "PROVEN_CAPABILITIES", frozenset({(9, 0)}))
    dispatch._log_fallback.cache_clear()


@pytest.mark.usefixtures("proven_card")
def test_automatic_backend_on_a_proven_gpu_is_triton() -> None:
    assert dispatch._automatic_backend(CUDA, (torch.bfloat16,), 64) == "triton"


@pytest.mark.usefixtures("proven_card")
@pytest.mark.parametrize(
    ("dtypes", "head_dim", "reason"),
    [
        ((torch.float16, torch.float64), 64, "its kernels have no torch.float64"),
        ((torch.float16,), 288, "head_dim is 288 and its kernels have at most 256"),
    ],
    ids=["dtype", "head_dim"],
)
def test_automatic_backend_is_torch_where_triton_cannot_run_the_call(
    caplog: pytest.LogCaptureFixture,
    dtypes: tuple[torch.dtype, ...],
    head_dim: int,
    reason: str,
) -> None:
    with caplog.at_level(logging.WARNING, logger="seqmlm_kernels"):
        chosen = dispatch.select_backend("auto", CUDA, dtypes=dtypes, head_dim=head_dim)
    assert chosen is torch_backend
    prefix = "backend 'auto' runs torch instead of triton on CUDA: "
    assert [record.message for record in caplog.records] == [prefix + reason]


@pytest.mark.usefixtures("proven_card")
@pytest.mark.parametrize(
    ("capability", "reason"),
    [
        ((8, 9), "its kernels have not been proven on Card; ask for it by name"),
        ((7, 5), "Card has compute capability 7.5 and the kernels need at least 8.0"),
    ],
    ids=["unproven", "old"],
)
def test_automatic_backend_is_torch_on_other_gpus(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capability: tuple[int, int],
    reason: str,
) -> None:
    use_card(monkeypatch, capability)
    with caplog.at_level(logging.WARNING, logger="seqmlm_kernels"):
        assert dispatch.select_backend("auto", CUDA) is torch_backend
    assert caplog.records[0].message.endswith(reason)


def test_automatic_backend_on_cpu_is_torch() -> None:
    assert dispatch.select_backend("auto", torch.device("cpu")) is torch_backend


@pytest.mark.parametrize(
    ("name", "module"), [("reference", reference), ("torch", torch_backend)], ids=str
)
def test_named_backend_is_the_one_that_runs(name: str, module: object) -> None:
    assert dispatch.select_backend(name, torch.device("cpu")) is module


def test_backend_that_cannot_run_here_is_refused_not_replaced() -> None:
    with pytest.raises(
        BackendUnavailableError,
        match=r"backend='triton' was asked for and cannot run: the tensors are on cpu and .*"
        r"Available: auto, reference, torch\.",
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
        "backend 'auto' runs torch instead of triton on CUDA: torch finds no CUDA device"
    ]


def test_triton_that_is_not_installed_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_TRITON_IS_INSTALLED", False)
    reason = dispatch.why_unavailable("triton", torch.device("cpu"))
    assert reason == "the package triton is not installed (it exists for Linux on x86_64)"


@pytest.mark.parametrize(
    ("capability", "reason"),
    [
        ((9, 0), None),
        ((8, 0), None),
        ((7, 5), "Card has compute capability 7.5 and the kernels need at least 8.0"),
    ],
    ids=str,
)
def test_old_device_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], reason: str | None
) -> None:
    monkeypatch.delitem(sys.modules, "seqmlm_kernels.triton_backend", raising=False)
    use_card(monkeypatch, capability)
    assert dispatch.why_unavailable("triton", torch.device("cuda")) == reason


def test_any_device_of_the_machine_is_asked_for_without_tensors() -> None:
    assert dispatch.why_unavailable("triton") == "torch finds no CUDA device"


def test_interpreter_makes_triton_available_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "seqmlm_kernels.triton_backend", raising=False)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert available_backends(torch.device("cpu")) == ("reference", "torch", "triton")


def test_kernels_loaded_for_another_mode_are_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = types.SimpleNamespace(INTERPRETED=False)
    monkeypatch.setitem(sys.modules, "seqmlm_kernels.triton_backend", loaded)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert dispatch.why_unavailable("triton", torch.device("cpu")) == (
        "its kernels were loaded with TRITON_INTERPRET=0 and it is 1 now; "
        "set it before Python starts"
    )
