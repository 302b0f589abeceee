"""Rotary embedding alone, and behind the projection that makes what it turns.

Ours is a kernel of its own, which no compiler can fuse with its neighbours; in plain torch
Inductor can. "without" turns nothing: what is between it and the others is the most that a rotation
within the loads of attention, or of the projection, could save.
"""

# T tokens, H heads, D head dimension, E hidden size

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as functional
from torch import Tensor

from benchmarks.gpu.compiling import compiled
from benchmarks.gpu.race import Contestant, race
from benchmarks.gpu.session import Session
from seqmlm_kernels import rotary
from seqmlm_kernels.rotary_table import rotary_table

TOKENS, HEADS, HEAD_DIM = 32_768, 12, 64
ALONE = "rotary alone, T 32,768, H 12, D 64, forward and backward"
PROJECTED = "rotary behind the projection to q, k and v, E 768, forward and backward"
OURS, PLAIN, COMPILED, WITHOUT = "seqmlm", "plain torch", "torch.compile", "without"

Turn = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def run(session: Session) -> None:
    """Both races."""
    session.attempt(ALONE, partial(alone, session))
    session.attempt(PROJECTED, partial(projected, session))


def alone(session: Session) -> None:
    """Queries and keys turned, and their gradients turned back."""
    tokens, heads = _sizes(session)
    normal = _normal(session.device)
    projection = normal(tokens, 3, heads, HEAD_DIM)
    q, k, _ = (x.requires_grad_() for x in projection.unbind(1))
    above = [normal(tokens, heads, HEAD_DIM) for _ in range(2)]
    positions = torch.arange(tokens, device=session.device)
    table = rotary_table(positions, HEAD_DIM)

    def turn(rotate: Turn) -> Callable[[], object]:
        return lambda: torch.autograd.grad(rotate(q, k, table), (q, k), above)

    contestants = [
        Contestant(OURS, lambda: turn(partial(_ours, positions))),
        Contestant(PLAIN, lambda: turn(_plain), compiles=False),
        Contestant(COMPILED, lambda: turn(compiled(session, _plain))),
    ]
    race(session, ALONE, contestants, tokens=tokens, graphed=(OURS, COMPILED))


def projected(session: Session) -> None:
    """Hidden states to turned queries and keys, and values; forward and backward."""
    tokens, heads = _sizes(session)
    normal = _normal(session.device)
    width = heads * HEAD_DIM
    hidden, weight = normal(tokens, width), normal(3 * width, width) / width**0.5
    leaves = [x.requires_grad_() for x in (hidden, weight)]
    above = [normal(tokens, heads, HEAD_DIM) for _ in range(3)]
    positions = torch.arange(tokens, device=session.device)
    table = rotary_table(positions, HEAD_DIM)

    def make(rotate: Turn) -> Callable[[], object]:
        def layer(hidden: Tensor, weight: Tensor, table: Tensor) -> tuple[Tensor, ...]:
            q, k, v = functional.linear(hidden, weight).view(tokens, 3, heads, -1).unbind(1)
            return *rotate(q, k, table), v.clone()

        call = compiled(session, layer)
        return lambda: torch.autograd.grad(call(*leaves, table), leaves, above)

    contestants = [
        Contestant(OURS, lambda: make(partial(_ours, positions))),
        Contestant(COMPILED, lambda: make(_plain)),
        Contestant(WITHOUT, lambda: make(_unturned)),
    ]
    names = [one.name for one in contestants]
    race(session, PROJECTED, contestants, tokens=tokens, graphed=names)


def _sizes(session: Session) -> tuple[int, int]:
    return (5, 1) if session.is_rehearsal else (TOKENS, HEADS)


def _normal(device: torch.device) -> Callable[..., Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, device=device).bfloat16()


def _ours(positions: Tensor, q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    return rotary(q, k, positions, table=table, backend="triton")


def _plain(q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    cosine, sine = table.unsqueeze(2)
    half = q.shape[-1] // 2
    turned = (
        (x.float() * cosine + x.float().roll(half, dims=-1) * sine).to(x.dtype) for x in (q, k)
    )
    q, k = turned
    return q, k


def _unturned(q: Tensor, k: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    return q.clone(), k.clone()
