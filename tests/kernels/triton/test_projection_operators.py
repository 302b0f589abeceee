"""What torch sees: schemas, shapes of fake tensors, autograd, and graphs without breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmlm_kernels import reference
from seqmlm_kernels.allowed import AllowedSets
from tests.kernels.triton.projection_cases import (
    Case,
    Operands,
    cross_entropy,
    loss_and_gradients,
    operands_of,
)

AssertClose = Callable[..., None]
SMALL = Case(predictions=5, vocabulary=33, hidden_size=16, sets=2, has_bias=True)


def arguments_of(operands: Operands) -> tuple[list[Tensor | None], AllowedSets]:
    assert operands.allowed is not None
    leaves = [
        None if x is None else x.clone().requires_grad_()
        for x in (operands.hidden, operands.weight, operands.bias)
    ]
    return leaves, operands.allowed


def calls() -> dict[str, tuple[Any, tuple[Any, ...]]]:
    from seqmlm_kernels.triton import projection_operators, score_rows

    operands = operands_of(SMALL)
    leaves, sets = arguments_of(operands)
    rows, targets, pair = operands.rows, operands.targets, (sets.words, sets.index)
    scores = torch.randn(5, 33, requires_grad=True)
    kept = torch.randn(5, 64)
    wide = torch.randn(64, 16, requires_grad=True)
    given = torch.zeros(5, 3, dtype=torch.int64)
    upstream = torch.zeros(5), torch.ones(5), torch.ones(5)
    plain = [None if x is None else x.detach() for x in leaves]
    return {
        "masked_softmax": (score_rows.softmax_of_scores, (scores, *pair)),
        "masked_softmax_backward": (
            score_rows.softmax_of_scores_backward,
            (scores.detach().softmax(1), scores.detach(), *pair),
        ),
        "projected_cross_entropy": (
            projection_operators.projected_cross_entropy,
            (*leaves, rows, targets, *pair, False),
        ),
        # Of 64 ids every kept score is written.
        "projected_cross_entropy without sets and bias, keeping scores": (
            projection_operators.projected_cross_entropy,
            (leaves[0], wide, None, rows, targets, None, None, True),
        ),
        "projected_cross_entropy_backward": (
            projection_operators.projected_cross_entropy_backward,
            (*plain, rows, targets, *pair, upstream[0], kept, *upstream[1:], [True, False, True]),
        ),
        "projected_log_likelihood": (
            projection_operators.projected_log_likelihood,
            (*plain, rows, given, *pair),
        ),
        "projected_top_k": (
            projection_operators.projected_top_k,
            (*plain, rows, 3, *pair),
        ),
    }


NAMES = [
    "masked_softmax",
    "masked_softmax_backward",
    "projected_cross_entropy",
    "projected_cross_entropy without sets and bias, keeping scores",
    "projected_cross_entropy_backward",
    "projected_log_likelihood",
    "projected_top_k",
]


@pytest.mark.parametrize("name", NAMES)
def test_operator_passes_opcheck(name: str) -> None:
    operator, arguments = calls()[name]
    results = torch.library.opcheck(operator, arguments, raise_exception=False)
    assert set(results.values()) == {"SUCCESS"}, results


@pytest.mark.parametrize("name", ["loss", "log_normaliser"])
def test_gradient_of_one_result_alone_matches_reference(
    name: str, assert_close: AssertClose
) -> None:
    operands = operands_of(Case(5, 33, 16, sets=None, has_bias=False))

    def gradient(function: Callable[..., Any], dtype: torch.dtype) -> Tensor | None:
        hidden = operands.hidden.to(dtype, copy=True).requires_grad_()
        weight = operands.weight.to(dtype)
        results = function(hidden, weight, None, operands.rows, operands.targets, None)
        torch.autograd.backward(results[0 if name == "loss" else 1].square().sum())
        return hidden.grad

    expected = gradient(reference.masked_cross_entropy, torch.float64)
    assert_close(gradient(cross_entropy, torch.float32), expected, "gradient", torch.float32)


@pytest.mark.parametrize("vocabulary", [33, 300], ids=["one tile", "materialised"])
def test_compiled_cross_entropy_gives_the_same_numbers(vocabulary: int) -> None:
    operands = operands_of(
        Case(predictions=5, vocabulary=vocabulary, hidden_size=16, sets=2, has_bias=True)
    )
    compiled = torch.compile(cross_entropy, fullgraph=True, backend="aot_eager")
    eager_results = loss_and_gradients(cross_entropy, operands, torch.float32)
    compiled_results = loss_and_gradients(compiled, operands, torch.float32)
    for eager, found in zip(eager_results, compiled_results, strict=True):
        assert torch.equal(eager, found)


def test_compiled_inference_gives_the_same_numbers() -> None:
    from seqmlm_kernels.triton import projection

    operands = operands_of(SMALL)

    def infer(operands: Operands) -> tuple[Tensor, ...]:
        arguments = operands.hidden, operands.weight, operands.bias, operands.rows
        ids = operands.targets.unsqueeze(1)
        assert operands.allowed is not None
        return (
            projection.token_log_likelihood(*arguments, ids, operands.allowed),
            *projection.top_k(*arguments, 3, operands.allowed),
            projection.masked_softmax(
                operands.hidden @ operands.weight.T, AllowedSets(operands.allowed.words[:1], None)
            ),
        )

    compiled = torch.compile(infer, fullgraph=True, backend="aot_eager")
    for eager, found in zip(infer(operands), compiled(operands), strict=True):
        assert torch.equal(eager, found)


@pytest.mark.parametrize("vocabulary", [33, 300], ids=["one tile", "materialised"])
def test_gradient_checkpointing_gives_the_same_numbers(vocabulary: int) -> None:
    operands = operands_of(
        Case(predictions=5, vocabulary=vocabulary, hidden_size=16, sets=2, has_bias=True)
    )

    def checkpointed(*arguments: Any) -> tuple[Tensor, Tensor]:
        loss, log_normaliser = torch.utils.checkpoint.checkpoint(
            cross_entropy, *arguments, use_reentrant=False
        )
        return loss, log_normaliser

    plain = loss_and_gradients(cross_entropy, operands, torch.float32)
    again = loss_and_gradients(checkpointed, operands, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_a_cpu_without_interpreter_has_every_operator(
    monkeypatch: pytest.MonkeyPatch, assert_close: AssertClose
) -> None:
    """A graph that was traced on a GPU runs there, with scores kept and computed again."""
    from seqmlm_kernels.triton import projection, projection_operators

    monkeypatch.setattr(projection_operators, "INTERPRETED", False)
    monkeypatch.setattr(projection_operators, "launch", None)
    operands = operands_of(SMALL)
    expected = loss_and_gradients(reference.masked_cross_entropy, operands, torch.float64)
    for keeps in (True, False):
        monkeypatch.setattr(projection, "scores_are_kept", lambda *sizes, keeps=keeps: keeps)
        found = loss_and_gradients(cross_entropy, operands, torch.float32)
        for actual, wanted in zip(found, expected, strict=True):
            assert_close(actual, wanted, "gradient", torch.float32)


def test_closed_forms_for_a_cpu_without_interpreter_match_reference(
    assert_close: AssertClose,
) -> None:
    from seqmlm_kernels.triton import closed_form

    operands = operands_of(SMALL, torch.float64)
    loss, log_normaliser, *gradients = loss_and_gradients(
        reference.masked_cross_entropy, operands, torch.float64
    )
    gathered = operands.hidden[operands.rows.long()]
    scores = torch.nn.functional.linear(gathered, operands.weight, operands.bias)
    found = closed_form.cross_entropy_of_scores(scores, operands.targets, operands.allowed)
    factors = torch.linspace(0.5, 2.0, 5, dtype=torch.float64)
    slope = torch.where(log_normaliser.isfinite(), 2 * log_normaliser, 0.0) * factors.flip(0)
    found_gradients = closed_form.projection_gradients(
        operands.hidden,
        operands.weight,
        operands.bias,
        operands.rows,
        operands.targets,
        operands.allowed,
        (log_normaliser, factors, slope),
    )
    for actual, expected in zip(
        (*found, *found_gradients), (loss, log_normaliser, *gradients), strict=True
    ):
        assert_close(actual, expected, "gradient", torch.float64)


def test_closed_form_of_the_softmax_gradient_matches_autograd(assert_close: AssertClose) -> None:
    from seqmlm_kernels.triton import closed_form

    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 5, dtype=torch.float64)
    probabilities = scores.softmax(-1)
    (expected,) = torch.autograd.grad(probabilities, scores, upstream)
    found = closed_form.softmax_gradient(probabilities.detach(), upstream)
    assert_close(found, expected, "gradient", torch.float64)
