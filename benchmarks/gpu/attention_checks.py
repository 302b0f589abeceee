"""What is checked of attention and rotary: every launch of the tables, every rule, every way.

Sequences are as long as each launch is for: at most 16, 32 or 64 tokens, or long rows among short
and empty ones.
"""

# T tokens, H query heads, Hkv key-value heads, D head dimension

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import branches, correctness
from benchmarks.gpu.correctness import Comparison, Piece, Results
from benchmarks.gpu.pseudo_masking import pseudo_masked
from benchmarks.gpu.session import Session
from seqmlm_kernels import Visibility, attention, rotary
from seqmlm_kernels.dispatch import AttentionBackward
from seqmlm_kernels.triton.launch import InputPrecision

LONG = branches.MOST_TOKENS[-1]
LENGTHS: Mapping[int, Sequence[int]] = {
    16: (16, 0, 1, 7, 16, 3) * 8,
    32: (32, 0, 1, 17, 25) * 8,
    # A context of 54 tokens has a masked block, which makes it 64.
    64: (54, 0, 1, 33, 45) * 8,
    LONG: (1500, 0, 1, 63, 64, 65, 0, 700, 129, 16, 3),
}
# More short sequences than long ones, so that both get launches of their own.
MIXED = (17, 0, 1, 64, 3, 33, 9, 15) * 8 + (65, 1000)
REHEARSED_LENGTHS = (45, 0, 5)
RULES = ("every pair", "causal", "window", "pseudo-masked in a window")


@dataclass(frozen=True)
class AttentionCase:
    """Sequences under one rule.

    Args:
        most_tokens: of a sequence, a key of LENGTHS.
        way: one of `branches.WAYS`; None for a plain call.
    """

    head_dim: int
    most_tokens: int = LONG
    rule: str = RULES[0]
    backward: AttentionBackward = "deterministic"
    precision: InputPrecision = "ieee"
    heads: int = 4
    kv_heads: int = 2
    way: str | None = None

    def __str__(self) -> str:
        length = "long" if self.most_tokens == LONG else f"at most {self.most_tokens} tokens"
        parts = (f"D {self.head_dim}", length, self.rule, self.backward, self.precision)
        shared = () if self.heads != self.kv_heads else ("a key-value head each",)
        return ", ".join(("attention", *parts, *shared, *filter(None, (self.way,))))


def cases(precisions: Sequence[InputPrecision]) -> Iterator[AttentionCase]:
    """Every launch once, under rules in turn; then all rules, heads and ways."""
    for i, head_dim in enumerate(branches.HEAD_DIMS):
        for j, most_tokens in enumerate(LENGTHS):
            rule = RULES[(i + j) % len(RULES)]
            yield AttentionCase(head_dim, most_tokens, rule)
            yield AttentionCase(head_dim, most_tokens, rule, backward="atomic")
        if "tf32" in precisions:
            for backward in ("deterministic", "atomic"):
                rule = RULES[i % len(RULES)]
                yield AttentionCase(head_dim, LONG, rule, backward, precision="tf32")
    for head_dim in (64, 128):
        yield from (AttentionCase(head_dim, rule=rule) for rule in RULES)
    yield AttentionCase(64, kv_heads=4)
    yield AttentionCase(64, kv_heads=4, backward="atomic")
    yield AttentionCase(64, rule="causal", kv_heads=4, way=branches.ONE_PROJECTION)
    yield AttentionCase(64, rule=RULES[-1], way=branches.COMPILED)
    yield AttentionCase(64, way=branches.REPLAYED)
    for rule in (RULES[0], RULES[-1]):
        mixed = AttentionCase(64, rule=rule, way=branches.MIXED_LENGTHS)
        yield from (mixed, replace(mixed, backward="atomic"))


def pieces(dtype: torch.dtype, *, is_rehearsal: bool) -> Iterator[Piece]:
    """Checks of one dtype by name."""
    chosen = list(dict.fromkeys(cases(branches.precisions(dtype))))
    head_dims: Sequence[int] = branches.HEAD_DIMS
    if is_rehearsal:
        plain = AttentionCase(32, rule=RULES[-1], heads=2, kv_heads=1)
        chosen = [
            plain,
            replace(plain, backward="atomic", rule="causal"),
            replace(plain, kv_heads=2, way=branches.ONE_PROJECTION),
            replace(plain, way=branches.COMPILED),
        ]
        head_dims = head_dims[1:2]
    for case in chosen:
        yield str(case), partial(check_attention, case=case, dtype=dtype)
    for head_dim in head_dims:
        yield f"rotary, D {head_dim}", partial(check_rotary, head_dim=head_dim, dtype=dtype)


def check_attention(session: Session, *, case: AttentionCase, dtype: torch.dtype) -> None:
    """Output and gradients of a batch."""
    lengths = MIXED if case.way == branches.MIXED_LENGTHS else LENGTHS[case.most_tokens]
    lengths = REHEARSED_LENGTHS if session.is_rehearsal else lengths
    arguments = _arguments(case, lengths, session.device)
    cu_seqlens = arguments["cu_seqlens"]
    tokens = int(cu_seqlens[-1])
    normal = partial(_normal, session.device, dtype)
    is_fused = case.way == branches.ONE_PROJECTION
    leaves = [
        normal(tokens, heads, case.head_dim, seed=seed).requires_grad_()
        for seed, heads in enumerate((case.heads, case.kv_heads, case.kv_heads))
    ]
    if is_fused:
        leaves = [torch.stack([x.detach() for x in leaves], dim=1).requires_grad_()]
    above = normal(tokens, case.heads, case.head_dim, seed=3)

    def results(operands: Sequence[Tensor], function: Callable[..., Tensor]) -> Results:
        q, k, v = operands[0].unbind(1) if is_fused else operands
        output = function(q, k, v, **arguments)
        return output.detach(), *torch.autograd.grad(output, operands, above.to(output.dtype))

    ours: Callable[..., Tensor] = partial(attention, backend="triton")
    if case.way == branches.COMPILED:
        torch.compiler.reset()
        backend = "aot_eager" if session.is_rehearsal else "inductor"
        ours = torch.compile(ours, fullgraph=True, backend=backend, dynamic=False)
    run = partial(results, leaves, ours)
    if case.way == branches.REPLAYED:
        # Other numbers, and the sequences in another order.
        inputs = [*leaves, cu_seqlens]
        others = [*(x.detach().flip(0) for x in leaves), tokens - cu_seqlens.flip(0)]
        run = partial(correctness.replayed, run, inputs, others)
    exact = [x.detach().double().requires_grad_() for x in leaves]
    comparison = Comparison(
        str(case),
        ("output", "gradient") if is_fused else ("output", "dq", "dk", "dv"),
        run,
        partial(results, exact, partial(attention, backend="reference")),
        must_repeat=case.backward == "deterministic",
        ways=() if case.way is None else (case.way,),
        precision=case.precision,
    )
    correctness.compare(session, dtype, comparison)


def check_rotary(session: Session, *, head_dim: int, dtype: torch.dtype) -> None:
    """Rotated queries and keys, slices of one projection, and its gradient."""
    tokens, heads, kv_heads = (9, 3, 1) if session.is_rehearsal else (777, 12, 4)
    positions = torch.arange(tokens, device=session.device) * 5
    both = _normal(session.device, dtype, tokens, heads + kv_heads, head_dim, seed=0)
    above = _normal(session.device, dtype, tokens, heads + kv_heads, head_dim, seed=1)

    def results(leaf: Tensor, backend: str) -> Results:
        q, k = leaf[:, :heads], leaf[:, heads:]
        rotated = torch.cat(rotary(q, k, positions, backend=backend), dim=1)
        return rotated.detach(), *torch.autograd.grad(rotated, leaf, above.to(rotated.dtype))

    comparison = Comparison(
        f"rotary, D {head_dim}",
        ("rotated", "gradient"),
        partial(results, both.requires_grad_(), "triton"),
        partial(results, both.detach().double().requires_grad_(), "reference"),
    )
    correctness.compare(session, dtype, comparison)


def _arguments(case: AttentionCase, lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    cu_seqlens = torch.tensor([0, *lengths], device=device).cumsum(0).int()
    visibility, window = None, None
    if case.rule == "causal":
        visibility = Visibility.causal(cu_seqlens)
    if case.rule == "pseudo-masked in a window":
        visibility, cu_seqlens = pseudo_masked(list(lengths), device)
    if "window" in case.rule:
        window = 100 if case.most_tokens == LONG else 5
    return {
        "cu_seqlens": cu_seqlens,
        "max_seqlen": int(cu_seqlens.diff().max()),
        "visibility": visibility,
        "window": window,
        "backward": case.backward,
    }


def _normal(device: torch.device, dtype: torch.dtype, *shape: int, seed: int) -> Tensor:
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device).to(dtype)
