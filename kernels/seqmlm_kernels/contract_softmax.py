"""What the masked softmax of given scores promises, as checks of `seqmlm_kernels.contract`."""

# M rows, V vocabulary

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels import reference
from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.contract_prediction_calls import (
    PREDICTION_CASES,
    PredictionCall,
    PredictionCase,
)
from seqmlm_kernels.contract_subject import (
    LAYOUTS,
    Layout,
    Results,
    Subject,
    assert_all_close,
    assert_kind,
    assert_repeated,
    assert_unchanged,
    gradients_of,
    laid_out,
    naming,
    operands_of,
)

_SETS = PredictionCase("indexed", vocabulary=300)


def softmax_checks() -> dict[str, Callable[[Subject], None]]:
    """Every promise of the masked softmax by name."""
    by_case: dict[str, Callable[[Subject], None]] = {
        f"masked softmax, {name}": partial(check_masked_softmax, case=case)
        for name, case in PREDICTION_CASES.items()
        if case.sets != "every"
    }
    return {
        **by_case,
        "masked softmax of no rows": check_no_rows,
        "masked softmax in other layouts": check_softmax_layouts,
        "masked softmax without gradients": check_softmax_inference,
    }


@dataclass(frozen=True, eq=False)
class _Call:
    """fp64 scores and gradient of the probabilities, and the sets."""

    scores: Tensor
    above: Tensor
    allowed: AllowedSets

    @classmethod
    def of(cls, subject: Subject, case: PredictionCase) -> _Call:
        allowed = PredictionCall.of(subject, case).allowed
        assert allowed is not None
        shape = case.predictions, case.vocabulary
        # Sharp enough that probabilities of thousands of ids are not all tiny.
        scores = subject.normal(*shape, seed=5) * 4
        if case.has_large_scores:
            scores = (scores * 12).round().clamp(-256, 256)
        return cls(scores, subject.normal(*shape, seed=6), allowed)

    def run(
        self,
        backend: Any,
        dtype: torch.dtype,
        *,
        layout: Layout = "contiguous",
        is_differentiated: bool = True,
    ) -> Results:
        """Probabilities and the gradient of the scores."""
        exact = {"scores": self.scores}
        leaves, given = operands_of(
            exact, dtype, layout=layout, differentiated=("scores",) if is_differentiated else ()
        )
        allowed = self.allowed
        if layout != "contiguous":
            index = None if allowed.index is None else laid_out(allowed.index, layout)
            allowed = AllowedSets(laid_out(allowed.words, layout), index)
        probabilities = backend.masked_softmax(given["scores"], allowed)
        assert_kind("probabilities", probabilities, self.scores.shape, dtype)
        gradients = gradients_of([probabilities], leaves, [self.above], layout)
        assert_unchanged(given, exact)
        return {"probabilities": probabilities.detach(), **gradients}


def check_masked_softmax(subject: Subject, *, case: PredictionCase) -> None:
    """Probabilities and gradients are those of the reference, exactly zero where not allowed."""
    call = _Call.of(subject, case)
    found, again = (call.run(subject.backend, subject.dtype) for _ in range(2))
    assert_all_close(found, call.run(reference, torch.float64), subject.dtype)
    assert_repeated(found, again, "in a repeated run")
    members = call.allowed.per_prediction(call.allowed.unpack(case.vocabulary))
    outside = ~members.expand_as(call.scores)
    for name, values in found.items():
        assert not values[outside].any(), f"{name} must be exactly 0 where an id is not allowed"


def check_no_rows(subject: Subject) -> None:
    """No row: no probabilities, and no gradient."""
    call = _Call.of(subject, _SETS)
    index = call.allowed.index
    assert index is not None
    for allowed in (
        AllowedSets(call.allowed.words, index[:0]),
        AllowedSets(call.allowed.words[:1], None),
    ):
        none = replace(call, scores=call.scores[:0], above=call.above[:0], allowed=allowed)
        none.run(subject.backend, subject.dtype)


def check_softmax_layouts(subject: Subject) -> None:
    """Scores, sets and gradients may be parts of other tensors and transposed."""
    call = _Call.of(subject, _SETS)
    expected = call.run(reference, torch.float64)
    for layout in LAYOUTS:
        with naming(layout):
            found = call.run(subject.backend, subject.dtype, layout=layout)
            assert_all_close(found, expected, subject.dtype)
    call = replace(call, above=call.above[:1, :1])
    with naming("one number expanded as the gradient of the probabilities"):
        found = call.run(subject.backend, subject.dtype)
        assert_all_close(found, call.run(reference, torch.float64), subject.dtype)


def check_softmax_inference(subject: Subject) -> None:
    """Probabilities are the same where no gradient is wanted or recorded."""
    call = _Call.of(subject, _SETS)
    expected = call.run(reference, torch.float64, is_differentiated=False)
    with naming("scores that want no gradient"):
        found = call.run(subject.backend, subject.dtype, is_differentiated=False)
        assert_all_close(found, expected, subject.dtype)
    for mode in (torch.no_grad, torch.inference_mode):
        with naming(f"torch.{mode.__name__}"), mode():
            scores = call.scores.to(subject.dtype).requires_grad_()
            found = {"probabilities": subject.backend.masked_softmax(scores, call.allowed)}
            assert_all_close(found, expected, subject.dtype)
