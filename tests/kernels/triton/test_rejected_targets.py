"""Targets that may not be predicted are counted in every way to call, compiled ones too."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmlm_kernels import masked_cross_entropy, rejected_targets
from tests.kernels.triton.projection_cases import packed

FIRST, STOP, VOCABULARY = 40, 60, 70
TARGETS = [50, 5, 59, 60]  # the second and the last are outside
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_graph_of_another_test() -> Iterator[None]:
    yield
    torch.compiler.reset()


def range_as(form: str) -> dict[str, Any]:
    ids = torch.arange(VOCABULARY)
    bitset = packed(((ids >= FIRST) & (ids < STOP)).unsqueeze(0))
    if form == "range":
        return {"allowed": (FIRST, STOP)}
    if form == "bitset":
        return {"allowed": bitset}
    return {"allowed": bitset.repeat(2, 1), "allowed_index": torch.tensor([0, 1, 1, 0])}


def losses(hidden: Tensor, weight: Tensor, form: str, backend: str) -> Tensor:
    loss, _ = masked_cross_entropy(
        hidden, weight, None, torch.arange(4), torch.tensor(TARGETS), backend=backend,
        **range_as(form),
    )  # fmt: skip
    return loss


def checkpointed(hidden: Tensor, weight: Tensor, form: str, backend: str) -> Tensor:
    found: Tensor = torch.utils.checkpoint.checkpoint(
        losses, hidden, weight, form, backend, use_reentrant=False
    )
    return found


def counted(function: Callable[..., Tensor], form: str, backend: str) -> list[int]:
    """What the counter says after each of two steps, and that rejected targets cost nothing."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(size, 8, generator=generator) for size in (4, VOCABULARY))
    hidden, weight = hidden.requires_grad_(), weight.requires_grad_()
    counter = rejected_targets(CPU).zero_()
    counts = []
    for _ in range(2):
        loss = function(hidden, weight, form, backend)
        counts.append(int(counter))
        assert loss[[1, 3]].eq(0).all()
        assert loss[[0, 2]].gt(0).all()
        (gradient,) = torch.autograd.grad(loss.sum(), hidden)
        assert gradient[[1, 3]].eq(0).all()
    return counts


# Of torch's compiler, which looks at tensors between two graphs.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("form", ["range", "bitset", "bitset of each"])
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_rejected_targets_are_counted_within_a_compiled_graph(backend: str, form: str) -> None:
    # "torch" looks up which ids a bitset holds, which no graph can, so it is several of them.
    is_one_graph = (backend, form == "range") != ("torch", False)
    compiled = torch.compile(losses, backend="aot_eager", fullgraph=is_one_graph)
    assert counted(compiled, form, backend) == [2, 4]


@pytest.mark.parametrize("backend", ["reference", "torch", "triton"])
def test_rejected_targets_are_counted_once_within_compiled_checkpointing(backend: str) -> None:
    compiled = torch.compile(checkpointed, backend="aot_eager", fullgraph=True)
    assert counted(compiled, "range", backend) == [2, 4]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("form", ["range", "bitset"])
def test_rejected_targets_are_counted_where_no_gradient_is_recorded(
    form: str, mode: Callable[[], Any]
) -> None:
    compiled = torch.compile(losses, backend="aot_eager", fullgraph=True)
    counter = rejected_targets(CPU).zero_()
    with mode():
        compiled(torch.ones(4, 8), torch.ones(VOCABULARY, 8), form, "triton")
    assert counter.item() == 2


def test_a_graph_has_the_counter_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made within the capture of a CUDA graph, it would lie in memory that replays reuse."""
    counters: dict[torch.device, Tensor] = {}
    module = importlib.import_module("seqmlm_kernels.rejected_targets")
    monkeypatch.setattr(module, "_counters", counters)
    found = []

    def stop_before_it_runs(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., Any]:
        found.append(list(counters))
        return graph.forward

    for form in ("range", "bitset"):
        counters.clear()
        torch.compile(losses, backend=stop_before_it_runs, fullgraph=True)(
            torch.ones(4, 8), torch.ones(VOCABULARY, 8), form, "triton"
        )
    assert found == [[CPU], [CPU]]


@pytest.mark.parametrize("form", ["range", "bitset"])
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_rejected_targets_are_counted_within_transformed_functions(
    backend: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqmlm_kernels.checks._values_are_checked", lambda tensor: False)
    monkeypatch.setattr("seqmlm_kernels.linear._HAS_ONEDNN", False)  # which torch.func refuses
    counter = rejected_targets(CPU).zero_()
    gradient = torch.func.grad(lambda hidden, *rest: losses(hidden, *rest).sum())(
        torch.ones(4, 8), torch.ones(VOCABULARY, 8), form, backend
    )
    assert counter.item() == 2
    assert gradient[[1, 3]].eq(0).all()
