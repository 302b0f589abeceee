"""What all attention layers of a pass share, so that a backend prepares it once."""

# T tokens, B sequences

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from seqmlm_kernels.dispatch import why_unavailable
from seqmlm_kernels.visibility import Visibility


@dataclass(frozen=True, eq=False)
class AttentionLayout:
    """Arguments that all layers of a pass give to `attention`, as `attention_layout` copied them.

    Args:
        cu_seqlens: [B + 1], where sequences start, then T.
        positions: [T], what windows measure.
        visibility: who may attend to whom, or None.
    """

    cu_seqlens: Tensor
    positions: Tensor
    visibility: Visibility | None


def attention_layout(
    cu_seqlens: Tensor, *, positions: Tensor, visibility: Visibility | None = None
) -> AttentionLayout:
    """Copy the layout of a batch once per pass; give the copies to `attention` in every layer.

    The Triton kernels need tables of a layout; where they cannot run, nothing is copied. A call
    that gets these three as they are here shares its tables with every other such call, forward
    and backward. Any other call makes its own tables, in some hundred small operations on the
    device: one that gets other tensors, or copies that were written since. Copies that were made
    under ``torch.inference_mode`` must not be written, since such tensors do not tell.
    Within the capture of a CUDA graph call this there too, so that each replay copies what the
    batch holds by then; such copies are for that graph alone. Another stream that is given copies
    waits for the one they were made on, and for the first call with them.

    Args:
        cu_seqlens, positions, visibility: as `attention` takes them.

    Returns:
        The copies, 4 or 8 bytes for each number; or what was given.
    """
    if why_unavailable("triton", cu_seqlens.device) is not None:
        return AttentionLayout(cu_seqlens, positions, visibility)
    fields = () if visibility is None else (visibility.step, visibility.reach, visibility.group)
    own_cu_seqlens, own_positions, *own_fields = _copy_layout([cu_seqlens, positions, *fields])
    return AttentionLayout(
        cu_seqlens=own_cu_seqlens,
        positions=own_positions,
        visibility=Visibility(*own_fields) if own_fields else None,
    )


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a backend has prepared for one layout, by keys of its own.

    Args:
        others: the tensors that were copied along with ``cu_seqlens``.
        versions: how often ``cu_seqlens`` and then each of them had been written.
        in_capture: whether they hold nothing until a CUDA graph is replayed.
    """

    others: tuple[Tensor, ...]
    versions: tuple[int, ...]
    in_capture: bool
    found: dict[Any, Any] = field(default_factory=dict)


# An entry lives as long as its cu_seqlens, which nothing in it refers to.
_prepared: MutableMapping[Tensor, Prepared] = WeakTensorKeyDictionary()


def prepared_for(cu_seqlens: Tensor, others: Sequence[Tensor | None]) -> Prepared | None:
    """What was prepared for these tensors of one `attention_layout`; None if they are not as made.

    Args:
        others: positions, then step, reach and group.
    """
    entry = _prepared.get(cu_seqlens)
    given = [x for x in others if x is not None]
    if entry is None or len(entry.others) != len(given):
        return None
    is_same = all(mine is other for mine, other in zip(entry.others, given, strict=True))
    return entry if is_same and entry.versions == _versions(cu_seqlens, *given) else None


def _versions(*tensors: Tensor) -> tuple[int, ...]:
    """How often each was written; tensors of inference mode do not count."""
    return tuple(0 if x.is_inference() else x._version for x in tensors)


def is_capturing(device: torch.device) -> bool:
    """Whether operations on a device are recorded in a CUDA graph instead of run."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


# An operator, so that torch.compile leaves it alone: it runs in every pass and its results are
# tensors of their own.
@torch.library.custom_op("seqmlm_kernels::copy_layout", mutates_args=())
def _copy_layout(sources: list[Tensor]) -> list[Tensor]:
    copies = [x.clone(memory_format=torch.contiguous_format) for x in sources]
    _prepared[copies[0]] = Prepared(
        tuple(copies[1:]), _versions(*copies), is_capturing(copies[0].device)
    )
    return copies


@_copy_layout.register_fake
def _(sources: list[Tensor]) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in sources]
