"""What attention promises, as checks of `seqmlm_kernels.contract`.

Lengths are chosen by the launches of the Triton kernels: at most 16, 32 or 64 tokens, more than the
128 of their largest tile, and so many short ones beside a long one that they get launches of their
own; one row has more tiles than a kernel classifies at a time.
"""

# T tokens, H heads, D head dimension

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels import reference
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
    naming,
    operands_of,
)
from seqmlm_kernels.dispatch import AttentionBackward
from seqmlm_kernels.visibility import Visibility, sequence_positions

NOT_READ = torch.iinfo(torch.int32).max
OPERANDS = ("q", "k", "v")
TO_16 = (5, 0, 1, 12, 3)
TO_32 = (20, 0, 32)
TO_64 = (64, 1, 35)
LONG = (150, 0, 33)
MIXED = (63, 0, 64, 1, 65, *(7, 0, 3) * 10, 150)
# By bytes of a number: more than 32 tiles, of 64 keys in 16 bits and of 32 in others.
VERY_LONG = {2: (2100,), 4: (1100,), 8: (1100,)}


@dataclass(frozen=True)
class AttentionCase:
    """One call of attention; ``lengths`` None are VERY_LONG."""

    visibility: str = "none"
    window: int | None = None
    lengths: tuple[int, ...] | None = TO_16
    positions: str = "none"
    heads: int = 2
    kv_heads: int = 2
    head_dim: int = 16
    scale: float = 0.3
    max_seqlen: int | None = None
    index_dtype: torch.dtype = torch.int32
    backward: AttentionBackward = "deterministic"


# One head, so that many tiles cost little.
_ONE = AttentionCase(heads=1, kv_heads=1)
_GROUPED = AttentionCase("pseudo-masked", 4, heads=2, kv_heads=1)
_LONG = replace(_ONE, lengths=LONG)

ATTENTION_CASES: Mapping[str, AttentionCase] = {
    "every pair": AttentionCase(),
    "grouped heads": AttentionCase(heads=4, kv_heads=2),
    "head dimension 12": replace(_ONE, head_dim=12),
    "head dimension 1": replace(_ONE, head_dim=1),
    "bidirectional": replace(_ONE, visibility="bidirectional"),
    "causal": replace(_ONE, visibility="causal"),
    "prefix": replace(_ONE, visibility="prefix"),
    "pseudo-masked": replace(_ONE, visibility="pseudo-masked"),
    "window": replace(_ONE, window=3),
    "window of nothing but oneself": replace(_ONE, window=0),
    "window of everything": replace(_ONE, window=2**40),
    "causal window over given positions": replace(
        _ONE, visibility="causal", window=2, positions="halved"
    ),
    "window over positions in any order": replace(_ONE, window=4, positions="any order"),
    "pseudo-masked window, grouped": _GROUPED,
    "negative scale": replace(_ONE, visibility="causal", scale=-0.5),
    "scale of zero": replace(_ONE, scale=0.0),
    "large scores": replace(_ONE, scale=10.0),
    "max_seqlen above the longest": replace(_ONE, max_seqlen=5000),
    "int64 indices": replace(
        _ONE, visibility="causal", window=4, positions="any order", index_dtype=torch.int64
    ),
    "atomic backward": AttentionCase(scale=-0.5, backward="atomic"),
    "atomic backward, pseudo-masked window, grouped": replace(
        _GROUPED, head_dim=12, backward="atomic"
    ),
    "17 to 32 tokens": replace(_ONE, lengths=TO_32),
    "17 to 32 tokens, pseudo-masked": replace(_ONE, lengths=TO_32, visibility="pseudo-masked"),
    "33 to 64 tokens": replace(_ONE, lengths=TO_64),
    "33 to 64 tokens, causal window": replace(_ONE, lengths=TO_64, visibility="causal", window=20),
    "33 to 64 tokens, head dimension 128": replace(_ONE, lengths=TO_64, head_dim=128),
    "150 tokens": _LONG,
    "150 tokens, grouped, prefix": replace(_LONG, heads=2, visibility="prefix"),
    "150 tokens, causal": replace(_LONG, visibility="causal"),
    "150 tokens, window over positions in any order": replace(
        _LONG, window=30, positions="any order"
    ),
    "150 tokens, pseudo-masked window": replace(_LONG, visibility="pseudo-masked", window=40),
    "150 tokens, head dimension 32": replace(_LONG, head_dim=32),
    "150 tokens, head dimension 64": replace(_LONG, head_dim=64),
    "150 tokens, head dimension 96, window": replace(_LONG, head_dim=96, window=9),
    "150 tokens, head dimension 128, causal": replace(_LONG, head_dim=128, visibility="causal"),
    "150 tokens, atomic backward, causal": replace(_LONG, visibility="causal", backward="atomic"),
    "one of 150 tokens among 30 short ones, causal": replace(
        _ONE, lengths=MIXED, visibility="causal"
    ),
    "one of 150 tokens among 30 short ones, atomic backward, window": replace(
        _ONE, lengths=MIXED, window=20, backward="atomic"
    ),
    "more than 1,024 tokens, causal window": replace(
        _ONE, lengths=None, visibility="causal", window=20
    ),
}


def attention_checks() -> dict[str, Callable[[Subject], None]]:
    """Every promise of attention by name."""
    cases: dict[str, Callable[[Subject], None]] = {
        f"attention, {name}": partial(check_attention, case=case)
        for name, case in ATTENTION_CASES.items()
    }
    return {
        **cases,
        "attention of no tokens": check_no_tokens,
        "attention that sees nothing": check_blind_query,
        "attention next to a poisoned sequence": check_poisoned_neighbour,
        "attention, repeated": check_repeated_attention,
        "attention in other layouts": check_attention_layouts,
        "attention, some gradients": check_some_attention_gradients,
        "attention without gradients": check_attention_inference,
    }


@dataclass(frozen=True, eq=False)
class _Call:
    """fp64 operands and gradient of the output, and the other arguments."""

    operands: Results
    above: Tensor
    arguments: dict[str, Any]

    @classmethod
    def of(cls, subject: Subject, case: AttentionCase) -> _Call:
        lengths = VERY_LONG[subject.dtype.itemsize] if case.lengths is None else case.lengths
        boundaries = [0, *accumulate(lengths)]
        cu_seqlens = subject.integers(boundaries, dtype=case.index_dtype)
        shapes = [
            (boundaries[-1], heads, case.head_dim)
            for heads in (case.heads, case.kv_heads, case.kv_heads, case.heads)
        ]
        *operands, above = (subject.normal(*shape, seed=i) for i, shape in enumerate(shapes))
        positions = _positions(case.positions, cu_seqlens)
        longest = max(lengths, default=0)
        arguments = {
            "cu_seqlens": cu_seqlens,
            "max_seqlen": longest if case.max_seqlen is None else case.max_seqlen,
            "visibility": _visibility(case.visibility, cu_seqlens),
            "positions": None if positions is None else positions.to(case.index_dtype),
            "window": case.window,
            "scale": case.scale,
            "backward": case.backward,
        }
        return cls(dict(zip(OPERANDS, operands, strict=True)), above, arguments)

    def run(
        self,
        backend: Any,
        dtype: torch.dtype,
        *,
        layout: Layout = "contiguous",
        differentiated: Sequence[str] = OPERANDS,
    ) -> Results:
        """Output and gradients."""
        leaves, given = operands_of(
            self.operands, dtype, layout=layout, differentiated=differentiated
        )
        output = backend.attention(*given.values(), **self.arguments)
        assert_kind("output", output, leaves["q"].shape, dtype)
        gradients = gradients_of([output], leaves, [self.above], layout)
        assert_unchanged(given, self.operands)
        return {"output": output.detach(), **gradients}

    def expected(self, *, differentiated: Sequence[str] = OPERANDS) -> Results:
        """What the reference gives in fp64."""
        return self.run(reference, torch.float64, differentiated=differentiated)


def check_attention(subject: Subject, *, case: AttentionCase) -> None:
    """Output and gradients are those of the reference."""
    call = _Call.of(subject, case)
    found = call.run(subject.backend, subject.dtype)
    assert_all_close(found, call.expected(), subject.dtype)


def check_no_tokens(subject: Subject) -> None:
    """Sequences that are all empty, and none at all, have an empty output and empty gradients."""
    for lengths in ((0, 0), (0,)):
        for case in (replace(_ONE, lengths=lengths), replace(_GROUPED, lengths=lengths)):
            call = _Call.of(subject, case)
            found = call.run(subject.backend, subject.dtype)
            shapes = {tuple(x.shape) for x in found.values()}
            assert all(shape[0] == 0 for shape in shapes), f"no token gives results of {shapes}"


def check_blind_query(subject: Subject) -> None:
    """A query that sees no key gets zeros and gives no gradient, and its neighbours notice not."""
    for lengths, chosen in ((TO_16, [0, 7, 20]), (LONG, [0, 31, 64, 149, 182])):
        call = _Call.of(subject, replace(_ONE, lengths=lengths, visibility="causal"))
        rule = call.arguments["visibility"]
        blind = torch.zeros_like(rule.step, dtype=torch.bool)
        blind[chosen] = True
        reach = rule.reach.masked_fill(blind, -1)
        call.arguments["visibility"] = Visibility(rule.step, reach, rule.group)
        found = call.run(subject.backend, subject.dtype)
        assert_all_close(found, call.expected(), subject.dtype)
        for name in ("output", "gradient of q"):
            assert not found[name][blind].any(), f"{name} of a query that sees nothing is not zero"


def check_poisoned_neighbour(subject: Subject) -> None:
    """NaN in one sequence changes no bit of the others."""
    for case, poisoned in (
        (replace(_ONE, visibility="pseudo-masked"), 3),
        (replace(_ONE, lengths=(40, 70, 33)), 1),
    ):
        call = _Call.of(subject, case)
        start, stop = (int(call.arguments["cu_seqlens"][i]) for i in (poisoned, poisoned + 1))
        operands = {name: x.clone() for name, x in call.operands.items()}
        for x in operands.values():
            x[start:stop] = torch.nan
        elsewhere = torch.ones(len(call.above), dtype=torch.bool, device=subject.device)
        elsewhere[start:stop] = False
        clean, dirty = (
            replace(call, operands=given).run(subject.backend, subject.dtype)
            for given in (call.operands, operands)
        )
        assert_repeated(clean, dirty, "next to NaN in another sequence", where=elsewhere)


def check_repeated_attention(subject: Subject) -> None:
    """The same call gives the same bits, gradients included."""
    for case in (
        AttentionCase("causal", heads=4, kv_heads=2),
        replace(_LONG, visibility="pseudo-masked", window=60),
    ):
        call = _Call.of(subject, case)
        first, second = (call.run(subject.backend, subject.dtype) for _ in range(2))
        assert_repeated(first, second, "in a repeated run")


def check_attention_layouts(subject: Subject) -> None:
    """Operands and gradients may lie anywhere in memory, as parts of others and transposed."""
    call = _Call.of(subject, replace(_GROUPED, positions="halved"))
    expected = call.expected()
    for layout in LAYOUTS:
        found = call.run(subject.backend, subject.dtype, layout=layout)
        with naming(layout):
            assert_all_close(found, expected, subject.dtype)
    # What `output.sum().backward()` passes: one number with strides of zero.
    call = replace(call, above=torch.full_like(call.above[:1, :1, :1], 0.5))
    with naming("one number expanded as the gradient of the output"):
        found = call.run(subject.backend, subject.dtype)
        assert_all_close(found, call.expected(), subject.dtype)


def check_some_attention_gradients(subject: Subject) -> None:
    """Each operand alone may want a gradient, or some of them."""
    call = _Call.of(subject, replace(_ONE, visibility="causal"))
    for some in (("q",), ("k",), ("v",), ("k", "v")):
        with naming(f"gradients of {', '.join(some)} alone"):
            found = call.run(subject.backend, subject.dtype, differentiated=some)
            assert_all_close(found, call.expected(differentiated=some), subject.dtype)


def check_attention_inference(subject: Subject) -> None:
    """The output is the same where nothing wants a gradient, and where none is recorded."""
    for lengths in (TO_16, LONG):
        call = _Call.of(subject, replace(_ONE, lengths=lengths, visibility="causal", window=9))
        expected = call.expected(differentiated=())
        with naming("operands that want no gradient"):
            found = call.run(subject.backend, subject.dtype, differentiated=())
            assert_all_close(found, expected, subject.dtype)
        for mode in (torch.no_grad, torch.inference_mode):
            with naming(f"torch.{mode.__name__}"), mode():
                output = subject.backend.attention(
                    *(x.to(subject.dtype).requires_grad_() for x in call.operands.values()),
                    **call.arguments,
                )
                assert_all_close({"output": output}, expected, subject.dtype)


def _positions(kind: str, cu_seqlens: Tensor) -> Tensor | None:
    if kind == "none":
        return None
    index = sequence_positions(cu_seqlens)
    if kind == "halved":
        return index // 2
    # Negative ones too, and neighbours far apart.
    return (index * 7) % 23 - 9


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
