"""Kernels of the masked softmax of given scores: rows of any length."""

# M rows, V ids, R allowed sets

from __future__ import annotations

import triton
import triton.language as tl

from seqmlm_kernels.triton.vocabulary import (
    LOG2_E,
    add_to_softmax,
    load_set_offsets,
    membership,
)


@triton.jit
def load_row_tile(scores_ptr, rows, ids, num_rows, vocabulary_size):
    """Values [BLOCK_M, BLOCK_V] in fp32, and which of them exist."""
    exists = (rows < num_rows)[:, None] & (ids < vocabulary_size)[None, :]
    pointers = scores_ptr + rows.to(tl.int64)[:, None] * vocabulary_size + ids[None, :]
    return tl.load(pointers, mask=exists, other=0.0).to(tl.float32), exists


@triton.jit
def row_statistics(
    scores_ptr,
    words_ptr,
    set_offsets,
    rows,
    num_rows,
    vocabulary_size,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    SETS: tl.constexpr,
):
    """Maximum of the allowed scores and sum of their exponentials, in base 2: [BLOCK_M] each."""
    maximum = tl.full((BLOCK_M,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    for start in range(0, vocabulary_size, BLOCK_V):
        ids = start + tl.arange(0, BLOCK_V)
        scores, _ = load_row_tile(scores_ptr, rows, ids, num_rows, vocabulary_size)
        is_member = membership(words_ptr, set_offsets, ids, vocabulary_size, SETS)
        maximum, total = add_to_softmax(maximum, total, scores, is_member)
    return maximum, total


@triton.jit(do_not_specialize=("num_rows", "num_sets"))
def softmax_kernel(
    scores_ptr,
    words_ptr,
    set_index_ptr,
    output_ptr,
    num_rows,
    vocabulary_size,
    num_sets,
    num_words,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    SETS: tl.constexpr,
):
    """Probabilities of each row: one pass for the sum, one to write."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    set_offsets, is_row = load_set_offsets(set_index_ptr, rows, num_rows, num_sets, num_words, SETS)
    maximum, total = row_statistics(
        scores_ptr, words_ptr, set_offsets, rows, num_rows, vocabulary_size, BLOCK_M, BLOCK_V, SETS
    )
    has_ids = is_row & (total != 0.0)
    maximum = tl.where(has_ids, maximum, 0.0)
    total = tl.where(has_ids, total, 1.0)
    for start in range(0, vocabulary_size, BLOCK_V):
        ids = start + tl.arange(0, BLOCK_V)
        scores, exists = load_row_tile(scores_ptr, rows, ids, num_rows, vocabulary_size)
        is_member = membership(words_ptr, set_offsets, ids, vocabulary_size, SETS)
        is_member &= has_ids[:, None]
        probabilities = tl.exp2(scores * LOG2_E - maximum[:, None]) / total[:, None]
        pointers = output_ptr + rows.to(tl.int64)[:, None] * vocabulary_size + ids[None, :]
        tl.store(pointers, tl.where(is_member, probabilities, 0.0), mask=exists)


@triton.jit(do_not_specialize=("num_rows", "num_sets"))
def softmax_gradient_kernel(
    probabilities_ptr,
    gradient_ptr,
    words_ptr,
    set_index_ptr,
    output_ptr,
    num_rows,
    vocabulary_size,
    num_sets,
    num_words,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    SETS: tl.constexpr,
):
    """Gradient of the scores: one pass for the mean gradient, one to write."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    set_offsets, is_row = load_set_offsets(set_index_ptr, rows, num_rows, num_sets, num_words, SETS)
    mean = tl.zeros((BLOCK_M,), dtype=tl.float32)
    for start in range(0, vocabulary_size, BLOCK_V):
        ids = start + tl.arange(0, BLOCK_V)
        probabilities, _ = load_row_tile(probabilities_ptr, rows, ids, num_rows, vocabulary_size)
        gradient, _ = load_row_tile(gradient_ptr, rows, ids, num_rows, vocabulary_size)
        # Chosen, not multiplied by zero: the gradient may be infinite where nothing is allowed.
        is_member = membership(words_ptr, set_offsets, ids, vocabulary_size, SETS)
        gradient = tl.where(is_member & is_row[:, None], gradient, 0.0)
        mean += tl.sum(probabilities * gradient, axis=1)
    for start in range(0, vocabulary_size, BLOCK_V):
        ids = start + tl.arange(0, BLOCK_V)
        probabilities, exists = load_row_tile(
            probabilities_ptr, rows, ids, num_rows, vocabulary_size
        )
        gradient, _ = load_row_tile(gradient_ptr, rows, ids, num_rows, vocabulary_size)
        is_member = membership(words_ptr, set_offsets, ids, vocabulary_size, SETS)
        is_member &= is_row[:, None]
        gradient = tl.where(is_member, gradient, 0.0)
        score_gradients = probabilities * (gradient - mean[:, None])
        pointers = output_ptr + rows.to(tl.int64)[:, None] * vocabulary_size + ids[None, :]
        tl.store(pointers, tl.where(is_member, score_gradients, 0.0), mask=exists)
