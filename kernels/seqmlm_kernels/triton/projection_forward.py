"""Loss and log-normaliser of each prediction, from partial sums over parts of the vocabulary."""

# M predictions, V vocabulary, E hidden size, R allowed sets

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from seqmlm_kernels.triton.active_tiles import ActiveTiles, find_active_tiles
from seqmlm_kernels.triton.launch import input_precision_of, must_upcast
from seqmlm_kernels.triton.projection_plan import ProjectionPlan
from seqmlm_kernels.triton.vocabulary import (
    add_to_softmax,
    contains,
    kept_scores,
    load_rows,
    load_set_offsets,
    may_hold_member,
    merge_softmax,
    project,
    store_loss,
    tile_membership,
)
from seqmlm_kernels.triton.waves import ceil_div

COMBINED_PREDICTIONS = 128


@dataclass(frozen=True, eq=False)
class Projection:
    """Checked, contiguous arguments of a projection onto the vocabulary.

    Args:
        hidden: [T, E].
        weight: [V, E].
        bias: [V] or None.
        rows: [M].
        words: [R, ceil(V / 32)] or None.
        set_index: [M] or None.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    rows: Tensor
    words: Tensor | None
    set_index: Tensor | None

    @property
    def sets(self) -> str:
        """Value of the constexpr SETS."""
        if self.words is None:
            return "every"
        return "shared" if self.set_index is None else "indexed"

    @property
    def precision(self) -> str:
        """How matrix products round fp32 inputs."""
        return input_precision_of(self.hidden.dtype)

    @property
    def upcast(self) -> bool:
        """Whether values are cast to fp32 when they are loaded."""
        return must_upcast(self.hidden.dtype)

    def chunk(self, predictions: slice) -> Projection:
        """The same for some of the predictions."""
        index = None if self.set_index is None else self.set_index[predictions]
        return Projection(
            self.hidden, self.weight, self.bias, self.rows[predictions], self.words, index
        )

    def active_tiles(self, tile: int) -> ActiveTiles | None:
        """Vocabulary tiles worth visiting, or None when that is all of them."""
        if self.words is None or len(self.weight) <= tile:
            return None
        return find_active_tiles(self.words, len(self.weight), tile)

    def pointers(self) -> dict[str, Tensor]:
        """Pointer arguments that every kernel over the projection has; absent ones dangle."""
        return {
            "hidden_ptr": self.hidden,
            "weight_ptr": self.weight,
            "bias_ptr": self.weight if self.bias is None else self.bias,
            "rows_ptr": self.rows,
            "words_ptr": self.rows if self.words is None else self.words,
            "set_index_ptr": self.rows if self.set_index is None else self.set_index,
        }

    def sizes(self) -> dict[str, int]:
        """Integer arguments that every kernel over the projection has."""
        return {
            "num_predictions": len(self.rows),
            "vocabulary_size": len(self.weight),
            "hidden_size": self.hidden.shape[1],
            "num_tokens": len(self.hidden),
            "num_sets": 1 if self.words is None else len(self.words),
            "num_words": 1 if self.words is None else self.words.shape[1],
        }


@triton.jit(do_not_specialize=("num_predictions", "num_tokens", "num_sets", "num_splits"))
def statistics_kernel(
    hidden_ptr,
    weight_ptr,
    bias_ptr,
    rows_ptr,
    words_ptr,
    set_index_ptr,
    targets_ptr,
    tile_order_ptr,
    tiles_before_ptr,
    scores_ptr,
    partial_ptr,
    loss_ptr,
    log_normaliser_ptr,
    rejected_ptr,
    num_predictions,
    vocabulary_size,
    hidden_size,
    num_tokens,
    num_sets,
    num_words,
    num_splits,
    score_stride,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_E: tl.constexpr,
    EVEN_E: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    SETS: tl.constexpr,
    SKIPS_TILES: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    KEEPS_SCORES: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Maximum, sum and target score of a tile of predictions over a part of the vocabulary."""
    split = tl.program_id(1)
    predictions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    rows, is_row = load_rows(rows_ptr, predictions, num_predictions, num_tokens)
    set_offsets, is_set = load_set_offsets(
        set_index_ptr, predictions, num_predictions, num_sets, num_words, SETS
    )
    is_prediction = is_row & is_set
    targets = tl.load(targets_ptr + predictions, mask=predictions < num_predictions, other=-1)
    hidden_offsets = rows * hidden_size

    maximum = tl.full((BLOCK_M,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    target_scores = tl.zeros((BLOCK_M,), dtype=tl.float32)
    num_tiles = tl.cdiv(vocabulary_size, BLOCK_V)
    if SKIPS_TILES:
        num_tiles = tl.load(tiles_before_ptr + num_tiles)
    tiles_per_split = tl.cdiv(num_tiles, num_splits)
    first = split * tiles_per_split
    for position in range(first, tl.minimum(first + tiles_per_split, num_tiles)):
        tile = tl.load(tile_order_ptr + position) if SKIPS_TILES else position
        ids = tile * BLOCK_V + tl.arange(0, BLOCK_V)
        # Another tile of predictions may have a set that allows what none of these does.
        if may_hold_member(words_ptr, set_offsets, tile, num_words, BLOCK_V, SETS):
            scores = project(
                hidden_ptr, hidden_offsets, weight_ptr, bias_ptr, ids, vocabulary_size, hidden_size,
                BLOCK_M, BLOCK_V, BLOCK_E, EVEN_E, HAS_BIAS, PRECISION, UPCAST,
            )  # fmt: skip
            if KEEPS_SCORES:
                pointers, exists = kept_scores(
                    scores_ptr, predictions, ids, num_predictions, score_stride
                )
                tl.store(pointers, scores, mask=exists)
            is_member = tile_membership(
                words_ptr, set_offsets, tile, vocabulary_size, num_words, BLOCK_M, BLOCK_V, SETS
            )
            maximum, total = add_to_softmax(maximum, total, scores, is_member)
            # A 64-bit target that does not fit is dropped at the end: no set contains it.
            is_target = (targets.to(tl.int32)[:, None] == ids[None, :]) & is_member
            target_scores += tl.sum(tl.where(is_target, scores, 0.0), axis=1)

    inside = predictions < num_predictions
    if IS_SPLIT:
        partial_ptr += split.to(tl.int64) * 3 * num_predictions + predictions
        tl.store(partial_ptr, maximum, mask=inside)
        tl.store(partial_ptr + num_predictions, total, mask=inside)
        tl.store(partial_ptr + 2 * num_predictions, target_scores, mask=inside)
    else:
        has_target = contains(words_ptr, set_offsets, targets, is_prediction, vocabulary_size, SETS)
        store_loss(
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
        )


@triton.jit(do_not_specialize=("num_predictions", "num_tokens", "num_sets", "num_splits"))
def combine_kernel(
    rows_ptr,
    words_ptr,
    set_index_ptr,
    targets_ptr,
    partial_ptr,
    loss_ptr,
    log_normaliser_ptr,
    rejected_ptr,
    num_predictions,
    vocabulary_size,
    num_tokens,
    num_sets,
    num_words,
    num_splits,
    BLOCK_M: tl.constexpr,
    SETS: tl.constexpr,
):
    """Merge the parts of each prediction, in their order."""
    predictions = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = predictions < num_predictions
    _, is_row = load_rows(rows_ptr, predictions, num_predictions, num_tokens)
    set_offsets, is_set = load_set_offsets(
        set_index_ptr, predictions, num_predictions, num_sets, num_words, SETS
    )
    is_prediction = is_row & is_set
    targets = tl.load(targets_ptr + predictions, mask=inside, other=-1)
    maximum = tl.full((BLOCK_M,), -float("inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    target_scores = tl.zeros((BLOCK_M,), dtype=tl.float32)
    partial_ptr += predictions
    for _ in range(num_splits):
        part_maximum = tl.load(partial_ptr, mask=inside, other=-float("inf"))
        part_total = tl.load(partial_ptr + num_predictions, mask=inside, other=0.0)
        part_score = tl.load(partial_ptr + 2 * num_predictions, mask=inside, other=0.0)
        maximum, total = merge_softmax(maximum, total, part_maximum, part_total)
        target_scores += part_score
        partial_ptr += 3 * num_predictions
    has_target = contains(words_ptr, set_offsets, targets, is_prediction, vocabulary_size, SETS)
    store_loss(
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
    )


def forward(
    plan: ProjectionPlan,
    projection: Projection,
    targets: Tensor,
    rejected: Tensor,
    scores: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Loss and log-normaliser [M] in fp32.

    Args:
        targets: [M].
        rejected: [1] int64, to which the number of targets that cannot be scored is added.
        scores: [M, stride] in fp32, written where an id of a tile may be predicted; None to keep
            no scores.
    """
    num_predictions = len(projection.rows)
    device = projection.hidden.device
    loss = torch.empty(num_predictions, dtype=torch.float32, device=device)
    log_normaliser = torch.empty(num_predictions, dtype=torch.float32, device=device)
    tiles, num_splits = plan.scores, plan.vocabulary_splits
    active = projection.active_tiles(tiles.vocabulary)
    is_split = num_splits > 1
    partial = loss
    if is_split:
        partial = torch.empty((num_splits, 3, num_predictions), dtype=torch.float32, device=device)
    outputs: dict[str, Any] = {
        "targets_ptr": targets,
        "partial_ptr": partial,
        "loss_ptr": loss,
        "log_normaliser_ptr": log_normaliser,
        "rejected_ptr": rejected,
        "num_splits": num_splits,
        "SETS": projection.sets,
    }
    statistics_kernel[ceil_div(num_predictions, tiles.predictions), num_splits](
        **projection.pointers(),
        **projection.sizes(),
        **outputs,
        tile_order_ptr=targets if active is None else active.order,
        tiles_before_ptr=targets if active is None else active.before,
        scores_ptr=loss if scores is None else scores,
        score_stride=0 if scores is None else scores.stride(0),
        BLOCK_M=tiles.predictions,
        BLOCK_V=tiles.vocabulary,
        BLOCK_E=tiles.hidden,
        EVEN_E=projection.hidden.shape[1] % tiles.hidden == 0,
        HAS_BIAS=projection.bias is not None,
        SKIPS_TILES=active is not None,
        IS_SPLIT=is_split,
        KEEPS_SCORES=scores is not None,
        PRECISION=projection.precision,
        UPCAST=projection.upcast,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
    )
    if is_split:
        pointers, sizes = projection.pointers(), projection.sizes()
        combine_kernel[(ceil_div(num_predictions, COMBINED_PREDICTIONS),)](
            **{name: pointers[name] for name in ("rows_ptr", "words_ptr", "set_index_ptr")},
            **{name: size for name, size in sizes.items() if name != "hidden_size"},
            **outputs,
            BLOCK_M=COMBINED_PREDICTIONS,
            num_warps=4,
        )
    return loss, log_normaliser
