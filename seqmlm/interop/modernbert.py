"""ModernBERT (Warner et al. 2024, arXiv 2412.13663)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from seqmlm.errors import ConfigError
from seqmlm.interop.architecture import (
    Architecture,
    Correspondence,
    Stacked,
    SwappedHalves,
    Tensors,
)
from seqmlm.interop.source import HuggingFaceConfig
from seqmlm.model.configuration import EncoderConfig
from seqmlm.vocabulary import Vocabulary

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"


class ModernBert(Architecture):
    """Pre-norm without biases, GeGLU, rotary positions, layers with a window and without."""

    model_type = "modernbert"
    class_name = "ModernBertForMaskedLM"
    domain = "text"
    prefix = "model."
    embedding = "model.embeddings.tok_embeddings.weight"
    decoder = "decoder.weight"
    bias = "decoder.bias"
    required: ClassVar[Mapping[str, Any]] = {
        "activation": "geglu",
        "normalisation": "layer",
        "normalisation_placement": "pre",
        "embedding_normalisation": True,
        "first_attention_normalisation": False,
        "biases": False,
        "key_value_heads": 0,
        "positions": "rotary",
        "rotary_frequencies": (),
        "segments": 0,
        "roles": 0,
        "token_dropout": False,
        "head_transform": True,
    }
    left_out: ClassVar[Sequence[str]] = ()

    def options(self, config: HuggingFaceConfig, tensors: Tensors) -> dict[str, Any]:
        """See the base class."""
        for name in ("hidden_activation", "classifier_activation"):
            config.require(name, "gelu", default="gelu")
        for name in ("attention_bias", "mlp_bias", "norm_bias"):
            config.require(name, False, default=False)
        config.require("decoder_bias", True, default=True)
        layers = config.number("num_hidden_layers")
        global_base, local_base = self._rotary_bases(config)
        return {
            "layers": layers,
            "hidden_size": config.number("hidden_size"),
            "heads": config.number("num_attention_heads"),
            "feed_forward_size": config.number("intermediate_size"),
            "normalisation_epsilon": config.get("norm_eps", 1e-5),
            "rotary_base": global_base,
            "local_rotary_base": local_base,
            "window": config.get("local_attention", 128) // 2,
            "global_every": self._global_every(config, layers),
            "head_dense_bias": bool(config.get("classifier_bias", False)),
            "dropout": config.get("mlp_dropout", 0.0),
        }

    def not_carried_over(self, config: HuggingFaceConfig) -> list[str]:
        """See the base class."""
        # The encoder's dropout is one rate, after the embeddings and on every residual branch.
        one = config.get("mlp_dropout", 0.0)
        names = {"embedding_dropout": one, "attention_dropout": 0.0}
        rates = {name: config.get(name, 0.0) for name in names}
        return [f"{name} = {rates[name]}" for name in names if rates[name] != names[name]]

    def correspondences(self, encoder: EncoderConfig) -> list[Correspondence]:
        """See the base class."""
        pairs = {
            "encoder.token_embedding.weight": self.embedding,
            "encoder.embedding_norm.weight": "model.embeddings.norm.weight",
            "encoder.final_norm.weight": "model.final_norm.weight",
            "token_head.dense.weight": "head.dense.weight",
            "token_head.norm.weight": "head.norm.weight",
            "token_head.bias": self.bias,
        }
        if encoder.head_dense_bias:
            pairs["token_head.dense.bias"] = "head.dense.bias"
        swapped: list[Correspondence] = []
        for layer in range(encoder.layers):
            ours, theirs = f"encoder.layers.{layer}", f"model.layers.{layer}"
            pairs |= {
                f"{ours}.attention.query_key_value.weight": f"{theirs}.attn.Wqkv.weight",
                f"{ours}.attention.output.weight": f"{theirs}.attn.Wo.weight",
                f"{ours}.feed_forward_norm.weight": f"{theirs}.mlp_norm.weight",
                f"{ours}.feed_forward.contract.weight": f"{theirs}.mlp.Wo.weight",
            }
            if layer:
                pairs[f"{ours}.attention_norm.weight"] = f"{theirs}.attn_norm.weight"
            # Of theirs the first half goes through GELU, of ours the second.
            expand = f"{ours}.feed_forward.expand.weight"
            swapped.append(SwappedHalves(expand, f"{theirs}.mlp.Wi.weight"))
        return [*(Stacked(ours, (theirs,)) for ours, theirs in pairs.items()), *swapped]

    def config_json(self, encoder: EncoderConfig, vocabulary: Vocabulary) -> dict[str, Any]:
        """See the base class."""
        special = vocabulary.special
        local_base = encoder.local_rotary_base or encoder.rotary_base
        return {
            "vocab_size": encoder.vocabulary_size,
            "hidden_size": encoder.hidden_size,
            "num_hidden_layers": encoder.layers,
            "num_attention_heads": encoder.heads,
            "intermediate_size": encoder.feed_forward_size,
            "hidden_activation": "gelu",
            "norm_eps": encoder.normalisation_epsilon,
            "norm_bias": False,
            "attention_bias": False,
            "mlp_bias": False,
            "decoder_bias": True,
            "classifier_bias": encoder.head_dense_bias,
            "classifier_activation": "gelu",
            "embedding_dropout": encoder.dropout,
            "mlp_dropout": encoder.dropout,
            "attention_dropout": 0.0,
            "local_attention": 2 * encoder.window,
            "layer_types": [
                _GLOBAL if encoder.window_of_layer(layer) is None else _LOCAL
                for layer in range(encoder.layers)
            ],
            # In both forms: transformers 4 reads the first, 5 the second.
            "global_attn_every_n_layers": encoder.global_every if encoder.window else 1,
            "global_rope_theta": encoder.rotary_base,
            "local_rope_theta": local_base,
            "rope_parameters": {
                _GLOBAL: {"rope_type": "default", "rope_theta": encoder.rotary_base},
                _LOCAL: {"rope_type": "default", "rope_theta": local_base},
            },
            "cls_token_id": special.start,
            "sep_token_id": special.end,
        }

    def _rotary_bases(self, config: HuggingFaceConfig) -> tuple[float, float]:
        parameters = config.get("rope_parameters", {})
        bases = []
        for kind, name, default in (
            (_GLOBAL, "global_rope_theta", 160_000.0),
            (_LOCAL, "local_rope_theta", 10_000.0),
        ):
            given = parameters.get(kind) or {}
            if given.get("rope_type", "default") != "default":
                raise ConfigError(
                    f"{config.path}: rope_parameters.{kind}.rope_type = {given['rope_type']!r}, "
                    "but only 'default' can be imported."
                )
            bases.append(float(given.get("rope_theta", config.get(name, default))))
        if config.get("rope_scaling", None):
            raise ConfigError(f"{config.path}: rope_scaling cannot be imported.")
        return bases[0], bases[1]

    def _global_every(self, config: HuggingFaceConfig, layers: int) -> int:
        """How many layers apart the global ones lie."""
        every = config.get("global_attn_every_n_layers", 3)
        types = config.get("layer_types", None)
        if types is None:
            return int(every)
        for every in range(1, layers + 1):
            if types == [_LOCAL if layer % every else _GLOBAL for layer in range(layers)]:
                return every
        raise ConfigError(
            f"{config.path}: layer_types = {types}, but only an even pattern of "
            f"{_GLOBAL!r} every so many layers, from the first, can be imported."
        )
