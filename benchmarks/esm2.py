"""ESM-2 8M with random weights: Hugging Face's model, and the same weights imported."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import EsmConfig, EsmForMaskedLM

from seqmlm.interop.importing import import_model
from seqmlm.model.model import Model
from seqmlm_domains.protein.tokenizer import VOCABULARY
from seqmlm_domains.protein.vocabulary_file import VOCABULARY_FILE, write_vocabulary_file

LAYERS, HIDDEN_SIZE, HEADS = 6, 320, 20


def build_peer() -> EsmForMaskedLM:
    """Return Hugging Face's model with the settings of ESM-2 8M and its fast attention."""
    torch.manual_seed(0)
    config = EsmConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=HIDDEN_SIZE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN_SIZE,
        max_position_embeddings=1026,
        layer_norm_eps=1e-5,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=VOCABULARY.special.padding,
        mask_token_id=VOCABULARY.special.mask,
        attn_implementation="sdpa",
    )
    return EsmForMaskedLM(config).eval()


def import_peer(peer: EsmForMaskedLM) -> Model:
    """Return our model of the same weights, by way of a saved folder."""
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        write_vocabulary_file(Path(folder) / VOCABULARY_FILE)
        return import_model(Path(folder)).model
