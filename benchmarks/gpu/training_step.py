"""One training step of a 150 M encoder: forward, backward and AdamW in bf16 autocast.

Ours takes rows packed; the peers take the same rows padded to the longest, as their libraries do.
Rates count real tokens for everyone. Hugging Face's models take part where transformers is
installed; "plain torch" is the same architecture on padded rows, SDPA and torch.compile.
"""

# T tokens, B rows, L tokens of the longest row, E hidden size, V vocabulary

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.gpu import lengths
from benchmarks.gpu.compiling import compiled
from benchmarks.gpu.packed import Packed
from benchmarks.gpu.plain_encoder import PlainEncoder
from benchmarks.gpu.race import Contestant, race
from benchmarks.gpu.session import Session
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.encoder import Encoder
from seqmlm.model.heads import TokenHead
from seqmlm_kernels import Visibility

TOKENS = 16_384
MASK_RATE = 0.3
TEXT_CASE = "training step, ModernBERT-base size, text"
PROTEIN_CASE = "training step, ESM-2 150 M size, proteins"
MODERNBERT = EncoderConfig(
    vocabulary_size=50_368, mask_token=4, layers=22, hidden_size=768, heads=12,
    feed_forward_size=1152, activation="geglu", normalisation="layer", window=64, global_every=3,
)  # fmt: skip
ESM2 = EncoderConfig(
    vocabulary_size=33, mask_token=32, layers=30, hidden_size=640, heads=20,
    feed_forward_size=2560, activation="gelu", normalisation="layer", biases=True,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Batch:
    """What the encoder reads of `seqmlm.data.packing.PackedBatch`, and what is predicted."""

    ids: Tensor
    position_ids: Tensor
    segment_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    num_positions: int
    visibility: Visibility | None
    rows: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class PaddedBatch:
    """The same padded: ids and labels [B, L] (-100 where nothing is predicted), mask [B, L]."""

    ids: Tensor
    labels: Tensor
    mask: Tensor


class OurModel(nn.Module):
    """Encoder and token head as `seqmlm.Model` joins them."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config, backend="triton")
        self.head = TokenHead(config, lambda: self.encoder.token_embedding.weight, transform=False)

    def forward(self, batch: Batch) -> Tensor:
        """Mean loss."""
        hidden = self.encoder(cast(Any, batch))
        return self.head.loss(hidden, batch.rows, batch.labels, backend="triton").mean()


def run(session: Session) -> None:
    """Time a step on text and on proteins."""
    for name, config, draw, peer in (
        (TEXT_CASE, MODERNBERT, lengths.text, _make_modernbert),
        (PROTEIN_CASE, ESM2, lengths.protein, _make_esm2),
    ):
        session.attempt(name, partial(time_case, session, name, config, draw, peer))


def time_case(
    session: Session,
    name: str,
    config: EncoderConfig,
    draw: Callable[[Any], int],
    make_peer: Callable[[EncoderConfig], nn.Module],
) -> None:
    """One race."""
    if session.is_rehearsal:
        config = replace(
            config, layers=1, hidden_size=16, heads=1, key_value_heads=1, feed_forward_size=16,
            vocabulary_size=33, mask_token=4,
        )  # fmt: skip
    rows = [9] if session.is_rehearsal else lengths.fill(draw, TOKENS)
    packed = Packed.random(rows, heads=1, head_dim=1, device=session.device)
    batch, padded = _batches(packed, config)

    def ours(*, is_compiled: bool) -> Callable[[], object]:
        model = OurModel(config).to(session.device)
        call = compiled(session, model) if is_compiled else model
        return _step(session, model, lambda: call(batch))

    def plain() -> Callable[[], object]:
        model = PlainEncoder(config).to(session.device)
        call = compiled(session, model)
        return _step(session, model, lambda: call(padded.ids, padded.mask, padded.labels))

    def hugging_face() -> Callable[[], object]:
        model = make_peer(config).to(session.device)
        call = compiled(session, model)
        return _step(
            session,
            model,
            lambda: (
                call(
                    input_ids=padded.ids, attention_mask=padded.mask.long(), labels=padded.labels
                ).loss
            ),
        )

    contestants = [
        Contestant("seqmlm", partial(ours, is_compiled=True)),
        Contestant("seqmlm, not compiled", partial(ours, is_compiled=False)),
        Contestant("plain torch, padded, SDPA + compile", plain),
        Contestant("Hugging Face, SDPA + compile", hugging_face),
    ]
    flop = step_flop(config, packed, predictions=len(batch.rows))
    race(session, name, contestants, flop=flop, tokens=packed.tokens)


def step_flop(config: EncoderConfig, packed: Packed, *, predictions: int) -> float:
    """Operations of forward and backward on real tokens and visible pairs; no recomputation."""
    gates = 3 if config.activation == "geglu" else 2
    width, inner = config.hidden_size, config.feed_forward_size
    products = config.layers * (4 * width * width + gates * width * inner) * packed.tokens
    pairs = 0
    for layer in range(config.layers):
        window = config.window_of_layer(layer)
        pairs += sum(
            length * min(length, length if window is None else 2 * window + 1)
            for length in packed.rows
        )
    scores = predictions * config.vocabulary_size * width
    return 6.0 * (products + 2 * pairs * width + scores)


def _step(session: Session, model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], object]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=not session.is_rehearsal)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(session.device.type, torch.bfloat16):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _batches(packed: Packed, config: EncoderConfig) -> tuple[Batch, PaddedBatch]:
    device = packed.row.device
    generator = torch.Generator(device).manual_seed(0)
    ids = torch.randint(
        5, config.vocabulary_size - 1, (packed.tokens,), generator=generator, device=device
    )
    # A fixed number of predictions, as a token budget gives: shapes are those of every step.
    count = max(1, int(MASK_RATE * packed.tokens))
    rows = torch.randperm(packed.tokens, generator=generator, device=device)[:count].sort().values
    labels = ids[rows]
    ids = ids.index_fill(0, rows, config.mask_token)
    shape = (len(packed.rows), packed.longest)
    padded_ids, padded_labels = ids.new_ones(shape), ids.new_full(shape, -100)
    padded_ids[packed.row, packed.position] = ids
    padded_labels[packed.row[rows], packed.position[rows]] = labels
    position_ids = packed.position.int()
    batch = Batch(
        ids, position_ids, torch.zeros_like(position_ids), packed.cu_seqlens, packed.longest,
        packed.longest, None, rows, labels,
    )  # fmt: skip
    return batch, PaddedBatch(padded_ids, padded_labels, packed.key_mask()[:, 0, 0])


def _make_modernbert(config: EncoderConfig) -> nn.Module:
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    options = ModernBertConfig(
        vocab_size=config.vocabulary_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.feed_forward_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        pad_token_id=1,
        reference_compile=False,
        attn_implementation="sdpa",
    )
    return _held_to_sdpa(ModernBertForMaskedLM(options))


def _make_esm2(config: EncoderConfig) -> nn.Module:
    from transformers import EsmConfig, EsmForMaskedLM

    options = EsmConfig(
        vocab_size=config.vocabulary_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.feed_forward_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        pad_token_id=1,
        mask_token_id=config.mask_token,
        position_embedding_type="rotary",
        max_position_embeddings=1026,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    return _held_to_sdpa(EsmForMaskedLM(options))


def _held_to_sdpa(model: Any) -> nn.Module:
    """The model, or an error where transformers silently chose another attention."""
    chosen = model.config._attn_implementation
    if chosen != "sdpa":
        raise RuntimeError(f"transformers runs attention by {chosen!r} instead of SDPA")
    return cast(nn.Module, model)
