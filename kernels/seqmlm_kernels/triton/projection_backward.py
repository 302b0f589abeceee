"""Gradients of a projection onto the vocabulary, without atomic additions.

For one chunk of predictions and one slab of the vocabulary at a time the scores, kept by the
forward or computed again, are turned into their gradient, which two products then take to the
hidden states and to the weight. Sums over slabs, chunks and splits are in fp32 and in a fixed
order. Of a small vocabulary everything is done at once, by `one_pass`.
"""

# M predictions, T tokens, V vocabulary, E hidden size

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels.triton.active_tiles import ActiveTiles
from seqmlm_kernels.triton.gradient_kernels import (
    hidden_gradient_kernel,
    score_gradient_kernel,
    weight_gradient_kernel,
)
from seqmlm_kernels.triton.one_pass import gradients_in_one_pass
from seqmlm_kernels.triton.projection_forward import Projection
from seqmlm_kernels.triton.projection_plan import ProjectionPlan
from seqmlm_kernels.triton.repeated_rows import RowChains, link_rows, sum_chains
from seqmlm_kernels.triton.waves import ceil_div


@dataclass(frozen=True, eq=False)
class Upstream:
    """What the forward kept and what comes from above.

    Args:
        targets: [M].
        log_normaliser: [M] in fp32.
        scores: [M, `score_stride`] in fp32, or None to compute them again.
        loss_gradient, log_normaliser_gradient: [M] in fp32.
    """

    targets: Tensor
    log_normaliser: Tensor
    scores: Tensor | None
    loss_gradient: Tensor
    log_normaliser_gradient: Tensor

    def pointers(self) -> dict[str, Tensor]:
        """Pointer arguments of the kernels, but for the scores."""
        return {
            "targets_ptr": self.targets,
            "log_normaliser_ptr": self.log_normaliser,
            "loss_gradient_ptr": self.loss_gradient,
            "log_normaliser_gradient_ptr": self.log_normaliser_gradient,
        }


@dataclass(frozen=True)
class Needs:
    """Which gradients are asked for."""

    hidden: bool
    weight: bool
    bias: bool


@dataclass(frozen=True)
class Gradients:
    """Gradients that were asked for, of the dtypes of their tensors."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


@dataclass(frozen=True)
class Part:
    """One chunk of predictions and one slab of vocabulary tiles."""

    predictions: slice
    first_tile: int
    num_tiles: int
    is_first_slab: bool
    is_last_slab: bool
    is_first_chunk: bool


def backward(
    plan: ProjectionPlan, projection: Projection, upstream: Upstream, needs: Needs
) -> Gradients:
    """Gradients of any combination of losses and log-normalisers; at least one is needed."""
    upstream, scale = _scaled(upstream, projection.hidden.dtype)
    if plan.one_pass is not None and upstream.scores is not None and needs.hidden and needs.weight:
        pointers = upstream.pointers() | {"scores_ptr": upstream.scores}
        found = gradients_in_one_pass(
            plan.one_pass, projection, pointers, scale, needs_bias=needs.bias
        )
        return Gradients(*found)
    run = _Backward(plan, projection, upstream, needs, scale)
    for part in parts_of(plan, len(projection.rows), len(projection.weight)):
        run.add(part)
    return run.gradients()


def parts_of(plan: ProjectionPlan, num_predictions: int, vocabulary_size: int) -> list[Part]:
    """Parts in the order in which they run: all slabs of a chunk, then the next chunk."""
    num_tiles = ceil_div(vocabulary_size, plan.scores.vocabulary)
    step = plan.slab_vocabulary // plan.scores.vocabulary
    return [
        Part(
            predictions=slice(start, min(start + plan.chunk_predictions, num_predictions)),
            first_tile=tile,
            num_tiles=min(step, num_tiles - tile),
            is_first_slab=tile == 0,
            is_last_slab=tile + step >= num_tiles,
            is_first_chunk=start == 0,
        )
        for start in range(0, num_predictions, plan.chunk_predictions)
        for tile in range(0, num_tiles, step)
    ]


@dataclass(frozen=True, eq=False)
class _Chunk:
    """What the kernels read of a chunk of predictions, sliced once for all slabs.

    Args:
        arguments: pointers and sizes that every kernel over the projection has.
        upstream: pointers to what a backward starts from, but for the scores.
        scores: as in `Upstream`, of the chunk.
        rank, hidden_sum: of the hidden gradient, where it is asked for.
    """

    projection: Projection
    arguments: dict[str, Any]
    upstream: dict[str, Tensor]
    scores: Tensor | None
    rank: Tensor | None
    hidden_sum: Tensor | None


def _scaled(upstream: Upstream, dtype: torch.dtype) -> tuple[Upstream, Tensor | None]:
    """Bring fp16 gradients near 1, where they do not underflow, by a power of two."""
    if dtype != torch.float16:
        return upstream, None
    both = torch.stack((upstream.loss_gradient, upstream.log_normaliser_gradient))
    largest = both.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    exponent = torch.frexp(largest).exponent
    # An infinite gradient stays what it is.
    exponent = torch.where(largest.isfinite(), exponent, 0)
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    scaled = both / scale
    return replace(upstream, loss_gradient=scaled[0], log_normaliser_gradient=scaled[1]), scale


class _Backward:
    """Buffers of one backward and the launches that fill them, part by part."""

    def __init__(
        self,
        plan: ProjectionPlan,
        projection: Projection,
        upstream: Upstream,
        needs: Needs,
        scale: Tensor | None,
    ) -> None:
        self._plan, self._projection, self._upstream = plan, projection, upstream
        self._scale = scale
        self._active: ActiveTiles | None = projection.active_tiles(plan.scores.vocabulary)
        hidden, weight = projection.hidden, projection.weight
        num_predictions = len(projection.rows)
        self._score_gradient = hidden.new_empty((plan.chunk_predictions, plan.slab_vocabulary))
        self._hidden: Tensor | None = None
        self._weight: Tensor | None = None
        self._bias: Tensor | None = None
        self._chunk: _Chunk | None = None
        if needs.hidden:
            self._chains: RowChains = link_rows(projection.rows)
            self._hidden_sum = hidden.new_empty(
                (plan.hidden_splits, num_predictions, hidden.shape[1]), dtype=torch.float32
            )
            self._hidden = torch.zeros_like(hidden)
        if needs.weight:
            is_direct = plan.prediction_splits == 1 and num_predictions <= plan.chunk_predictions
            self._weight = weight.new_empty(
                (plan.prediction_splits, *weight.shape),
                dtype=weight.dtype if is_direct else torch.float32,
            )
        if needs.bias:
            self._bias = weight.new_zeros(len(weight), dtype=torch.float32)

    def add(self, part: Part) -> None:
        """Compute what one part contributes."""
        if self._chunk is None or part.is_first_slab:
            self._chunk = self._chunk_of(part.predictions)
        self._compute_score_gradient(part, self._chunk)
        if self._hidden is not None:
            self._add_hidden(part, self._chunk, self._hidden)
        if self._weight is not None:
            self._add_weight(part, self._chunk, self._weight)

    def gradients(self) -> Gradients:
        """Results, once every part was added."""
        projection = self._projection
        if self._hidden is not None:
            is_split = len(self._hidden_sum) > 1
            sum_chains(
                self._hidden_sum.sum(0) if is_split else self._hidden_sum[0],
                projection.rows,
                self._chains,
                self._hidden,
                only_repeated=not is_split,
            )
        weight = self._weight
        if weight is not None:
            weight = weight[0] if len(weight) == 1 else weight.sum(0)
            weight = weight.to(projection.weight.dtype)
        bias = self._bias
        if bias is not None:
            bias = (bias if self._scale is None else bias * self._scale).to(self._weight_dtype)
        return Gradients(self._hidden, weight, bias)

    @property
    def _weight_dtype(self) -> torch.dtype:
        return self._projection.weight.dtype

    def _chunk_of(self, predictions: slice) -> _Chunk:
        projection, scores = self._projection.chunk(predictions), self._upstream.scores
        has_hidden = self._hidden is not None
        return _Chunk(
            projection=projection,
            arguments=projection.pointers() | projection.sizes(),
            upstream={name: x[predictions] for name, x in self._upstream.pointers().items()},
            scores=None if scores is None else scores[predictions],
            rank=self._chains.rank[predictions] if has_hidden else None,
            hidden_sum=self._hidden_sum[:, predictions] if has_hidden else None,
        )

    def _compute_score_gradient(self, part: Part, chunk: _Chunk) -> None:
        projection, scores = chunk.projection, chunk.scores
        tiles, active = self._plan.score_gradient, self._active
        num_row_tiles = ceil_div(len(projection.rows), tiles.predictions)
        slab = self._score_gradient.shape[1]
        bias_partial = self._score_gradient
        if self._bias is not None:
            # Tiles that are skipped write nothing, and have no gradient.
            shape = (num_row_tiles, slab)
            bias_partial = self._bias.new_zeros(shape)
        score_gradient_kernel[num_row_tiles, part.num_tiles](
            **chunk.arguments,
            **chunk.upstream,
            tiles_before_ptr=projection.rows if active is None else active.before,
            scores_ptr=projection.rows if scores is None else scores,
            score_gradient_ptr=self._score_gradient,
            bias_partial_ptr=bias_partial,
            slab_tile=part.first_tile,
            slab_size=slab,
            score_stride=0 if scores is None else scores.stride(0),
            BLOCK_M=tiles.predictions,
            BLOCK_V=tiles.vocabulary,
            BLOCK_E=tiles.hidden,
            EVEN_E=projection.hidden.shape[1] % tiles.hidden == 0,
            HAS_BIAS=projection.bias is not None,
            SETS=projection.sets,
            SKIPS_TILES=active is not None,
            HAS_SCORES=scores is not None,
            NEEDS_BIAS_GRADIENT=self._bias is not None,
            PRECISION=projection.precision,
            UPCAST=projection.upcast,
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
        )
        if self._bias is not None:
            start = part.first_tile * tiles.vocabulary
            columns = self._bias[start : start + slab]
            columns += bias_partial.sum(0)[: len(columns)]

    def _add_hidden(self, part: Part, chunk: _Chunk, output: Tensor) -> None:
        projection = chunk.projection
        tiles, active = self._plan.hidden_gradient, self._active
        num_predictions, hidden_size = len(projection.rows), output.shape[1]
        num_splits = len(self._hidden_sum)
        grid = (
            ceil_div(hidden_size, tiles.hidden),
            ceil_div(num_predictions, tiles.predictions),
            num_splits,
        )
        hidden_gradient_kernel[grid](
            score_gradient_ptr=self._score_gradient,
            weight_ptr=projection.weight,
            rows_ptr=projection.rows,
            rank_ptr=chunk.rank,
            tile_order_ptr=projection.rows if active is None else active.order,
            tiles_before_ptr=projection.rows if active is None else active.before,
            scale_ptr=self._hidden_sum if self._scale is None else self._scale,
            sum_ptr=chunk.hidden_sum,
            output_ptr=output,
            num_predictions=num_predictions,
            vocabulary_size=len(projection.weight),
            hidden_size=hidden_size,
            num_tokens=len(output),
            slab_tile=part.first_tile,
            num_slab_tiles=part.num_tiles,
            slab_size=self._score_gradient.shape[1],
            num_splits=num_splits,
            split_stride=self._hidden_sum.stride(0),
            TILE=self._plan.scores.vocabulary,
            BLOCK_M=tiles.predictions,
            BLOCK_V=tiles.vocabulary,
            BLOCK_E=tiles.hidden,
            EVEN_E=hidden_size % tiles.hidden == 0,
            SKIPS_TILES=active is not None,
            IS_SPLIT=num_splits > 1,
            IS_FIRST_SLAB=part.is_first_slab,
            ENDS_SUM=part.is_last_slab and num_splits == 1,
            SCALES=self._scale is not None,
            PRECISION=projection.precision,
            UPCAST=projection.upcast,
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
        )

    def _add_weight(self, part: Part, chunk: _Chunk, output: Tensor) -> None:
        projection = chunk.projection
        plan, active = self._plan, self._active
        tiles = plan.weight_gradient
        num_splits, _, hidden_size = output.shape
        num_columns = part.num_tiles * plan.scores.vocabulary
        grid = (
            ceil_div(hidden_size, tiles.hidden),
            ceil_div(num_columns, tiles.vocabulary),
            num_splits,
        )
        num_steps = ceil_div(len(projection.rows), tiles.predictions)
        weight_gradient_kernel[grid](
            score_gradient_ptr=self._score_gradient,
            hidden_ptr=projection.hidden,
            rows_ptr=projection.rows,
            tiles_before_ptr=projection.rows if active is None else active.before,
            scale_ptr=output if self._scale is None else self._scale,
            output_ptr=output,
            num_predictions=len(projection.rows),
            vocabulary_size=len(projection.weight),
            hidden_size=hidden_size,
            num_tokens=len(projection.hidden),
            slab_tile=part.first_tile,
            slab_size=self._score_gradient.shape[1],
            steps_per_split=ceil_div(num_steps, num_splits),
            TILE=plan.scores.vocabulary,
            BLOCK_M=tiles.predictions,
            BLOCK_V=tiles.vocabulary,
            BLOCK_E=tiles.hidden,
            EVEN_E=hidden_size % tiles.hidden == 0,
            SKIPS_TILES=active is not None,
            ADDS=not part.is_first_chunk,
            SCALES=self._scale is not None,
            PRECISION=projection.precision,
            UPCAST=projection.upcast,
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
        )
