"""Attention beside what torch has: forward, backward, packed rows, windows and pseudo-masks.

Operations are counted for visible pairs only. In packed cases a peer that cannot pack is given the
rows padded to the longest, with a mask, which is what it would get in training. Whoever needs
something of each batch beside its operands, a mask or tables, makes it once ("FlexAttention",
"seqmlm") or in every call ("mask rebuilt", "SDPA, padded", `REBUILT`): like goes against like.
"""

# T tokens, H heads, D head dimension, B rows, L tokens of the longest row

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu import flex, lengths
from benchmarks.gpu.packed import Packed
from benchmarks.gpu.pseudo_masking import pseudo_masked
from benchmarks.gpu.race import Contestant, race, with_tuned_launches
from benchmarks.gpu.session import Session
from seqmlm_kernels import AttentionLayout, Visibility, attention, attention_layout

TOKENS = 32_768
HIDDEN_SIZE = 1024
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward and backward"
WINDOW_CASE, ALL_CASE = "window of 64, S 8,192", "no window, S 8,192"
PSEUDO_MASKED = f"pseudo-masked rows, D 64, {BOTH}"
# Contexts of one row: of its tokens, which are a quarter more, the second has twice as many.
LONG_CONTEXTS = (12_800, 25_600)
LENGTHS = (2048, 8192, 4096, 16_384)
EQUAL = (
    *((length, mode) for length in LENGTHS[:2] for mode in (BACKWARD, FORWARD)),
    (512, FORWARD),
)
# After all others, should time be short.
LAST_EQUAL = tuple((length, mode) for length in LENGTHS[2:] for mode in (FORWARD, BACKWARD))
ATOMIC = "seqmlm, atomic"
REBUILT = "seqmlm, layout rebuilt"
FLEX, FLEX_REBUILT = "FlexAttention", "FlexAttention, mask rebuilt"
PADDED = "SDPA, padded"
GRAPHED = ("seqmlm", "seqmlm, tuned", REBUILT, "torch varlen")
PACKED = {
    "text": lengths.text,
    "proteins": lengths.protein,
    "identifiers": lengths.identifier,
    "triples": lengths.triple,
}
ONE_LONG = "one row of 2,048 among 255 of 32"


@dataclass(frozen=True)
class Way:
    """A way to compute attention of `Packed` operands: (q, k, v) to an output of one shape.

    Args:
        compiles: whether its first run fills the cache of a compiler.
    """

    name: str
    make: Callable[[], Callable[..., Tensor]]
    prepare: Callable[[Tensor], Tensor]
    is_tuned: bool = False
    compiles: bool = True


def equal_case(head_dim: int, length: int, mode: str) -> str:
    """Name of a case with rows of equal length."""
    return f"D {head_dim}, S {length:,}, {mode}"


def packed_case(data: str, mode: str) -> str:
    """Name of a case with packed rows."""
    return f"packed {data}, D 64, {mode}"


def long_row_case(context: int) -> str:
    """Name of a case of one long pseudo-masked row with one head."""
    return f"one pseudo-masked row of a context of {context:,}, H 1, D 64, {BOTH}"


def run(session: Session) -> None:
    """Run every race."""
    equal = EQUAL[:1] if session.is_rehearsal else EQUAL
    for length, mode in equal:
        equal_rows(session, length, mode)
    for data in ("text",) if session.is_rehearsal else (*PACKED, ONE_LONG):
        for mode in (FORWARD, BOTH):
            session.attempt(packed_case(data, mode), partial(packed_rows, session, data, mode))
    session.attempt(WINDOW_CASE, partial(windows, session))
    session.attempt(PSEUDO_MASKED, partial(pseudo_masked_rows, session))
    for context in LONG_CONTEXTS:
        session.attempt(long_row_case(context), partial(long_row, session, context))
    for length, mode in () if session.is_rehearsal else LAST_EQUAL:
        equal_rows(session, length, mode)


def equal_rows(session: Session, length: int, mode: str) -> None:
    """Both head dimensions."""
    for head_dim in (64,) if session.is_rehearsal else (64, 128):
        name = equal_case(head_dim, length, mode)
        session.attempt(name, partial(_equal_rows, session, head_dim, length, mode))


def _equal_rows(session: Session, head_dim: int, length: int, mode: str) -> None:
    """Full attention over rows of equal length, against the dense kernels."""
    rows = [16] if session.is_rehearsal else [length] * (TOKENS // length)
    packed = _packed(session, rows, head_dim)
    ways = [
        *_ours(packed),
        *([_atomic(packed)] if mode == BACKWARD else []),
        _dense("SDPA flash", packed, SDPBackend.FLASH_ATTENTION),
        _dense("SDPA cuDNN", packed, SDPBackend.CUDNN_ATTENTION),
    ]
    name = equal_case(head_dim, length, mode)
    race(session, name, _contestants(packed, ways, mode), flop=packed.flop(mode))


def packed_rows(session: Session, data: str, mode: str) -> None:
    """Rows of many lengths, every token seeing all of its own row."""
    if data == ONE_LONG:
        rows = list(lengths.ONE_LONG)
    else:
        rows = lengths.fill(PACKED[data], 24 if session.is_rehearsal else TOKENS)
    packed = _packed(session, rows, 64)
    ways = [*_ours(packed), _rebuilt(packed, None), _varlen(packed)]
    if data != ONE_LONG:  # padded, it would be fifty times as many tokens
        ways.append(_padded(packed, None))
    if data == "text":
        ways += [
            Way(FLEX, lambda: flex.documents(session, packed, is_rebuilt=False), _rows),
            Way(
                FLEX_REBUILT,
                lambda: flex.documents(session, packed, is_rebuilt=True),
                _rows,
            ),
        ]
    contestants = _contestants(packed, ways, mode)
    race(
        session, packed_case(data, mode), contestants, flop=packed.flop(mode), graphed=GRAPHED,
        tokens=packed.tokens,
    )  # fmt: skip


def windows(session: Session) -> None:
    """A window of 64 to both sides in long rows against no window."""
    rows = [40] if session.is_rehearsal else [8192] * 4
    packed = _packed(session, rows, 64)
    race(session, ALL_CASE, _contestants(packed, _ours(packed), FORWARD))
    window = 8 if session.is_rehearsal else 64
    ways = [*_ours(packed, window=window), _varlen(packed, window=window)]
    race(session, WINDOW_CASE, _contestants(packed, ways, FORWARD))


def pseudo_masked_rows(session: Session) -> None:
    """UniLM-v2 rows: the rule from three integers per token, or as a mask."""
    contexts = [40] if session.is_rehearsal else [820] * 32
    visibility, cu_seqlens = pseudo_masked(contexts, session.device)
    packed = _packed(session, cu_seqlens.diff().tolist(), 64)
    ways = [
        *_ours(packed, visibility=visibility),
        _rebuilt(packed, visibility),
        Way(FLEX_REBUILT, lambda: flex.visibility(session, packed, visibility), _rows),
        _padded(packed, visibility),
    ]
    # On a CPU FlexAttention has no backward.
    mode = FORWARD if session.is_rehearsal else BOTH
    race(session, PSEUDO_MASKED, _contestants(packed, ways, mode), tokens=packed.tokens)


def long_row(session: Session, context: int) -> None:
    """Memory for one head of one row: little beside a mask of it, which would be seen at once."""
    visibility, cu_seqlens = pseudo_masked(
        [40 if session.is_rehearsal else context], session.device
    )
    packed = _packed(session, cu_seqlens.diff().tolist(), 64, heads=1)
    ways = [_rebuilt(packed, visibility), _padded(packed, visibility)]
    name = long_row_case(context)
    race(session, name, _contestants(packed, ways, BOTH), tokens=packed.tokens)


def _packed(
    session: Session, rows: list[int], head_dim: int, *, heads: int | None = None
) -> Packed:
    heads = 1 if session.is_rehearsal else heads or HIDDEN_SIZE // head_dim
    return Packed.random(rows, heads=heads, head_dim=head_dim, device=session.device)


def _rows(x: Tensor) -> Tensor:
    return x


def _ours(
    packed: Packed, *, visibility: Visibility | None = None, window: int | None = None
) -> list[Way]:
    run_ours = partial(_run_ours, packed, _layout(packed, visibility), window=window)
    return [
        Way("seqmlm", lambda: run_ours, _rows),
        Way("seqmlm, tuned", lambda: run_ours, _rows, is_tuned=True),
    ]


def _rebuilt(packed: Packed, visibility: Visibility | None) -> Way:
    """Ours as a model of one layer has it: copies and tables of the layout made in every call."""

    def run_rebuilt(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return _run_ours(packed, _layout(packed, visibility), q, k, v)

    return Way(REBUILT, lambda: run_rebuilt, _rows)


def _atomic(packed: Packed) -> Way:
    """The one kernel of the backward whose results are not bit-equal from run to run."""
    run_ours = partial(_run_ours, packed, _layout(packed, None), backward="atomic")
    return Way(ATOMIC, lambda: run_ours, _rows)


def _layout(packed: Packed, visibility: Visibility | None) -> AttentionLayout:
    """Copied; the tables are made by the first call that gets it, forward and backward."""
    return attention_layout(packed.cu_seqlens, positions=packed.position, visibility=visibility)


def _run_ours(
    packed: Packed, layout: AttentionLayout, q: Tensor, k: Tensor, v: Tensor, **options: Any
) -> Tensor:
    return attention(
        q, k, v, cu_seqlens=layout.cu_seqlens, max_seqlen=packed.longest,
        positions=layout.positions, visibility=layout.visibility, backend="triton", **options,
    )  # fmt: skip


def _dense(name: str, packed: Packed, backend: Any) -> Way:
    """SDPA held to one kernel: it raises where that kernel cannot run."""

    def run_dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel([backend]):
            return scaled_dot_product_attention(q, k, v)

    return Way(name, lambda: run_dense, packed.padded, compiles=False)


def _padded(packed: Packed, visibility: Visibility | None) -> Way:
    """SDPA over padded rows with a dense mask, made in every call as training does."""

    def run_padded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = packed.key_mask() if visibility is None else packed.pair_mask(visibility)
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return Way(PADDED, lambda: run_padded, packed.padded, compiles=False)


def _varlen(packed: Packed, *, window: int | None = None) -> Way:
    boundaries, longest = packed.cu_seqlens, packed.longest

    def make() -> Callable[..., Tensor]:
        varlen_attn: Any = importlib.import_module("torch.nn.attention.varlen").varlen_attn
        # Only given where it is needed: torch 2.10 does not have it.
        options = {} if window is None else {"window_size": (window, window)}
        layout = (boundaries, boundaries, longest, longest)
        return lambda q, k, v: varlen_attn(q, k, v, *layout, **options)

    return Way("torch varlen", make, _rows, compiles=False)


def _contestants(packed: Packed, ways: list[Way], mode: str) -> list[Contestant]:
    return [Contestant(way.name, partial(_turn, packed, way, mode), way.compiles) for way in ways]


def _turn(packed: Packed, way: Way, mode: str) -> Callable[[], object]:
    """What is timed: only the backward if the mode says so, from a graph that is kept."""
    function = way.make()
    q, k, v, above = (way.prepare(x).detach() for x in packed.operands())
    turn: Callable[[], object]
    if mode == FORWARD:
        turn = partial(_without_gradients, function, q, k, v)
    else:
        leaves = [x.requires_grad_() for x in (q, k, v)]
        if mode == BACKWARD:
            output = function(*leaves)
            turn = partial(_backward, output, leaves, above)
        else:
            turn = partial(_forward_and_backward, function, leaves, above)
    return partial(with_tuned_launches, turn) if way.is_tuned else turn


def _without_gradients(function: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    with torch.no_grad():
        return function(*operands)


def _backward(output: Tensor, leaves: list[Tensor], above: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(output, leaves, above, retain_graph=True)


def _forward_and_backward(
    function: Callable[..., Tensor], leaves: list[Tensor], above: Tensor
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(function(*leaves), leaves, above)
