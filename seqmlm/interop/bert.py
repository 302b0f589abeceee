"""BERT (Devlin et al. 2019, arXiv 1810.04805) and RoBERTa (Liu et al. 2019, arXiv 1907.11692)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from seqmlm.interop.architecture import Architecture, Correspondence, Stacked, Tensors
from seqmlm.interop.source import HuggingFaceConfig
from seqmlm.model.configuration import EncoderConfig
from seqmlm.vocabulary import Vocabulary


class Bert(Architecture):
    """Post-norm, biases, GELU, learned positions and segments, a head with a dense layer."""

    model_type = "bert"
    class_name = "BertForMaskedLM"
    domain = "text"
    prefix = "bert."
    embedding = "bert.embeddings.word_embeddings.weight"
    decoder = "cls.predictions.decoder.weight"
    bias = "cls.predictions.bias"
    required: ClassVar[Mapping[str, Any]] = {
        "activation": "gelu",
        "normalisation": "layer",
        "normalisation_placement": "post",
        "embedding_normalisation": True,
        "biases": True,
        "key_value_heads": 0,
        "positions": "learned",
        "roles": 0,
        "window": 0,
        "token_dropout": False,
        "head_transform": True,
        "head_dense_bias": True,
    }
    left_out: ClassVar[Sequence[str]] = (
        r"bert\.pooler\..*",
        r"cls\.seq_relationship\..*",
        r"bert\.embeddings\.(position_ids|token_type_ids)",
    )
    head: ClassVar[Mapping[str, str]] = {
        "dense": "cls.predictions.transform.dense",
        "norm": "cls.predictions.transform.LayerNorm",
    }

    def options(self, config: HuggingFaceConfig, tensors: Tensors) -> dict[str, Any]:
        """See the base class."""
        config.require("hidden_act", "gelu", default="gelu")
        config.require("position_embedding_type", "absolute", default="absolute")
        for name in ("is_decoder", "add_cross_attention"):
            config.require(name, False, default=False)
        return {
            "layers": config.number("num_hidden_layers"),
            "hidden_size": config.number("hidden_size"),
            "heads": config.number("num_attention_heads"),
            "feed_forward_size": config.number("intermediate_size"),
            "normalisation_epsilon": config.get("layer_norm_eps", 1e-12),
            "max_positions": config.number("max_position_embeddings"),
            "position_offset": self.position_offset(config.get("pad_token_id", 1)),
            "segments": config.get("type_vocab_size", 2),
            "dropout": config.get("hidden_dropout_prob", 0.1),
        }

    def position_offset(self, padding: int) -> int:
        """Return the row of the first token's position."""
        return 0

    def not_carried_over(self, config: HuggingFaceConfig) -> list[str]:
        """See the base class."""
        rate = config.get("attention_probs_dropout_prob", 0.1)
        return [f"attention_probs_dropout_prob = {rate}"] if rate else []

    def correspondences(self, encoder: EncoderConfig) -> list[Correspondence]:
        """See the base class."""
        embeddings = f"{self.prefix}embeddings"
        tables = {
            "token_embedding": "word_embeddings",
            "position_embedding": "position_embeddings",
            "segment_embedding": "token_type_embeddings",
        }
        pairs = {
            f"encoder.{ours}.weight": f"{embeddings}.{theirs}.weight"
            for ours, theirs in tables.items()
        } | {"token_head.bias": self.bias}
        modules = {
            "encoder.embedding_norm": f"{embeddings}.LayerNorm",
            "token_head.dense": self.head["dense"],
            "token_head.norm": self.head["norm"],
        }
        for number in range(encoder.layers):
            ours, theirs = f"encoder.layers.{number}", f"{self.prefix}encoder.layer.{number}"
            modules |= {
                f"{ours}.attention.output": f"{theirs}.attention.output.dense",
                f"{ours}.attention_norm": f"{theirs}.attention.output.LayerNorm",
                f"{ours}.feed_forward.expand": f"{theirs}.intermediate.dense",
                f"{ours}.feed_forward.contract": f"{theirs}.output.dense",
                f"{ours}.feed_forward_norm": f"{theirs}.output.LayerNorm",
            }
        found: list[Correspondence] = [Stacked(ours, (theirs,)) for ours, theirs in pairs.items()]
        for part in ("weight", "bias"):
            found += [
                Stacked(f"{ours}.{part}", (f"{theirs}.{part}",)) for ours, theirs in modules.items()
            ]
            for number in range(encoder.layers):
                attention = f"{self.prefix}encoder.layer.{number}.attention.self"
                stack = tuple(f"{attention}.{name}.{part}" for name in ("query", "key", "value"))
                ours = f"encoder.layers.{number}.attention.query_key_value.{part}"
                found.append(Stacked(ours, stack))
        return found

    def obstacles(self, encoder: EncoderConfig, vocabulary: Vocabulary) -> list[str]:
        """See the base class."""
        found = [] if encoder.segments else ["model.segments = 1 or more (is 0)"]
        offset = self.position_offset(vocabulary.special.padding)
        if encoder.position_offset != offset:
            found.append(f"model.position_offset = {offset} (is {encoder.position_offset})")
        return found

    def config_json(self, encoder: EncoderConfig, vocabulary: Vocabulary) -> dict[str, Any]:
        """See the base class."""
        return {
            "vocab_size": encoder.vocabulary_size,
            "hidden_size": encoder.hidden_size,
            "num_hidden_layers": encoder.layers,
            "num_attention_heads": encoder.heads,
            "intermediate_size": encoder.feed_forward_size,
            "hidden_act": "gelu",
            "hidden_dropout_prob": encoder.dropout,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": encoder.max_positions,
            "type_vocab_size": encoder.segments,
            "layer_norm_eps": encoder.normalisation_epsilon,
        }


class Roberta(Bert):
    """BERT whose first position is the row after that of the padding token."""

    model_type = "roberta"
    class_name = "RobertaForMaskedLM"
    prefix = "roberta."
    embedding = "roberta.embeddings.word_embeddings.weight"
    decoder = "lm_head.decoder.weight"
    bias = "lm_head.bias"
    left_out: ClassVar[Sequence[str]] = (
        r"roberta\.pooler\..*",
        r"roberta\.embeddings\.(position_ids|token_type_ids)",
    )
    head: ClassVar[Mapping[str, str]] = {
        "dense": "lm_head.dense",
        "norm": "lm_head.layer_norm",
    }

    def position_offset(self, padding: int) -> int:
        """Return the row of the first token's position."""
        return padding + 1
