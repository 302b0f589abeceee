"""Attention maps: how much each token takes from each other one, in every layer and head."""

# N tokens of the sequence, H heads, K key-value heads, D head size

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import seqmlm_kernels
from seqmlm.analysis.layers import attention_blocks, recorded_layers
from seqmlm.analysis.run import AnalysedRun
from seqmlm.analysis.surprisal import shown_tokens
from seqmlm.data.packing import pack
from seqmlm.encoding import Encoding
from seqmlm.errors import DataError
from seqmlm.model.layers import Attention, AttentionContext
from seqmlm_kernels.visibility import pairs_within_window, visible_pairs


@dataclass(frozen=True)
class AttentionMaps:
    """The attention of one sequence.

    Args:
        tokens: as they are shown, special tokens included.
        weights: float32 ``[layers, H, N, N]``, queries before keys; each row of queries adds up
            to 1, and is 0 at keys it does not see.
        distances: float32 ``[N, N]``, how many positions two tokens are apart.
        windows: of each layer; None where it attends globally.
    """

    tokens: tuple[str, ...]
    weights: Tensor
    distances: Tensor
    windows: tuple[int | None, ...]

    @property
    def entropy_nats(self) -> Tensor:
        """Entropy of the weights of a query, mean over the queries; float ``[layers, H]``."""
        entropies: Tensor = torch.special.entr(self.weights).sum(-1).mean(-1)
        return entropies

    @property
    def mean_distance(self) -> Tensor:
        """Positions between query and key, weighted by the attention; float ``[layers, H]``."""
        distances: Tensor = (self.weights * self.distances).sum(-1).mean(-1)
        return distances

    @property
    def special_share(self) -> Tensor:
        """Share of the attention that goes to first and last token; float ``[layers, H]``."""
        share: Tensor = self.weights[..., [0, -1]].sum(-1).mean(-1)
        return share

    def to_json(self) -> dict[str, Any]:
        """Return tokens and a summary per head as plain JSON values; the maps are left out."""
        columns = {
            "entropy_nats": self.entropy_nats.tolist(),
            "mean_distance_tokens": self.mean_distance.tolist(),
            "share_of_first_and_last_token": self.special_share.tolist(),
        }
        layers, heads = self.weights.shape[:2]
        return {
            "tokens": list(self.tokens),
            "largest_entropy_nats": float(np.log(len(self.tokens))),
            "layers": [
                {
                    "layer": layer + 1,
                    "window": self.windows[layer],
                    "heads": [
                        {
                            "head": head + 1,
                            **{name: column[layer][head] for name, column in columns.items()},
                        }
                        for head in range(heads)
                    ],
                }
                for layer in range(layers)
            ],
        }


def analyse_attention(run: AnalysedRun, encoding: Encoding) -> AttentionMaps:
    """Return the attention weights of every layer and head for one sequence.

    They are computed anew from the queries and keys of each layer by the reference definition,
    because fast backends never hold them. Memory: layers x H x N x N floats.

    Args:
        run: masked or causal; the sequence is read as the run reads.
        encoding: special tokens included.

    Raises:
        DataError: the sequence holds special tokens alone, or is too long for the model.
    """
    model = run.model
    special = model.vocabulary.special
    if np.isin(encoding.ids, [special.start, special.end]).all():
        raise DataError("The sequence is empty: there is nothing to attend to. Give some tokens.")
    with model.inference(), recorded_layers(model.encoder) as record:
        batch = pack([run.row(encoding)]).to(model.device)
        model(batch)
        blocks = attention_blocks(model.encoder)
        weights = [
            attention_weights(block, hidden, context).cpu()
            for block, (hidden, context) in zip(blocks, record.attention_inputs, strict=True)
        ]
    positions = batch.position_ids.cpu().float()
    return AttentionMaps(
        tokens=tuple(shown_tokens(run, encoding.ids.tolist())),
        weights=torch.stack(weights),
        distances=(positions[:, None] - positions[None, :]).abs(),
        windows=tuple(block.window for block in blocks),
    )


def attention_weights(block: Attention, hidden: Tensor, context: AttentionContext) -> Tensor:
    """Return the softmax over the visible keys, float32 ``[H, N, N]``, queries before keys.

    Args:
        block: one layer's attention.
        hidden: ``[N, E]``, its input: the tokens of a single row.
        context: it was called with.
    """
    q, k, _ = queries_keys_values(block, hidden, context)
    keys = k.float().repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = torch.einsum("ihd,jhd->hij", q.float(), keys) * block.head_size**-0.5
    visible = torch.ones(scores.shape[1:], dtype=torch.bool, device=scores.device)
    if (rule := context.visibility) is not None:
        visible &= visible_pairs(rule.step, rule.reach, rule.group)
    if block.window is not None:
        visible &= pairs_within_window(context.position_ids, block.window)
    # The lowest finite number rather than -inf: a query that sees nothing stays without NaN.
    filled = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    weights: Tensor = filled.softmax(-1).masked_fill(~visible, 0.0)
    return weights


def queries_keys_values(
    block: Attention, hidden: Tensor, context: AttentionContext
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries ``[N, H, D]``, keys and values ``[N, K, D]``, rotated by their positions."""
    q, k, v = (
        part.unflatten(-1, (-1, block.head_size))
        for part in block.query_key_value(hidden).split(block.sizes, dim=-1)
    )
    table = context.rotary_table_for(block.window)
    if table is not None:
        q, k = seqmlm_kernels.rotary(
            q, k, context.position_ids, table=table, backend=context.backend
        )
    return q, k, v
