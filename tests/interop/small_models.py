"""Small shapes of every architecture that can be imported, and domains with a vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seqmlm.domain import Domain, Record, build_domain
from seqmlm.model.model import Model

TEXTS = (
    "The cat sat on the mat, and the dogs barked loudly!",
    "A masked language model predicts words; 1234 (x+y) numbers.",
    "the quick brown fox jumps over the lazy dog",
)

SHAPES: dict[str, dict[str, Any]] = {
    "esm": {
        "activation": "gelu", "normalisation": "layer", "biases": True, "token_dropout": True,
        "mask_token_rate": 0.15 * 0.8,
    },
    "bert": {
        "activation": "gelu", "normalisation": "layer", "biases": True, "positions": "learned",
        "normalisation_placement": "post", "embedding_normalisation": True, "max_positions": 40,
        "segments": 2,
    },
    "roberta": {
        "activation": "gelu", "normalisation": "layer", "biases": True, "positions": "learned",
        "normalisation_placement": "post", "embedding_normalisation": True, "max_positions": 41,
        "segments": 1, "position_offset": 1,
    },
    "modernbert": {
        "activation": "geglu", "normalisation": "layer", "embedding_normalisation": True,
        "first_attention_normalisation": False, "window": 3, "rotary_base": 160_000.0,
        "local_rotary_base": 10_000.0, "head_dense_bias": False,
    },
}  # fmt: skip

TOKENIZERS = {"bert": "wordpiece", "roberta": "bpe", "modernbert": "bpe"}

BuildModel = Callable[..., Model]


def domain_of(kind: str) -> Domain:
    """Proteins, or a text domain that has learned from :data:`TEXTS`."""
    if kind == "esm":
        return build_domain({"name": "protein"})
    domain = build_domain(
        {"name": "text", "tokenizer": TOKENIZERS[kind], "vocabulary_size": 300, "lowercase": True}
    )
    domain.fit_tokenizer([Record("text", text, "texts", 1) for text in TEXTS])
    return domain
