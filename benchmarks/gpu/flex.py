"""FlexAttention over packed rows: the document mask, and the rule of pseudo-masking."""

# T tokens, H heads, D head dimension

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from benchmarks.gpu.compiling import compiled
from benchmarks.gpu.packed import Packed
from benchmarks.gpu.session import Session
from seqmlm_kernels import Visibility

MaskRule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def documents(session: Session, packed: Packed, *, is_rebuilt: bool) -> Callable[..., Tensor]:
    """Attention within rows, its block mask made once or, as training on new rows must, each time.

    Returns:
        A function of q, k, v [T, H, D].
    """
    row = packed.row

    def same_row(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return row[query] == row[key]

    make_mask = _mask_maker(session, packed, same_row)
    if is_rebuilt:
        return _attend(session, make_mask)
    mask = make_mask()
    return _attend(session, lambda: mask)


def visibility(session: Session, packed: Packed, rule: Visibility) -> Callable[..., Tensor]:
    """Attention under the rule of `seqmlm_kernels.visibility`, its block mask made each time."""
    row, step, reach, group = packed.row, rule.step, rule.reach, rule.group

    def is_visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        content = (group[key] < 0) & (step[key] <= reach[query])
        pseudo = (group[key] >= 0) & (group[key] == group[query])
        return (row[query] == row[key]) & (content | pseudo)

    return _attend(session, _mask_maker(session, packed, is_visible))


def _mask_maker(session: Session, packed: Packed, rule: MaskRule) -> Callable[[], Any]:
    # Uncompiled it would hold T x T booleans.
    make: Any = create_block_mask if session.is_rehearsal else compiled(session, create_block_mask)
    tokens, device = packed.tokens, session.device
    return lambda: make(rule, None, None, tokens, tokens, device=device)


def _attend(session: Session, make_mask: Callable[[], Any]) -> Callable[..., Tensor]:
    function = compiled(session, flex_attention)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batched = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        output: Tensor = function(*batched, block_mask=make_mask())
        return output.squeeze(0).transpose(0, 1)

    return attend
