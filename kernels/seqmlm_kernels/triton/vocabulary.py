"""Parts that the kernels over the vocabulary share: membership of ids, scores of a tile.

Names of the constexpr ``SETS``: "every" id is allowed; one "shared" set; one set per prediction,
"indexed".
"""

# M predictions, V vocabulary, E hidden size, R allowed sets

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def load_float(pointers, mask, MASKED: tl.constexpr, UPCAST: tl.constexpr):
    """Values under the mask and zeros elsewhere; fp32 where the interpreter needs it."""
    # The interpreter computes with the bits of a bfloat16 as if they were an integer.
    values = tl.load(pointers, mask=mask, other=0.0) if MASKED else tl.load(pointers)
    return values.to(tl.float32) if UPCAST else values


@triton.jit
def load_rows(rows_ptr, predictions, num_predictions, num_tokens):
    """Row of each prediction, and whether it is one; row 0 where it is not."""
    rows = tl.load(rows_ptr + predictions, mask=predictions < num_predictions, other=-1)
    is_row = (rows >= 0) & (rows < num_tokens)
    return tl.where(is_row, rows, 0).to(tl.int64), is_row


@triton.jit
def load_set_offsets(
    set_index_ptr, predictions, num_predictions, num_sets, num_words, SETS: tl.constexpr
):
    """First word of each prediction's set, and whether there is one."""
    if SETS == "indexed":
        sets = tl.load(set_index_ptr + predictions, mask=predictions < num_predictions, other=-1)
        is_set = (sets >= 0) & (sets < num_sets)
        return tl.where(is_set, sets, 0).to(tl.int64) * num_words, is_set
    else:
        return tl.zeros_like(predictions).to(tl.int64), predictions < num_predictions


@triton.jit
def membership(words_ptr, set_offsets, ids, vocabulary_size, SETS: tl.constexpr):
    """Whether ids may be predicted: [1, V tile], or [M tile, V tile] for indexed sets."""
    is_id = ids < vocabulary_size
    if SETS == "every":
        return is_id[None, :]
    elif SETS == "shared":
        words = tl.load(words_ptr + ids // 32, mask=is_id, other=0)
        return (((words >> (ids % 32)) & 1) != 0)[None, :]
    else:
        words = tl.load(
            words_ptr + set_offsets[:, None] + (ids // 32)[None, :], mask=is_id[None, :], other=0
        )
        return ((words >> (ids % 32)[None, :]) & 1) != 0


@triton.jit
def tile_membership(
    words_ptr,
    set_offsets,
    tile,
    vocabulary_size,
    num_words,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    SETS: tl.constexpr,
):
    """The same for one tile of the vocabulary, a multiple of 32 ids."""
    ids = tile * BLOCK_V + tl.arange(0, BLOCK_V)
    if SETS == "indexed":
        # Every word once: one load per id would keep as many addresses in registers.
        columns = tile * (BLOCK_V // 32) + tl.arange(0, BLOCK_V // 32)
        pointers = words_ptr + set_offsets[:, None] + columns[None, :]
        words = tl.load(pointers, mask=(columns < num_words)[None, :], other=0)
        bits = (words[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
        bits = tl.reshape(bits.to(tl.int8), (BLOCK_M, BLOCK_V))
        return (bits != 0) & (ids < vocabulary_size)[None, :]
    else:
        return membership(words_ptr, set_offsets, ids, vocabulary_size, SETS)


@triton.jit
def may_hold_member(
    words_ptr, set_offsets, tile, num_words, BLOCK_V: tl.constexpr, SETS: tl.constexpr
):
    """Whether any prediction's set has a bit in a tile of the vocabulary."""
    if SETS == "indexed":
        words = tile * (BLOCK_V // 32) + tl.arange(0, BLOCK_V // 32)
        pointers = words_ptr + set_offsets[:, None] + words[None, :]
        found = tl.load(pointers, mask=(words < num_words)[None, :], other=0) != 0
        return tl.max(tl.max(found.to(tl.int32), axis=1), axis=0) > 0
    else:
        return True


@triton.jit
def contains(words_ptr, set_offsets, ids, is_prediction, vocabulary_size, SETS: tl.constexpr):
    """Whether one id per prediction is in its set; an id outside the vocabulary never is."""
    is_id = is_prediction & (ids >= 0) & (ids < vocabulary_size)
    if SETS == "every":
        return is_id
    else:
        safe_ids = tl.where(is_id, ids, 0)
        words = tl.load(words_ptr + set_offsets + safe_ids // 32, mask=is_id, other=0)
        return is_id & (((words >> (safe_ids % 32)) & 1) != 0)


@triton.jit
def project(
    hidden_ptr,
    hidden_offsets,
    weight_ptr,
    bias_ptr,
    ids,
    vocabulary_size,
    hidden_size,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_E: tl.constexpr,
    EVEN_E: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Scores [BLOCK_M, BLOCK_V] in fp32 of gathered hidden states and rows of the weight.

    Past the vocabulary the last id is read again, for the membership to drop.
    """
    ids = tl.minimum(ids, vocabulary_size - 1)
    weight_offsets = ids.to(tl.int64) * hidden_size
    units = tl.arange(0, BLOCK_E)
    hidden_pointers = hidden_ptr + hidden_offsets[:, None] + units[None, :]
    weight_pointers = weight_ptr + weight_offsets[None, :] + units[:, None]
    scores = tl.zeros((BLOCK_M, BLOCK_V), dtype=tl.float32)
    for start in range(0, hidden_size, BLOCK_E):
        is_unit = units < hidden_size - start
        hidden = load_float(hidden_pointers, is_unit[None, :], not EVEN_E, UPCAST)
        weight = load_float(weight_pointers, is_unit[:, None], not EVEN_E, UPCAST)
        scores = tl.dot(hidden, weight, scores, input_precision=PRECISION)
        hidden_pointers += BLOCK_E
        weight_pointers += BLOCK_E
    if HAS_BIAS:
        scores += tl.load(bias_ptr + ids).to(tl.float32)[None, :]
    return scores


@triton.jit
def kept_scores(scores_ptr, predictions, ids, num_predictions, score_stride):
    """Pointers to the scores of a tile that the forward keeps, and which of them exist."""
    # Up to the stride, a multiple of 32: a mask by vocabulary would forbid wide loads and stores.
    exists = (predictions < num_predictions)[:, None] & (ids < score_stride)[None, :]
    return scores_ptr + predictions.to(tl.int64)[:, None] * score_stride + ids[None, :], exists


@triton.jit
def add_to_softmax(maximum, total, scores, is_member):
    """Running maximum and sum of exponentials of each row, both in base 2, one tile further."""
    scores = tl.where(is_member, scores * LOG2_E, -float("inf"))
    new_maximum = tl.maximum(maximum, tl.max(scores, axis=1))
    # A row that has met no allowed id yet: -inf - -inf would be NaN.
    reference = tl.where(new_maximum == -float("inf"), 0.0, new_maximum)
    total = total * tl.exp2(maximum - reference)
    total += tl.sum(tl.exp2(scores - reference[:, None]), axis=1)
    return new_maximum, total


@triton.jit
def merge_softmax(maximum, total, part_maximum, part_total):
    """Running maximum and sum of each row with those of another part of the vocabulary."""
    new_maximum = tl.maximum(maximum, part_maximum)
    reference = tl.where(new_maximum == -float("inf"), 0.0, new_maximum)
    total = total * tl.exp2(maximum - reference)
    total += part_total * tl.exp2(part_maximum - reference)
    return new_maximum, total


@triton.jit
def log_normaliser_of(maximum, total):
    """Natural log of a sum of exponentials in base 2; -inf for an empty sum."""
    # Not "total > 0", so that NaN goes through.
    has_ids = total != 0.0
    exponent = tl.where(has_ids, maximum, 0.0) + tl.log2(tl.where(has_ids, total, 1.0))
    return tl.where(has_ids, exponent * LN_2, -float("inf"))


@triton.jit
def store_loss(
    loss_ptr,
    log_normaliser_ptr,
    rejected_ptr,
    predictions,
    num_predictions,
    maximum,
    total,
    target_scores,
    has_target,
    is_prediction,
):
    """Loss and log-normaliser; predictions that cannot be scored are counted, not hidden."""
    inside = predictions < num_predictions
    has_ids = is_prediction & (total != 0.0)
    log_normaliser = log_normaliser_of(maximum, tl.where(is_prediction, total, 0.0))
    loss = tl.where(has_ids, log_normaliser, 0.0) - target_scores
    loss = tl.where(has_ids & has_target, loss, 0.0)
    tl.store(log_normaliser_ptr + predictions, log_normaliser, mask=inside)
    tl.store(loss_ptr + predictions, loss, mask=inside)
    rejected = inside & ((has_ids & (has_target == 0)) | (is_prediction == 0))
    num_rejected = tl.sum(rejected.to(tl.int64), axis=0)
    if num_rejected > 0:
        # An integer sum does not depend on its order: this keeps results deterministic.
        tl.atomic_add(rejected_ptr, num_rejected, sem="relaxed")


@triton.jit
def score_gradient_of_tile(
    scores,
    log_normaliser_ptr,
    loss_gradient_ptr,
    log_normaliser_gradient_ptr,
    targets_ptr,
    words_ptr,
    set_offsets,
    predictions,
    is_prediction,
    tile,
    num_predictions,
    vocabulary_size,
    num_words,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    SETS: tl.constexpr,
):
    """`score_gradient` of one tile of predictions and one of the vocabulary."""
    inside = predictions < num_predictions
    targets = tl.load(targets_ptr + predictions, mask=inside, other=-1)
    return score_gradient(
        scores,
        tl.load(log_normaliser_ptr + predictions, mask=inside, other=-float("inf")),
        tl.load(loss_gradient_ptr + predictions, mask=inside, other=0.0),
        tl.load(log_normaliser_gradient_ptr + predictions, mask=inside, other=0.0),
        targets,
        contains(words_ptr, set_offsets, targets, is_prediction, vocabulary_size, SETS),
        tile * BLOCK_V + tl.arange(0, BLOCK_V),
        tile_membership(
            words_ptr, set_offsets, tile, vocabulary_size, num_words, BLOCK_M, BLOCK_V, SETS
        ),
    )


@triton.jit
def score_gradient(
    scores,
    log_normaliser,
    loss_gradient,
    log_normaliser_gradient,
    targets,
    has_target,
    ids,
    is_member,
):
    """Gradient of the scores of a tile; exactly zero where an id is not allowed."""
    # Chosen, not multiplied by zero: what comes from above may be infinite where nothing counts.
    has_ids = log_normaliser != -float("inf")
    loss_gradient = tl.where(has_ids & has_target, loss_gradient, 0.0)
    share = tl.where(has_ids, loss_gradient + log_normaliser_gradient, 0.0)
    reference = tl.where(has_ids, log_normaliser, 0.0) * LOG2_E
    probabilities = tl.exp2(scores * LOG2_E - reference[:, None])
    gradient = probabilities * share[:, None]
    # Where a 64-bit target does not fit, it is no target and its gradient is zero already.
    is_target = targets.to(tl.int32)[:, None] == ids[None, :]
    gradient = tl.where(is_target, gradient - loss_gradient[:, None], gradient)
    return tl.where(is_member & has_ids[:, None], gradient, 0.0)
