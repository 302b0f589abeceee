"""ESM-2 (Lin et al. 2023, doi 10.1126/science.ade2574), and ESM-1b with learned positions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from seqmlm.errors import CheckpointError
from seqmlm.interop.architecture import Architecture, Correspondence, Stacked, Tensors
from seqmlm.interop.source import HuggingFaceConfig
from seqmlm.model.configuration import EncoderConfig
from seqmlm.vocabulary import Vocabulary

MASK_TOKEN_RATE: Final = 0.15 * 0.8
"""What fair-esm and transformers hard-code, whatever rate a model was trained with."""

RATE_SETTING: Final = "seqmlm_mask_token_rate"
"""Our own key in ``config.json`` where the model was trained with another rate."""

_FREQUENCIES = re.compile(
    r"esm\.(encoder\.layer\.(\d+|\*)\.attention\.self\.)?rotary_embeddings\.inv_freq"
)
_LAYER = "esm.encoder.layer.{}.attention.self.rotary_embeddings.inv_freq"


class Esm(Architecture):
    """Pre-norm, biases, GELU, rotary or learned positions, token dropout."""

    model_type = "esm"
    class_name = "EsmForMaskedLM"
    domain = "protein"
    prefix = "esm."
    embedding = "esm.embeddings.word_embeddings.weight"
    decoder = "lm_head.decoder.weight"
    bias = "lm_head.bias"
    pair_head = "esm.contact_head.regression"
    required: ClassVar[Mapping[str, Any]] = {
        "activation": "gelu",
        "normalisation": "layer",
        "normalisation_placement": "pre",
        "first_attention_normalisation": True,
        "biases": True,
        "key_value_heads": 0,
        "local_rotary_base": 0.0,
        "segments": 0,
        "roles": 0,
        "window": 0,
        "head_transform": True,
        "head_dense_bias": True,
    }
    left_out: ClassVar[Sequence[str]] = (
        r"esm\.pooler\..*",
        r"esm\.embeddings\.position_ids",
        # transformers 4 wrote the table of learned positions for rotary models as well.
        r"esm\.embeddings\.position_embeddings\.weight",
    )

    def options(self, config: HuggingFaceConfig, tensors: Tensors) -> dict[str, Any]:
        """See the base class."""
        for name in ("is_decoder", "add_cross_attention", "is_folding_model"):
            config.require(name, False, default=False)
        options: dict[str, Any] = {
            "layers": config.number("num_hidden_layers"),
            "hidden_size": config.number("hidden_size"),
            "heads": config.number("num_attention_heads"),
            "feed_forward_size": config.number("intermediate_size"),
            "normalisation_epsilon": config.get("layer_norm_eps", 1e-12),
            "embedding_normalisation": bool(config.get("emb_layer_norm_before", False)),
            "dropout": config.get("hidden_dropout_prob", 0.1),
            "token_dropout": bool(config.get("token_dropout", False)),
            "mask_token_rate": config.get(RATE_SETTING, MASK_TOKEN_RATE),
        }
        if config.get("position_embedding_type", "absolute") == "absolute":
            offset = config.get("pad_token_id", 1) + 1
            positions = config.number("max_position_embeddings")
            return options | {
                "positions": "learned", "max_positions": positions, "position_offset": offset,
            }  # fmt: skip
        config.require("position_embedding_type", "rotary", default="absolute")
        options |= {"positions": "rotary", "rotary_base": config.get("rope_theta", 10_000.0)}
        head_size = options["hidden_size"] // options["heads"]
        usual = _frequencies(options["rotary_base"], head_size)
        stored = next((t for name, t in tensors.items() if _FREQUENCIES.fullmatch(name)), usual)
        if not torch.equal(stored, usual):
            options["rotary_frequencies"] = tuple(stored.tolist())
        return options

    def not_carried_over(self, config: HuggingFaceConfig) -> list[str]:
        """See the base class."""
        rate = config.get("attention_probs_dropout_prob", 0.1)
        return [f"attention_probs_dropout_prob = {rate}"] if rate else []

    def correspondences(self, encoder: EncoderConfig) -> list[Correspondence]:
        """See the base class."""
        pairs = {
            "encoder.token_embedding.weight": self.embedding,
            "token_head.bias": self.bias,
            **_both("token_head.dense", "lm_head.dense"),
            **_both("token_head.norm", "lm_head.layer_norm"),
            **_both("encoder.final_norm", "esm.encoder.emb_layer_norm_after"),
        }
        if encoder.positions == "learned":
            table = "esm.embeddings.position_embeddings.weight"
            pairs["encoder.position_embedding.weight"] = table
        if encoder.embedding_normalisation:
            pairs |= _both("encoder.embedding_norm", "esm.embeddings.layer_norm")
        found: list[Correspondence] = [Stacked(ours, (theirs,)) for ours, theirs in pairs.items()]
        for layer in range(encoder.layers):
            found += _layer(f"encoder.layers.{layer}", f"esm.encoder.layer.{layer}")
        return found

    def obstacles(self, encoder: EncoderConfig, vocabulary: Vocabulary) -> list[str]:
        """See the base class."""
        offset = vocabulary.special.padding + 1
        if encoder.positions == "learned" and encoder.position_offset != offset:
            return [f"model.position_offset = {offset} (is {encoder.position_offset})"]
        return []

    def config_json(self, encoder: EncoderConfig, vocabulary: Vocabulary) -> dict[str, Any]:
        """See the base class."""
        is_learned = encoder.positions == "learned"
        content = {
            "vocab_size": encoder.vocabulary_size,
            "mask_token_id": vocabulary.special.mask,
            "hidden_size": encoder.hidden_size,
            "num_hidden_layers": encoder.layers,
            "num_attention_heads": encoder.heads,
            "intermediate_size": encoder.feed_forward_size,
            "hidden_dropout_prob": encoder.dropout,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": encoder.max_positions if is_learned else 1026,
            "layer_norm_eps": encoder.normalisation_epsilon,
            "position_embedding_type": "absolute" if is_learned else "rotary",
            "rope_theta": encoder.rotary_base,
            "emb_layer_norm_before": encoder.embedding_normalisation,
            "token_dropout": encoder.token_dropout,
            "is_folding_model": False,
        }
        if _has_other_rate(encoder):
            content |= {RATE_SETTING: encoder.mask_token_rate, "tie_word_embeddings": False}
        return content

    def prepare_tensors(self, config: HuggingFaceConfig, tensors: dict[str, Tensor]) -> None:
        """Take out the frequencies, and undo what :meth:`finish_tensors` did for a mask rate."""
        names = [name for name in tensors if _FREQUENCIES.fullmatch(name)]
        frequencies = [tensors.pop(name) for name in names]
        if any(not torch.equal(frequencies[0], other) for other in frequencies):
            raise CheckpointError(
                f"{config.path.parent}: layers have different rotary frequencies ({names[0]}, ...)."
            )
        rate = config.get(RATE_SETTING, MASK_TOKEN_RATE)
        if rate != MASK_TOKEN_RATE:
            decoder, embedding = tensors.get(self.decoder), tensors.get(self.embedding)
            if (
                decoder is None
                or embedding is None
                or not torch.equal(decoder * _rescaling(rate), embedding)
            ):
                raise CheckpointError(
                    f"{config.path}: {RATE_SETTING} = {rate} does not fit the embeddings, which "
                    "should be those of the decoder times (1 - rate) / 0.88."
                )
            tensors[self.embedding] = tensors.pop(self.decoder)

    def finish_tensors(self, encoder: EncoderConfig, tensors: dict[str, Tensor]) -> None:
        """Add the rotary frequencies, and make a mask rate other than 0.12 exact.

        Their token dropout multiplies embeddings by 0.88 / (1 - observed rate). The embeddings
        are written so that this gives (1 - rate) / (1 - observed rate); the decoder keeps its own.
        """
        if encoder.positions == "rotary":
            frequencies = _frequencies(encoder.rotary_base, encoder.head_size)
            if encoder.rotary_frequencies:
                frequencies = torch.tensor(encoder.rotary_frequencies)
            tensors |= {_LAYER.format(i): frequencies.clone() for i in range(encoder.layers)}
        if _has_other_rate(encoder):
            tensors[self.decoder] = tensors[self.embedding]
            tensors[self.embedding] = tensors[self.embedding] * _rescaling(encoder.mask_token_rate)


def _has_other_rate(encoder: EncoderConfig) -> bool:
    return encoder.token_dropout and encoder.mask_token_rate != MASK_TOKEN_RATE


def _rescaling(mask_token_rate: float) -> float:
    return (1 - mask_token_rate) / (1 - MASK_TOKEN_RATE)


def _frequencies(base: float, head_size: int) -> Tensor:
    """What transformers computes, to the last bit."""
    exponents = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
    return 1.0 / base**exponents


def _both(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{part}": f"{theirs}.{part}" for part in ("weight", "bias")}


def _layer(ours: str, theirs: str) -> list[Correspondence]:
    found: list[Correspondence] = []
    for part in ("weight", "bias"):
        attention = f"{theirs}.attention.self"
        stack = tuple(f"{attention}.{name}.{part}" for name in ("query", "key", "value"))
        found.append(Stacked(f"{ours}.attention.query_key_value.{part}", stack))
        for our, their in (
            ("attention_norm", "attention.LayerNorm"),
            ("attention.output", "attention.output.dense"),
            ("feed_forward_norm", "LayerNorm"),
            ("feed_forward.expand", "intermediate.dense"),
            ("feed_forward.contract", "output.dense"),
        ):
            found.append(Stacked(f"{ours}.{our}.{part}", (f"{theirs}.{their}.{part}",)))
    return found
