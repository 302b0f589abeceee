"""Argument checks of the public functions: what was given, what is allowed.

Shapes, dtypes and devices are checked everywhere. Values are checked on the CPU only, because
reading one from a GPU would make the host wait for it.
"""

# T tokens, B sequences, H heads, D head dimension, E hidden size, V vocabulary, M predictions,
# R allowed sets

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.visibility import Visibility

_INTEGERS = (torch.int32, torch.int64)


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
) -> None:
    """Raise TypeError or ValueError where an argument of attention cannot be used."""
    _floating("q", q, "[tokens, heads, head_dim]", 3)
    _floating("k", k, "[tokens, kv_heads, head_dim]", 3)
    tokens, heads, head_dim = q.shape
    if k.shape[0] != tokens or k.shape[2] != head_dim:
        raise ValueError(
            f"k has shape {tuple(k.shape)}; for q of shape {tuple(q.shape)} it must be "
            f"[{tokens}, kv_heads, {head_dim}]."
        )
    if k.shape[1] == 0 or heads % k.shape[1] != 0:
        raise ValueError(
            f"k has {k.shape[1]} heads; q has {heads}, which must be a multiple of it."
        )
    _shape("v", v, tuple(k.shape))
    _same_dtype(q=q, k=k, v=v)
    _same_device(q, k=k, v=v, cu_seqlens=cu_seqlens)
    _cu_seqlens(cu_seqlens, tokens, max_seqlen)
    if visibility is not None:
        _shape("visibility.step", visibility.step, (tokens,))
        _same_device(q, visibility=visibility.step)
    if positions is not None:
        _integer("positions", positions)
        _shape("positions", positions, (tokens,))
        _same_device(q, positions=positions)
    if window is not None and window < 0:
        raise ValueError(f"window is {window}; it must be at least 0, or None for no window.")


def check_projection(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, rows: Tensor) -> None:
    """Raise where hidden states, projection or the rows chosen from them cannot be used."""
    _floating("hidden", hidden, "[tokens, hidden_size]", 2)
    _floating("weight", weight, "[vocabulary, hidden_size]", 2)
    if weight.shape[0] == 0 or weight.shape[1] != hidden.shape[1]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; for hidden of shape {tuple(hidden.shape)} "
            f"it must be [vocabulary, {hidden.shape[1]}] with at least one id."
        )
    _same_dtype(hidden=hidden, weight=weight)
    _same_device(hidden, weight=weight, rows=rows)
    if bias is not None:
        _shape("bias", bias, (weight.shape[0],))
        _same_dtype(hidden=hidden, bias=bias)
        _same_device(hidden, bias=bias)
    if rows.ndim != 1:
        raise ValueError(f"rows has shape {tuple(rows.shape)}; it must be [predictions].")
    _indices("rows", rows, len(hidden))


def check_ids(name: str, ids: Tensor, *, rows: Tensor, vocabulary_size: int) -> None:
    """Raise where ``ids`` are not one (or, for [M, K], several) per row of the vocabulary."""
    if ids.ndim not in (1, 2) or len(ids) != len(rows) or (name == "targets" and ids.ndim != 1):
        shapes = f"[{len(rows)}]" if name == "targets" else f"[{len(rows)}] or [{len(rows)}, n]"
        raise ValueError(
            f"{name} has shape {tuple(ids.shape)}; for these rows it must be {shapes}."
        )
    _same_device(rows, **{name: ids})
    _indices(name, ids, vocabulary_size)


def check_scores(scores: Tensor) -> None:
    """Raise where ``scores`` are not floating [M, V]."""
    _floating("scores", scores, "[predictions, vocabulary]", 2)


def checked_sets(
    allowed: Tensor, allowed_index: Tensor | None, *, predictions: int, like: Tensor, size: int
) -> AllowedSets:
    """Return the allowed sets for ``predictions`` over ``size`` ids, or raise.

    Args:
        like: a tensor on the device where the others must be.
    """
    num_words = -(-size // 32)
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
    _shape("allowed_index", allowed_index, (predictions,))
    _same_device(like, allowed_index=allowed_index)
    _indices("allowed_index", allowed_index, len(allowed))
    return AllowedSets(allowed, None if len(allowed) == 1 else allowed_index)


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
    _even("head_dim", head_dim)
    if base <= 0:
        raise ValueError(f"base is {base}; it must be positive.")


def _cu_seqlens(cu_seqlens: Tensor, tokens: int, max_seqlen: int) -> None:
    _integer("cu_seqlens", cu_seqlens)
    if cu_seqlens.ndim != 1 or len(cu_seqlens) < 1:
        raise ValueError(
            f"cu_seqlens has shape {tuple(cu_seqlens.shape)}; it must be [sequences + 1]."
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


def _values_are_checked(tensor: Tensor) -> bool:
    """Not on a GPU, where the host would wait, and not while a graph is traced: none are there."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _even(name: str, head_dim: int) -> None:
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"{name} is {head_dim}; rotary turns pairs, so it must be even.")


def _floating(name: str, tensor: Tensor, legend: str, ndim: int) -> None:
    if not tensor.dtype.is_floating_point:
        raise TypeError(f"{name} is {tensor.dtype}; it must be floating point.")
    if tensor.ndim != ndim:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be {legend}.")


def _integer(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in _INTEGERS:
        raise TypeError(f"{name} is {tensor.dtype}; it must be torch.int32 or torch.int64.")


def _shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be {list(expected)}.")


def _same_dtype(**tensors: Tensor) -> None:
    """Outside autocast, which casts them alike, the tensors must have one dtype."""
    (first_name, first), *others = tensors.items()
    if torch.is_autocast_enabled(first.device.type):
        return
    for name, tensor in others:
        if tensor.dtype != first.dtype:
            raise TypeError(
                f"{name} is {tensor.dtype} and {first_name} is {first.dtype}; they must be alike "
                "outside torch.autocast."
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
