"""Keys and values of what was read already, so that a new token costs one query per layer."""

# R rows, C columns, T packed tokens, H heads, D head size

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from seqmlm.data.packing import PackedBatch


class KeyValueCache:
    """Rows that grow by one token a pass, aligned so that their last tokens share a column.

    The first pass of an encoder fills it with packed rows; each later one adds a token to every
    row. Such a token sees all tokens of its row, as in a causal row and in the response of a
    prefix-LM row, and in a layer with a window those near enough. Memory: 2 x layers x rows x
    (tokens of the longest row + new tokens) x key-value heads x head size numbers.

    Args:
        layers: of the encoder.
        new_tokens: how many passes may follow the first.
    """

    def __init__(self, layers: int, *, new_tokens: int) -> None:
        self._new_tokens = new_tokens
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers
        self._columns = 0
        self._packed: tuple[Tensor, Tensor] | None = None
        self._masks: dict[int | None, Tensor | None] = {}

    @property
    def is_first_pass(self) -> bool:
        """Whether the pass that :meth:`begin_pass` began reads whole rows."""
        return self._packed is not None

    def begin_pass(self, batch: PackedBatch) -> None:
        """Make room for the tokens of a batch; before any layer sees them.

        Raises:
            ValueError: after the first pass, a batch that is not one token for each row, or one
                pass too many.
        """
        self._masks.clear()
        if not self._columns:
            self._begin_first_pass(batch)
            return
        rows, columns = self._positions.shape
        if batch.num_tokens != rows or batch.num_rows != rows:
            raise ValueError(
                f"The cache has {rows} rows and the batch {batch.num_tokens} tokens in "
                f"{batch.num_rows} rows; every row grows by one token a pass."
            )
        if self._columns == columns:
            raise ValueError(f"The cache was made for {self._new_tokens} new tokens a row.")
        self._packed = None
        self._positions[:, self._columns] = batch.position_ids
        self._columns += 1

    def _begin_first_pass(self, batch: PackedBatch) -> None:
        lengths = batch.cu_seqlens.diff().long()
        device = lengths.device
        row = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
        # Every row ends in the same column, so that all new tokens go into one and the same.
        self._start = batch.max_seqlen - lengths
        within = torch.arange(batch.num_tokens, device=device) - batch.cu_seqlens[row]
        self._packed = (row, self._start[row] + within)
        self._columns = batch.max_seqlen
        self._positions = batch.position_ids.new_zeros(
            len(lengths), self._columns + self._new_tokens
        )
        self._positions[self._packed] = batch.position_ids

    def append(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keep the keys and values ``[T, H, D]`` of this pass's tokens."""
        for store, new in ((self._keys, keys), (self._values, values)):
            held = store[layer]
            if self._packed is not None:
                row, column = self._packed
                held = new.new_zeros(*self._positions.shape, *new.shape[1:]).transpose(1, 2)
                held = held.contiguous()
                held[row, :, column] = new
                store[layer] = held
            else:
                assert held is not None
                held[:, :, self._columns - 1] = new

    def attend(self, layer: int, queries: Tensor, *, window: int | None) -> Tensor:
        """Attention of one query per row, ``[R, H, D]``, to the row's tokens, itself included.

        One query a row is a product of a matrix and a vector: PyTorch's own attention does it on
        every backend of the kernels.
        """
        keys, values = self._keys[layer], self._values[layer]
        assert keys is not None
        assert values is not None
        attended = scaled_dot_product_attention(
            queries.unsqueeze(2),
            keys[:, :, : self._columns],
            values[:, :, : self._columns],
            attn_mask=self._mask(window),
            enable_gqa=queries.shape[1] != keys.shape[1],
        )
        return attended.squeeze(2)

    def select(self, rows: Tensor) -> None:
        """Keep these rows, int64 ``[n]``, in this order; a row named twice is there twice."""
        for store in (self._keys, self._values):
            store[:] = [None if held is None else held.index_select(0, rows) for held in store]
        self._positions = self._positions.index_select(0, rows)
        self._start = self._start.index_select(0, rows)

    def _mask(self, window: int | None) -> Tensor | None:
        """What the new token of each row sees, bool ``[R, 1, 1, C]``; None: every column."""
        if window not in self._masks:
            columns = torch.arange(self._columns, device=self._start.device)
            visible = columns >= self._start[:, None]
            if window is not None:
                positions = self._positions[:, : self._columns]
                visible = visible & ((positions[:, -1:] - positions).abs() <= window)
            everything = window is None and not bool(self._start.any())
            self._masks[window] = None if everything else visible[:, None, None]
        return self._masks[window]
