"""What every backend promises, as checks that hold one to it, on any device and in any dtype.

The reference in fp64 on the same rounded inputs says what is right; zeros, infinities and repeated
runs must be exact. The shapes are small: all checks of a dtype take seconds even when interpreted.
"""

# T tokens, H heads, D head dimension, M predictions, V vocabulary, E hidden size

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels import contract_arguments, reference
from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.dispatch import Backend, select_backend
from seqmlm_kernels.rejected_targets import rejected_targets
from seqmlm_kernels.rotary_table import rotary_table
from seqmlm_kernels.visibility import Visibility, sequence_positions

TOLERANCES: Mapping[torch.dtype, float] = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    torch.float16: 6e-3,
    torch.bfloat16: 4e-2,
}
"""Largest error, as a share of the largest expected number, or of 1 where that is smaller."""

NOT_READ = torch.iinfo(torch.int32).max
VOCABULARY = 70
LENGTHS = (5, 0, 1, 12, 3)


@dataclass(frozen=True)
class Subject:
    """A backend, and where and in what it computes."""

    backend: Backend
    device: torch.device
    dtype: torch.dtype

    def normal(self, *shape: int, seed: int) -> Tensor:
        """Random numbers that the dtype can hold, in fp64."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator).to(self.dtype).double().to(self.device)

    def integers(self, values: Sequence[int]) -> Tensor:
        """[n] int32 on the device."""
        return torch.tensor(values, dtype=torch.int32, device=self.device)


@dataclass(frozen=True)
class AttentionCase:
    """One call of attention on sequences of LENGTHS."""

    visibility: str = "none"
    window: int | None = None
    given_positions: bool = False
    heads: int = 2
    kv_heads: int = 2
    head_dim: int = 16
    scale: float = 0.3


ATTENTION_CASES: Mapping[str, AttentionCase] = {
    "every pair": AttentionCase(),
    "grouped heads": AttentionCase(heads=4, kv_heads=2),
    "head dimension that is no power of two": AttentionCase(heads=1, kv_heads=1, head_dim=12),
    "bidirectional": AttentionCase("bidirectional"),
    "causal": AttentionCase("causal"),
    "prefix": AttentionCase("prefix"),
    "pseudo-masked": AttentionCase("pseudo-masked"),
    "window": AttentionCase(window=3),
    "window of nothing but oneself": AttentionCase(window=0),
    "causal window over given positions": AttentionCase("causal", 2, given_positions=True),
    "pseudo-masked window, grouped": AttentionCase("pseudo-masked", 4, heads=2, kv_heads=1),
    "negative scale": AttentionCase("causal", scale=-0.5),
}


def check_backend(
    backend: str | Backend,
    *,
    device: torch.device | str = "cpu",
    dtypes: Sequence[torch.dtype] = (torch.float32,),
) -> None:
    """Hold a backend to its contract; seconds per dtype, a minute where Triton interprets.

    Args:
        backend: a name, whose checks of arguments are checked as well, or a module or object that
            provides `seqmlm_kernels.dispatch.Backend`.
        device: where it computes.
        dtypes: in what it computes, of TOLERANCES.

    Raises:
        AssertionError: a promise is broken; the message names it.
        BackendUnavailableError: the named backend cannot run here.
    """
    device = torch.device(device)
    if isinstance(backend, str):
        contract_arguments.check_argument_errors(backend, device)
        backend = select_backend(backend, device)
    for dtype in dtypes:
        for name, check in checks().items():
            try:
                check(Subject(backend, device, dtype))
            except AssertionError as error:
                raise AssertionError(f"{name}, {dtype}: {error}") from error


def checks() -> dict[str, Callable[[Subject], None]]:
    """Every promise by name, as a function that raises AssertionError where it is broken."""
    named: dict[str, Callable[[Subject], None]] = {
        f"attention, {name}": partial(check_attention, case=case)
        for name, case in ATTENTION_CASES.items()
    }
    return {
        **named,
        "attention that sees nothing": check_blind_query,
        "attention next to a poisoned sequence": check_poisoned_neighbour,
        "attention, repeated": check_repeated_attention,
        "cross-entropy over every id": partial(check_cross_entropy, sets="every"),
        "cross-entropy over one set": partial(check_cross_entropy, sets="shared"),
        "cross-entropy over sets": partial(check_cross_entropy, sets="indexed"),
        "cross-entropy without predictions": check_no_predictions,
        "cross-entropy of targets outside their set": check_rejected_targets,
        "masked softmax": check_masked_softmax,
        "token log-likelihood": check_token_log_likelihood,
        "top k": check_top_k,
        "rotary": check_rotary,
    }


def check_attention(subject: Subject, *, case: AttentionCase) -> None:
    """Output and gradients are those of the reference."""
    operands, arguments = _attention_call(subject, case)
    expected = _attend(reference, operands, arguments, torch.float64)
    found = _attend(subject.backend, operands, arguments, subject.dtype)
    _assert_all_close(found, expected, ("output", "dq", "dk", "dv"), subject.dtype)


def check_blind_query(subject: Subject) -> None:
    """A query that sees no key gets zeros and gives no gradient, and its neighbours notice not."""
    operands, arguments = _attention_call(subject, AttentionCase("causal"))
    rule = arguments["visibility"]
    blind = torch.zeros_like(rule.step, dtype=torch.bool)
    blind[[0, 7, 20]] = True
    arguments["visibility"] = Visibility(rule.step, rule.reach.masked_fill(blind, -1), rule.group)
    expected = _attend(reference, operands, arguments, torch.float64)
    found = _attend(subject.backend, operands, arguments, subject.dtype)
    _assert_all_close(found, expected, ("output", "dq", "dk", "dv"), subject.dtype)
    assert not found[0][blind].any(), "a query that sees nothing must get exactly zero"
    assert not found[1][blind].any(), "a query that sees nothing must have no gradient"


def check_poisoned_neighbour(subject: Subject) -> None:
    """NaN in one sequence changes no bit of the others."""
    operands, arguments = _attention_call(subject, AttentionCase("pseudo-masked"))
    clean = _attend(subject.backend, operands, arguments, subject.dtype)
    start, stop = (int(arguments["cu_seqlens"][i]) for i in (3, 4))
    poisoned = tuple(x.clone() for x in operands)
    for x in poisoned:
        x[start:stop] = torch.nan
    elsewhere = torch.ones(len(operands[0]), dtype=torch.bool, device=subject.device)
    elsewhere[start:stop] = False
    dirty = _attend(subject.backend, poisoned, arguments, subject.dtype)
    for before, after in zip(clean, dirty, strict=True):
        assert torch.equal(before[elsewhere], after[elsewhere]), "a sequence depends on another"


def check_repeated_attention(subject: Subject) -> None:
    """The same call gives the same bits, gradients included."""
    operands, arguments = _attention_call(subject, AttentionCase("causal", heads=4, kv_heads=2))
    runs = [_attend(subject.backend, operands, arguments, subject.dtype) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second), "a repeated run gives other bits"


def check_cross_entropy(subject: Subject, *, sets: str) -> None:
    """Loss, normaliser and gradients are those of the reference; a row may be predicted twice."""
    leaves, selection, allowed = _prediction_call(subject, sets)
    expected = _cross_entropy(reference, leaves, selection, allowed, torch.float64)
    found = _cross_entropy(subject.backend, leaves, selection, allowed, subject.dtype)
    names = ("loss", "log-normaliser", "hidden gradient", "weight gradient", "bias gradient")
    _assert_all_close(found, expected, names, subject.dtype)
    if allowed is not None:
        never = ~allowed.unpack(VOCABULARY).any(0)
        assert not found[3][never].any(), "an id that is never allowed must have no gradient"
    if sets == "indexed":
        assert found[0][-1] == 0, "a prediction without allowed ids must have loss 0"
        assert found[1][-1] == -torch.inf, "a prediction without allowed ids normalises to -inf"


def check_no_predictions(subject: Subject) -> None:
    """No prediction: empty results, and gradients of zero."""
    leaves, _, _ = _prediction_call(subject, "every")
    nothing = subject.integers([])
    found = _cross_entropy(subject.backend, leaves, (nothing, nothing), None, subject.dtype)
    assert found[0].shape == found[1].shape == (0,), "no prediction must give no loss"
    assert not any(gradient.any() for gradient in found[2:]), "no prediction, no gradient"


def check_rejected_targets(subject: Subject) -> None:
    """A target outside its set has loss 0 and no gradient, and is counted."""
    leaves, (rows, targets), allowed = _prediction_call(subject, "shared")
    assert allowed is not None
    outside = int((~allowed.unpack(VOCABULARY)[0]).nonzero()[0])
    counter = rejected_targets(subject.device)
    before = int(counter)
    hidden, weight, bias = (x.to(subject.dtype).requires_grad_() for x in leaves)
    loss, _ = subject.backend.masked_cross_entropy(
        hidden, weight, bias, rows[:1], torch.full_like(targets[:1], outside), allowed
    )
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0, "a target outside its set must have loss 0"
    assert weight.grad is not None
    assert not weight.grad.any(), "a target outside its set must give no gradient"
    assert int(counter) == before + 1, "a target outside its set must be counted"


def check_masked_softmax(subject: Subject) -> None:
    """Probabilities and gradients are those of the reference, exactly zero where not allowed."""
    _, (rows, _), allowed = _prediction_call(subject, "indexed")
    assert allowed is not None
    scores = subject.normal(len(rows), VOCABULARY, seed=5)
    above = subject.normal(len(rows), VOCABULARY, seed=6)

    def run(backend: Any, dtype: torch.dtype) -> tuple[Tensor, ...]:
        leaf = scores.to(dtype).requires_grad_()
        probabilities = backend.masked_softmax(leaf, allowed)
        return probabilities.detach(), *torch.autograd.grad(probabilities, leaf, above.to(dtype))

    found = run(subject.backend, subject.dtype)
    names = ("probabilities", "gradient")
    _assert_all_close(found, run(reference, torch.float64), names, subject.dtype)
    outside = ~allowed.per_prediction(allowed.unpack(VOCABULARY))
    for name, values in zip(names, found, strict=True):
        assert not values[outside].any(), f"{name} must be exactly 0 where an id is not allowed"


def check_token_log_likelihood(subject: Subject) -> None:
    """Log-probabilities are those of the reference, and exactly -inf where not allowed."""
    leaves, (rows, _), allowed = _prediction_call(subject, "indexed")
    ids = (torch.arange(3 * len(rows), device=subject.device) % VOCABULARY).view(-1, 3)
    expected = reference.token_log_likelihood(*leaves, rows, ids, allowed)
    found = subject.backend.token_log_likelihood(*_rounded(subject, leaves), rows, ids, allowed)
    _assert_all_close((found,), (expected,), ("log-probabilities",), subject.dtype)


def check_top_k(subject: Subject) -> None:
    """The best ids in their order; of equal ones the lowest; -inf where a set has fewer."""
    leaves, (rows, _), allowed = _prediction_call(subject, "indexed")
    expected, _ = reference.top_k(*leaves, rows, 4, allowed)
    values, ids = subject.backend.top_k(*_rounded(subject, leaves), rows, 4, allowed)
    _assert_all_close((values,), (expected,), ("log-probabilities",), subject.dtype)
    at_ids = reference.token_log_likelihood(*leaves, rows, ids, allowed)
    at_ids = at_ids.masked_fill(values == -torch.inf, -torch.inf)
    _assert_all_close((at_ids,), (expected,), ("log-probabilities of the ids",), subject.dtype)
    equal = torch.zeros(VOCABULARY, leaves[1].shape[1], dtype=subject.dtype, device=subject.device)
    hidden = leaves[0].to(subject.dtype)
    _, ids = subject.backend.top_k(hidden, equal, None, rows, 4, None)
    assert ids.tolist() == [[0, 1, 2, 3]] * len(rows), "of equal ids the lowest must come first"


def check_rotary(subject: Subject) -> None:
    """Rotated queries and keys, and their gradients, are those of the reference."""
    positions = subject.integers(range(9))
    q, k = subject.normal(9, 3, 12, seed=7), subject.normal(9, 1, 12, seed=8)
    table = rotary_table(positions, 12)

    def run(backend: Any, dtype: torch.dtype) -> tuple[Tensor, ...]:
        leaves = [x.to(dtype).requires_grad_() for x in (q, k)]
        rotated = backend.rotary(*leaves, table)
        gradients = torch.autograd.grad([x.square().sum() + x.sum() for x in rotated], leaves)
        return *(x.detach() for x in rotated), *gradients

    found = run(subject.backend, subject.dtype)
    _assert_all_close(found, run(reference, torch.float64), ("q", "k", "dq", "dk"), subject.dtype)


def _attention_call(
    subject: Subject, case: AttentionCase
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """fp64 (q, k, v, gradient of the output), and the other arguments."""
    boundaries = [sum(LENGTHS[:i]) for i in range(len(LENGTHS) + 1)]
    cu_seqlens = subject.integers(boundaries)
    tokens = boundaries[-1]
    operands = tuple(
        subject.normal(tokens, heads, case.head_dim, seed=seed)
        for seed, heads in enumerate((case.heads, case.kv_heads, case.kv_heads, case.heads))
    )
    return operands, {
        "cu_seqlens": cu_seqlens,
        "max_seqlen": max(LENGTHS),
        "visibility": _visibility(case.visibility, cu_seqlens),
        "positions": sequence_positions(cu_seqlens) // 2 if case.given_positions else None,
        "window": case.window,
        "scale": case.scale,
    }


def _visibility(kind: str, cu_seqlens: Tensor) -> Visibility | None:
    if kind == "none":
        return None
    causal = Visibility.causal(cu_seqlens)
    step, nobody = causal.step, causal.group
    if kind == "bidirectional":
        return Visibility(torch.zeros_like(step), torch.zeros_like(step), nobody)
    if kind == "causal":
        return causal
    if kind == "prefix":
        response = (step - 2).clamp(min=0)
        return Visibility(response, response, nobody)
    # Three tokens a block: block 0 is the context, every third token of the others is a [P].
    block = step // 3
    pseudo = (block > 0) & (step % 3 == 0)
    return Visibility(
        torch.where(pseudo, NOT_READ, block),
        torch.where(pseudo, block - 1, block),
        torch.where(pseudo, block, nobody),
    )


def _attend(
    backend: Any, operands: tuple[Tensor, ...], arguments: Mapping[str, Any], dtype: torch.dtype
) -> tuple[Tensor, ...]:
    leaves = [x.to(dtype, copy=True).requires_grad_() for x in operands[:3]]
    output = backend.attention(*leaves, **arguments)
    assert output.dtype == dtype, f"the output is {output.dtype} for inputs of {dtype}"
    return output.detach(), *torch.autograd.grad(output, leaves, operands[3].to(dtype))


def _prediction_call(
    subject: Subject, sets: str
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor], AllowedSets | None]:
    """fp64 (hidden, weight, bias); rows and targets; sets, of which the last one is empty."""
    leaves = tuple(
        subject.normal(*shape, seed=seed)
        for seed, shape in enumerate(((9, 24), (VOCABULARY, 24), (VOCABULARY,)))
    )
    rows, targets = subject.integers([0, 3, 3, 8, 5]), subject.integers([40, 7, 64, 31, 2])
    # Ids from 2 to 64 except 3, the sign bit of the first word included.
    some = [(1 << 32) - 1 - 0b1011, (1 << 32) - 1, 1]
    odd = [0xAAAAAAAA, 0xAAAAAAAA, 0x2A]
    index = None
    table = [some]
    if sets == "indexed":
        # 40 and 64 are even, 7 and 31 odd; the last prediction has nothing to choose from.
        table, index = [some, odd, [0, 0, 0]], subject.integers([0, 1, 0, 1, 2])
    words = torch.tensor(table, dtype=torch.int64, device=subject.device)
    words = torch.where(words >= 1 << 31, words - (1 << 32), words).int()
    allowed = None if sets == "every" else AllowedSets(words, index)
    return (leaves[0], leaves[1], leaves[2]), (rows, targets), allowed


def _rounded(
    subject: Subject, leaves: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    hidden, weight, bias = (x.to(subject.dtype) for x in leaves)
    return hidden, weight, bias


def _cross_entropy(
    backend: Any,
    leaves: tuple[Tensor, ...],
    selection: tuple[Tensor, Tensor],
    allowed: AllowedSets | None,
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """Loss, log-normaliser, and the gradients of a sum of both that weights rows differently."""
    operands = [x.to(dtype, copy=True).requires_grad_() for x in leaves]
    loss, log_normaliser = backend.masked_cross_entropy(*operands, *selection, allowed)
    weights = torch.arange(1, len(loss) + 1, device=loss.device)
    finite = torch.where(log_normaliser.isfinite(), log_normaliser, 0.0)
    total = (weights * loss).sum() + (finite / (weights + 1)).sum()
    gradients = torch.autograd.grad(total, operands)
    return loss.detach(), log_normaliser.detach(), *gradients


def _assert_all_close(
    found: Sequence[Tensor], expected: Sequence[Tensor], names: Sequence[str], dtype: torch.dtype
) -> None:
    for name, one, other in zip(names, found, expected, strict=True):
        assert one.shape == other.shape, f"{name} has shape {one.shape}, not {other.shape}"
        infinite = other.isinf()
        same = torch.equal(one.double()[infinite], other.double()[infinite])
        assert same, f"{name} must be infinite exactly where the reference is"
        if bool(infinite.all()):
            continue
        largest = max(1.0, float(other[~infinite].abs().max()))
        error = float((one.double() - other.double())[~infinite].abs().max()) / largest
        assert error <= TOLERANCES[dtype], (  # NaN is not
            f"{name} is off by {error:.3g} of its largest number; {TOLERANCES[dtype]:g} is allowed"
        )
