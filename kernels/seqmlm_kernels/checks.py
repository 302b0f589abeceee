"""Argument checks of the public functions: what was given, what is allowed.

Types, shapes, dtypes and devices are checked everywhere. Values are checked on the CPU only,
because reading one from a GPU would make the host wait for it, unless ``SEQMLM_CHECK=1`` asks.
"""

# T tokens, B sequences, H heads, D head dimension, E hidden size, V vocabulary, M predictions,
# R allowed sets

from __future__ import annotations

import math
import os
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor

from seqmlm_kernels.allowed import AllowedRange, AllowedSets
from seqmlm_kernels.dispatch import AttentionBackward
from seqmlm_kernels.visibility import Visibility

_INTEGERS = (torch.int32, torch.int64)
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_LARGEST_INT32 = 2**31 - 1
_LARGEST_INT64 = 2**63 - 1


def check_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    visibility: Visibility | None,
    positions: Tensor | None,
    window: int | None,
    scale: float | None,
    backward: str,
) -> None:
    """Raise TypeError or ValueError where an argument of attention cannot be used."""
    _floating("q", q, "[tokens, heads, head_dim]", 3)
    _floating("k", k, "[tokens, kv_heads, head_dim]", 3)
    tokens, heads, head_dim = q.shape
    if heads < 1 or head_dim < 1:
        raise ValueError(
            f"q has shape {tuple(q.shape)}; it must have at least one head and head_dim at least 1."
        )
    if k.shape[0] != tokens or k.shape[2] != head_dim:
        raise ValueError(
            f"k has shape {tuple(k.shape)}; for q of shape {tuple(q.shape)} it must be "
            f"[{tokens}, kv_heads, {head_dim}]."
        )
    if k.shape[1] == 0 or heads % k.shape[1] != 0:
        raise ValueError(
            f"k has {k.shape[1]} heads; q has {heads}, which must be a multiple of it."
        )
    _floating("v", v, "[tokens, kv_heads, head_dim]", 3)
    _shape("v", v, tuple(k.shape))
    _same_dtype(q=q, k=k, v=v)
    _integer("cu_seqlens", cu_seqlens)
    _same_device(q, k=k, v=v, cu_seqlens=cu_seqlens)
    _not_negative("max_seqlen", max_seqlen)
    _cu_seqlens(cu_seqlens, tokens, max_seqlen)
    if visibility is not None:
        if not isinstance(visibility, Visibility):
            raise TypeError(
                f"visibility is {_kind(visibility)}; it must be a seqmlm_kernels.Visibility or "
                "None."
            )
        _shape("visibility.step", visibility.step, (tokens,))
        _same_device(q, visibility=visibility.step)
    if positions is not None:
        _integer("positions", positions)
        _shape("positions", positions, (tokens,))
        _same_device(q, positions=positions)
    if window is not None:
        _not_negative("window", window, ", or None for no window")
        if positions is not None:
            _distances(positions)
    if scale is not None:
        _number("scale", scale)
    if backward not in get_args(AttentionBackward):
        allowed = " or ".join(repr(choice) for choice in get_args(AttentionBackward))
        raise ValueError(f"backward is {backward!r}; it must be {allowed}.")


def check_projection(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, rows: Tensor) -> None:
    """Raise where hidden states, projection or the rows chosen from them cannot be used."""
    _floating("hidden", hidden, "[tokens, hidden_size]", 2)
    _floating("weight", weight, "[vocabulary, hidden_size]", 2)
    if hidden.shape[1] == 0:
        raise ValueError(f"hidden has shape {tuple(hidden.shape)}; hidden_size must be at least 1.")
    if weight.shape[0] == 0 or weight.shape[1] != hidden.shape[1]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; for hidden of shape {tuple(hidden.shape)} "
            f"it must be [vocabulary, {hidden.shape[1]}] with at least one id."
        )
    _same_dtype(hidden=hidden, weight=weight)
    _integer("rows", rows)
    _same_device(hidden, weight=weight, rows=rows)
    if bias is not None:
        _floating("bias", bias, "[vocabulary]", 1)
        _shape("bias", bias, (weight.shape[0],))
        _same_dtype(hidden=hidden, bias=bias)
        _same_device(hidden, bias=bias)
    if rows.ndim != 1:
        raise ValueError(f"rows has shape {tuple(rows.shape)}; it must be [predictions].")
    _indices("rows", rows, len(hidden))


def check_ids(name: str, ids: Tensor, *, rows: Tensor, vocabulary_size: int) -> None:
    """Raise where ``ids`` are not one (or, for [M, K], several) per row of the vocabulary."""
    _integer(name, ids)
    if ids.ndim not in (1, 2) or len(ids) != len(rows) or (name == "targets" and ids.ndim != 1):
        shapes = f"[{len(rows)}]" if name == "targets" else f"[{len(rows)}] or [{len(rows)}, n]"
        raise ValueError(
            f"{name} has shape {tuple(ids.shape)}; for these rows it must be {shapes}."
        )
    _same_device(rows, **{name: ids})
    _indices(name, ids, vocabulary_size)


def check_scores(scores: Tensor) -> None:
    """Raise where ``scores`` are not floating [M, V] of at least one id."""
    _floating("scores", scores, "[predictions, vocabulary]", 2)
    if scores.shape[1] == 0:
        raise ValueError(
            f"scores has shape {tuple(scores.shape)}; the vocabulary must have at least one id."
        )


def check_k(k: int, vocabulary_size: int) -> None:
    """Raise where the number of best ids is not one of 1 to V."""
    _int("k", k)
    if not 1 <= k <= vocabulary_size:
        raise ValueError(f"k is {k}; it must be from 1 to the {vocabulary_size} ids of weight.")


def checked_sets(
    allowed: Tensor, allowed_index: Tensor | None, *, predictions: int, like: Tensor, size: int
) -> AllowedSets:
    """Return the allowed sets for ``predictions`` over ``size`` ids, or raise.

    Args:
        like: a tensor on the device where the others must be.
    """
    num_words = -(-size // 32)
    _tensor("allowed", allowed)
    if allowed.dtype != torch.int32:
        raise TypeError(f"allowed is {allowed.dtype}; it must be torch.int32, 32 ids a word.")
    if allowed.ndim != 2 or len(allowed) == 0 or allowed.shape[1] != num_words:
        raise ValueError(
            f"allowed has shape {tuple(allowed.shape)}; for a vocabulary of {size} it must be "
            f"[sets, {num_words}] with at least one set."
        )
    _same_device(like, allowed=allowed)
    if allowed_index is None:
        if len(allowed) != 1:
            raise ValueError(
                f"allowed holds {len(allowed)} sets and allowed_index is None; pass the set of "
                f"each of the {predictions} predictions as allowed_index."
            )
        return AllowedSets(allowed, None)
    _integer("allowed_index", allowed_index)
    _shape("allowed_index", allowed_index, (predictions,))
    _same_device(like, allowed_index=allowed_index)
    _indices("allowed_index", allowed_index, len(allowed))
    return AllowedSets(allowed, None if len(allowed) == 1 else allowed_index)


def check_targets_inside(targets: Tensor, inside: Tensor, allowed: AllowedRange) -> None:
    """Raise at the first target outside the range of ids that are allowed."""
    if not _values_are_checked(targets) or inside.all():
        return
    first = int((~inside).nonzero()[0])
    raise ValueError(
        f"targets[{first}] is {int(targets[first])}; allowed is the range "
        f"({allowed.first}, {allowed.stop}), which every target must be in "
        f"({int((~inside).sum())} of {len(targets)} are not)."
    )


def check_targets_allowed(targets: Tensor, sets: AllowedSets, *, size: int) -> None:
    """Raise at the first target outside its set; a prediction with an empty set has none."""
    if not _values_are_checked(targets):
        return
    outside = ~sets.contain(targets)
    if not outside.any():
        return
    outside &= sets.per_prediction(sets.unpack(size).any(-1))
    if not outside.any():
        return
    first = int(outside.nonzero()[0])
    which = 0 if sets.index is None else int(sets.index[first])
    raise ValueError(
        f"targets[{first}] is {int(targets[first])}, which allowed[{which}] does not contain; a "
        f"target must be in its allowed set ({int(outside.sum())} of {len(targets)} are not)."
    )


def check_rotary(q: Tensor, k: Tensor, positions: Tensor) -> None:
    """Raise where the arguments of rotary cannot be used."""
    _floating("q", q, "[tokens, heads, head_dim]", 3)
    _floating("k", k, "[tokens, kv_heads, head_dim]", 3)
    if k.shape[0] != q.shape[0] or k.shape[2] != q.shape[2]:
        raise ValueError(
            f"k has shape {tuple(k.shape)}; for q of shape {tuple(q.shape)} it must be "
            f"[{q.shape[0]}, kv_heads, {q.shape[2]}]."
        )
    _even("head_dim of q", q.shape[2])
    _integer("positions", positions)
    _shape("positions", positions, (q.shape[0],))
    _same_device(q, k=k, positions=positions)


def check_rotary_table(q: Tensor, table: Tensor) -> None:
    """Raise where a table was not made for the tokens and the head dimension of ``q``."""
    _floating("table", table, "[2, tokens, head_dim]", 3)
    _shape("table", table, (2, q.shape[0], q.shape[2]))
    _same_device(q, table=table)


def check_angles(positions: Tensor, head_dim: int, base: float) -> None:
    """Raise where the arguments of rotary_table cannot be used."""
    _integer("positions", positions)
    if positions.ndim != 1:
        raise ValueError(f"positions has shape {tuple(positions.shape)}; it must be [tokens].")
    _int("head_dim", head_dim)
    _even("head_dim", head_dim)
    _number("base", base)
    if base <= 0:
        raise ValueError(f"base is {base}; it must be positive.")


def _cu_seqlens(cu_seqlens: Tensor, tokens: int, max_seqlen: int) -> None:
    if cu_seqlens.ndim != 1 or len(cu_seqlens) < 1:
        raise ValueError(
            f"cu_seqlens has shape {tuple(cu_seqlens.shape)}; it must be [sequences + 1]."
        )
    if len(cu_seqlens) == 1 and tokens > 0:
        raise ValueError(
            f"cu_seqlens has shape (1,), which is no sequence; for the {tokens} tokens of q it "
            "must be [sequences + 1] and end with their number."
        )
    if not _values_are_checked(cu_seqlens):
        return
    boundaries = cu_seqlens.tolist()
    if boundaries[0] != 0 or boundaries[-1] != tokens:
        raise ValueError(
            f"cu_seqlens runs from {boundaries[0]} to {boundaries[-1]}; it must run from 0 to the "
            f"{tokens} tokens of q."
        )
    longest = 0
    for index, (start, stop) in enumerate(pairwise(boundaries)):
        if stop < start:
            raise ValueError(
                f"cu_seqlens falls from {start} to {stop} at index {index + 1}; it must not fall."
            )
        longest = max(longest, stop - start)
    if longest > max_seqlen:
        raise ValueError(
            f"max_seqlen is {max_seqlen}; the longest sequence of cu_seqlens has {longest} tokens."
        )


def _distances(positions: Tensor) -> None:
    """Positions whose differences backends compute in int32."""
    if not _values_are_checked(positions) or positions.numel() == 0:
        return
    lowest, highest = (int(value) for value in positions.aminmax())
    is_int32 = lowest >= -_LARGEST_INT32 - 1 and highest <= _LARGEST_INT32
    if not is_int32 or highest - lowest > _LARGEST_INT32:
        raise ValueError(
            f"positions runs from {lowest} to {highest}; with a window its numbers must fit in "
            "int32 and lie less than 2**31 apart."
        )


def _values_are_checked(tensor: Tensor) -> bool:
    """Not while a graph is traced, where there are none, nor on a GPU, where the host would wait.

    ``SEQMLM_CHECK=1`` in the environment makes it wait, except within the capture of a CUDA graph.
    """
    if torch.compiler.is_compiling():
        return False
    if tensor.device.type == "cpu":
        return True
    if os.environ.get("SEQMLM_CHECK", "0") != "1":
        return False
    return tensor.device.type != "cuda" or not torch.cuda.is_current_stream_capturing()


def _even(name: str, head_dim: int) -> None:
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"{name} is {head_dim}; rotary turns pairs, so it must be even.")


def _kind(value: object) -> str:
    """How a message names a value of a wrong type: a number as it is, anything else by type."""
    return f"{value!r}" if isinstance(value, (bool, int, float, str)) else type(value).__name__


def _int(name: str, value: int, otherwise: str = "") -> None:
    """An int, or what torch.compile puts in its place; numbers of numpy and bools are neither."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{name} is {_kind(value)}; it must be an int{otherwise}.")


def _not_negative(name: str, value: int, otherwise: str = "") -> None:
    _int(name, value, otherwise)
    if value < 0 or value > _LARGEST_INT64:
        raise ValueError(
            f"{name} is {value}; it must be at least 0 and less than 2**63{otherwise}."
        )


def _number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"{name} is {_kind(value)}; it must be a float.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; it must be finite.")


def _tensor(name: str, tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} is {_kind(tensor)}; it must be a torch.Tensor.")
    if tensor.is_meta:
        raise ValueError(
            f"{name} is on meta, where tensors hold no values; it must be on a CPU or a GPU."
        )
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} has layout {tensor.layout}; it must be torch.strided.")


def _floating(name: str, tensor: Tensor, legend: str, ndim: int) -> None:
    _tensor(name, tensor)
    if tensor.dtype not in _FLOATING:
        raise TypeError(
            f"{name} is {tensor.dtype}; it must be floating point, of 64, 32 or 16 bits."
        )
    if tensor.ndim != ndim:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be {legend}.")


def _integer(name: str, tensor: Tensor) -> None:
    _tensor(name, tensor)
    if tensor.dtype not in _INTEGERS:
        raise TypeError(f"{name} is {tensor.dtype}; it must be torch.int32 or torch.int64.")


def _shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be {list(expected)}.")


def _same_dtype(**tensors: Tensor) -> None:
    """The tensors must have one dtype; under autocast, which leaves fp64 alone, after its cast."""
    (first_name, first), *others = tensors.items()
    is_cast = torch.is_autocast_enabled(first.device.type)
    for name, tensor in others:
        if tensor.dtype == first.dtype:
            continue
        if not is_cast:
            raise TypeError(
                f"{name} is {tensor.dtype} and {first_name} is {first.dtype}; they must be alike "
                "outside torch.autocast."
            )
        if torch.float64 in (tensor.dtype, first.dtype):
            raise TypeError(
                f"{name} is {tensor.dtype} and {first_name} is {first.dtype}; torch.autocast does "
                "not cast torch.float64, so all must have it or none."
            )


def _same_device(like: Tensor, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.device != like.device:
            raise ValueError(f"{name} is on {tensor.device}; it must be on {like.device}.")


def _indices(name: str, indices: Tensor, size: int) -> None:
    """Integers in [0, size); the range is checked on the CPU."""
    _integer(name, indices)
    if not _values_are_checked(indices) or indices.numel() == 0:
        return
    lowest, highest = (int(value) for value in indices.aminmax())
    if lowest < 0 or highest >= size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"{name} contains {wrong}; it must be in [0, {size}).")
