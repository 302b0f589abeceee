"""What cross-entropy and inference over a projection promise, as checks of the contract."""

# V vocabulary, M predictions, K ids of a prediction

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from seqmlm_kernels import reference
from seqmlm_kernels.contract_prediction_calls import (
    OPERANDS,
    OUTPUTS,
    PREDICTION_CASES,
    PredictionCall,
    PredictionCase,
)
from seqmlm_kernels.contract_subject import (
    LAYOUTS,
    Results,
    Subject,
    assert_all_close,
    assert_repeated,
    naming,
    same_bits,
)
from seqmlm_kernels.rejected_targets import rejected_targets

# A vocabulary of one tile, and one of several.
_SIZES = (PredictionCase("indexed"), PredictionCase("indexed", vocabulary=300))


def prediction_checks() -> dict[str, Callable[[Subject], None]]:
    """Every promise of cross-entropy, likelihoods and best ids by name."""
    by_case: dict[str, Callable[[Subject], None]] = {
        f"{function}, {name}": partial(check, case=case)
        for function, check in (
            ("cross-entropy", check_cross_entropy),
            ("token log-likelihood", check_token_log_likelihood),
            ("top k", check_top_k),
        )
        for name, case in PREDICTION_CASES.items()
        # Gradients are sums over predictions; inference has none, and either size alone will do.
        if function == "cross-entropy" or case.predictions * case.vocabulary < 40_000
    }
    return {
        **by_case,
        "cross-entropy without predictions": check_no_predictions,
        "cross-entropy next to poisoned rows": check_poisoned_rows,
        "cross-entropy of targets outside their set": check_rejected_targets,
        "cross-entropy in other layouts": check_cross_entropy_layouts,
        "cross-entropy, some gradients": check_some_gradients,
        "cross-entropy without gradients": check_cross_entropy_inference,
        "token log-likelihood in other layouts": check_token_log_likelihood_layouts,
        "token log-likelihood next to poisoned rows": check_poisoned_likelihood,
        "top k in other layouts": check_top_k_layouts,
        "top k of equal scores": check_equal_scores,
        "inference without predictions": check_inference_of_nothing,
    }


def check_cross_entropy(subject: Subject, *, case: PredictionCase) -> None:
    """Loss, normaliser and gradients are those of the reference, and of the same bits each time."""
    call = PredictionCall.of(subject, case)
    found, again = (call.cross_entropy(subject.backend, subject.dtype) for _ in range(2))
    assert_all_close(found, call.cross_entropy(reference, torch.float64), subject.dtype)
    assert_repeated(found, again, "in a repeated run")
    unread = torch.ones(case.tokens, dtype=torch.bool, device=subject.device)
    unread[call.rows.long()] = False
    assert not found["gradient of hidden"][unread].any(), "a row nobody predicts has a gradient"
    if call.allowed is None:
        return
    never = ~call.allowed.unpack(case.vocabulary).any(0)
    for name in ("gradient of weight", "gradient of bias"):
        if name in found:
            assert not found[name][never].any(), f"{name} is not 0 for an id never allowed"
    if call.allowed.index is not None:
        assert found["loss"][-1] == 0, "a prediction without allowed ids must have loss 0"


def check_no_predictions(subject: Subject) -> None:
    """No prediction: empty results, and gradients of zero."""
    for name, case in PREDICTION_CASES.items():
        if case.predictions > 6:
            continue
        with naming(name):
            found = _nothing(subject, case).cross_entropy(subject.backend, subject.dtype)
            gradients = (x for name, x in found.items() if name not in OUTPUTS)
            assert not any(x.any() for x in gradients), "no prediction must give no gradient"


def check_poisoned_rows(subject: Subject) -> None:
    """NaN in rows that nobody predicts changes no bit."""
    for case in _SIZES:
        call = PredictionCall.of(subject, case)
        poisoned = _poisoned(call)
        for some in (OPERANDS, ()):
            clean, dirty = (
                each.cross_entropy(subject.backend, subject.dtype, differentiated=some)
                for each in (call, poisoned)
            )
            assert_repeated(clean, dirty, "with NaN in rows that nobody predicts")


def check_rejected_targets(subject: Subject) -> None:
    """A target outside its set has loss 0 and no gradient, is counted, and harms no other."""
    for sets in ("shared", "indexed"):
        for case in (replace(size, sets=sets) for size in _SIZES):
            call = PredictionCall.of(subject, case)
            assert call.allowed is not None
            # Set 0, which the second to last predictions of both kinds of sets use.
            outside = int((~call.allowed.unpack(case.vocabulary)[0]).nonzero()[0])
            rejected = [0, 2]
            targets = call.targets.clone()
            targets[rejected] = outside
            above = tuple(x.clone() for x in call.above)
            above[0][rejected] = 100.0
            call = replace(call, targets=targets, above=(above[0], above[1]))
            counter = rejected_targets(subject.device)
            before = int(counter)
            found = call.cross_entropy(subject.backend, subject.dtype, used=("loss",))
            counted = int(counter) - before
            expected = call.cross_entropy(reference, torch.float64, used=("loss",))
            with naming(f"{case.vocabulary} ids, {sets}"):
                assert not found["loss"][rejected].any(), "a target outside its set must cost 0"
                assert counted == 2, f"of 2 targets outside their set {counted} were counted"
                assert_all_close(found, expected, subject.dtype)


def check_cross_entropy_layouts(subject: Subject) -> None:
    """Operands, selection, sets and gradients may be parts of other tensors and transposed."""
    for case in _SIZES:
        call = PredictionCall.of(subject, case)
        expected = call.cross_entropy(reference, torch.float64)
        for layout in LAYOUTS:
            with naming(f"{case.vocabulary} ids, {layout}"):
                found = call.cross_entropy(subject.backend, subject.dtype, layout=layout)
                assert_all_close(found, expected, subject.dtype)
        # What `loss.mean().backward()` passes: one number with strides of zero.
        call = replace(call, above=(call.above[0][:1], call.above[1][:1]))
        with naming(f"{case.vocabulary} ids, one number expanded as the gradient of the loss"):
            found = call.cross_entropy(subject.backend, subject.dtype)
            expected = call.cross_entropy(reference, torch.float64)
            assert_all_close(found, expected, subject.dtype)


def check_some_gradients(subject: Subject) -> None:
    """Each operand alone may want a gradient, and each result alone may have one from above."""
    for case in _SIZES:
        call = PredictionCall.of(subject, case)
        choices: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
            *(((name,), OUTPUTS) for name in OPERANDS),
            *((OPERANDS, (name,)) for name in OUTPUTS),
        ]
        for some, used in choices:
            with naming(f"{case.vocabulary} ids, gradients of {used} for {some} alone"):
                found, expected = (
                    call.cross_entropy(backend, dtype, differentiated=some, used=used)
                    for backend, dtype in (
                        (subject.backend, subject.dtype),
                        (reference, torch.float64),
                    )
                )
                assert_all_close(found, expected, subject.dtype)


def check_cross_entropy_inference(subject: Subject) -> None:
    """Loss and normaliser are the same where nothing wants a gradient, or none is recorded."""
    for case in (*_SIZES, replace(_SIZES[1], sets="every", has_bias=False)):
        call = PredictionCall.of(subject, case)
        expected = call.cross_entropy(reference, torch.float64, differentiated=())
        with naming(f"{case.vocabulary} ids, operands that want no gradient"):
            found = call.cross_entropy(subject.backend, subject.dtype, differentiated=())
            assert_all_close(found, expected, subject.dtype)
        for mode in (torch.no_grad, torch.inference_mode):
            with naming(f"{case.vocabulary} ids, torch.{mode.__name__}"), mode():
                leaves = {
                    name: x.to(subject.dtype).requires_grad_() for name, x in call.operands.items()
                }
                outputs = subject.backend.masked_cross_entropy(
                    *call.arguments(leaves), call.targets, call.allowed
                )
                named = dict(zip(OUTPUTS, outputs, strict=True))
                assert_all_close(named, expected, subject.dtype)


def check_token_log_likelihood(subject: Subject, *, case: PredictionCase) -> None:
    """Log-probabilities are those of the reference, and exactly -inf where not allowed."""
    call = PredictionCall.of(subject, case)
    for ids_of_each in (3,) if case.predictions > 6 else (1, 3, 20):
        ids = _ids(subject, case, ids_of_each)
        with naming(f"{ids_of_each} ids of each prediction"):
            found, again = (
                call.log_likelihood(subject.backend, subject.dtype, ids) for _ in range(2)
            )
            expected = call.log_likelihood(reference, torch.float64, ids)
            assert_all_close(found, expected, subject.dtype)
            assert_repeated(found, again, "in a repeated run")


def check_token_log_likelihood_layouts(subject: Subject) -> None:
    """Operands, ids and sets may be parts of other tensors and transposed."""
    for case in _SIZES:
        call, ids = PredictionCall.of(subject, case), _ids(subject, case, 3)
        expected = call.log_likelihood(reference, torch.float64, ids)
        for layout in LAYOUTS:
            with naming(f"{case.vocabulary} ids, {layout}"):
                found = call.log_likelihood(subject.backend, subject.dtype, ids, layout=layout)
                assert_all_close(found, expected, subject.dtype)


def check_poisoned_likelihood(subject: Subject) -> None:
    """NaN in rows that nobody predicts changes no bit of likelihoods and best ids."""
    for case in _SIZES:
        call, ids = PredictionCall.of(subject, case), _ids(subject, case, 3)
        runs: list[Results] = []
        for each in (call, _poisoned(call)):
            values, best = each.top_k(subject.backend, subject.dtype, 4)
            likelihood = each.log_likelihood(subject.backend, subject.dtype, ids)
            runs.append({**likelihood, "the best": values, "their ids": best})
        assert_repeated(runs[0], runs[1], "with NaN in rows that nobody predicts")


def check_top_k(subject: Subject, *, case: PredictionCase) -> None:
    """The best ids in their order, -inf where a set has fewer, and the same each time."""
    call = PredictionCall.of(subject, case)
    everything = case.vocabulary if case.vocabulary <= 300 and case.predictions <= 6 else 4
    for k in sorted({1, min(4, case.vocabulary), everything}):
        with naming(f"k = {k}"):
            values, ids = call.top_k(subject.backend, subject.dtype, k)
            again = call.top_k(subject.backend, subject.dtype, k)
            assert same_bits(values, again[0]), "log-probabilities have other bits when repeated"
            assert same_bits(ids, again[1]), "ids are others when repeated"
            _assert_best(subject, call, values, ids, k)


def check_top_k_layouts(subject: Subject) -> None:
    """Operands and sets may be parts of other tensors and transposed."""
    for case in _SIZES:
        call = PredictionCall.of(subject, case)
        for layout in LAYOUTS:
            with naming(f"{case.vocabulary} ids, {layout}"):
                values, ids = call.top_k(subject.backend, subject.dtype, 4, layout=layout)
                _assert_best(subject, call, values, ids, 4)


def check_equal_scores(subject: Subject) -> None:
    """Of ids with equal scores the lowest allowed ones come first."""
    for case in (*_SIZES, replace(_SIZES[1], sets="shared"), replace(_SIZES[1], sets="every")):
        call = PredictionCall.of(subject, case)
        call.operands["weight"].zero_()
        call.operands["bias"].zero_()
        values, ids = call.top_k(subject.backend, subject.dtype, 4)
        _, expected = call.top_k(reference, torch.float64, 4)
        possible = values.isfinite()
        with naming(f"{case.vocabulary} ids, {case.sets}"):
            same = torch.equal(ids[possible], expected[possible])
            assert same, "of equal scores the lowest ids must come first"


def check_inference_of_nothing(subject: Subject) -> None:
    """No prediction: empty likelihoods and no best ids."""
    for name, case in PREDICTION_CASES.items():
        call = _nothing(subject, case)
        with naming(name):
            k = min(4, case.vocabulary)
            call.top_k(subject.backend, subject.dtype, k)
            ids = subject.integers([]).view(0, 3)
            call.log_likelihood(subject.backend, subject.dtype, ids)


def _assert_best(
    subject: Subject, call: PredictionCall, values: Tensor, ids: Tensor, k: int
) -> None:
    """Values are the k largest, and those of their ids, of which no two are one."""
    vocabulary = len(call.operands["weight"])
    assert bool(((ids >= 0) & (ids < vocabulary)).all()), "an id is beyond the vocabulary"
    expected, _ = call.top_k(reference, torch.float64, k)
    assert_all_close({"log-probabilities": values}, {"log-probabilities": expected}, subject.dtype)
    at_ids = call.log_likelihood(reference, torch.float64, ids)["log-probabilities"]
    at_ids = at_ids.masked_fill(values == -torch.inf, -torch.inf)
    named = {"log-probabilities of the ids": at_ids}
    assert_all_close(named, {"log-probabilities of the ids": expected}, subject.dtype)
    for row, possible in zip(ids, values.isfinite(), strict=True):
        chosen = row[possible].tolist()
        assert len(set(chosen)) == len(chosen), "an id is among the best twice"


def _ids(subject: Subject, case: PredictionCase, ids_of_each: int) -> Tensor:
    """[M, K] ids all over the vocabulary, some of them not allowed."""
    count = case.predictions * ids_of_each
    ids = [(number * 53 + 11) % case.vocabulary for number in range(count)]
    return subject.integers(ids, dtype=case.index_dtype).view(case.predictions, ids_of_each)


def _poisoned(call: PredictionCall) -> PredictionCall:
    """The same call with NaN in the hidden states of rows that it does not predict."""
    hidden = torch.full_like(call.operands["hidden"], torch.nan)
    rows = call.rows.long()
    hidden[rows] = call.operands["hidden"][rows]
    return replace(call, operands=call.operands | {"hidden": hidden})


def _nothing(subject: Subject, case: PredictionCase) -> PredictionCall:
    """A call of no predictions."""
    call = PredictionCall.of(subject, case)
    allowed = call.allowed
    if allowed is not None and allowed.index is not None:
        allowed = replace(allowed, index=allowed.index[:0])
    empty = call.rows[:0]
    above = (call.above[0][:0], call.above[1][:0])
    return replace(call, rows=empty, targets=empty, allowed=allowed, above=above)
