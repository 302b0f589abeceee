"""Which models can be exported, and what those that cannot are told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqmlm.config import configure
from seqmlm.domain import build_domain
from seqmlm.errors import ConfigError
from seqmlm.interop.exporting import architecture_of, export_model
from seqmlm.interop.importing import import_model
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.model.output_head import OutputHeadConfig
from tests.interop.small_models import BuildModel, domain_of

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = {
    "esm2_8m": "esm",
    "bert": "bert",
    "roberta": "roberta",
    "modernbert": "modernbert",
}


@pytest.mark.parametrize(("name", "kind"), PRESETS.items())
def test_these_configurations_train_models_that_can_be_exported(name: str, kind: str) -> None:
    config = configure(domain=None, sources=["data"], files=[CONFIGS / f"{name}.toml"])
    domain = domain_of(kind)
    options = config.model.model_dump(exclude={"head_transform"})
    with torch.device("meta"):
        model = Model(
            domain,
            EncoderConfig(
                vocabulary_size=len(domain.vocabulary),
                mask_token=domain.vocabulary.special.mask,
                **options,
            ),
            head_transform=config.model.head_transform,
        )
    assert architecture_of(model).model_type == kind


OBSTACLES: dict[str, tuple[str, dict[str, Any], str]] = {
    "rms": ("esm", {"normalisation": "rms"}, r"EsmForMaskedLM.*normalisation = 'layer' \(is 'rms"),
    "roles": ("bert", {"roles": 2}, r"BertForMaskedLM.*model\.roles = 0 \(is 2\)"),
    "no segments": ("bert", {"segments": 0}, r"model\.segments = 1 or more"),
    "offset": ("roberta", {"position_offset": 4}, r"model\.position_offset = [01] \(is 4\)"),
    "grouped keys": ("esm", {"key_value_heads": 1}, r"model\.key_value_heads = 0 \(is 1\)"),
    "first norm": (
        "modernbert",
        {"first_attention_normalisation": True},
        r"ModernBert.*first_attention_normalisation = false \(is true\)",
    ),
}


@pytest.mark.parametrize(("kind", "options", "message"), OBSTACLES.values(), ids=OBSTACLES)
def test_a_model_without_a_counterpart_is_told_which_settings_have_one(
    kind: str, options: dict[str, Any], message: str, build_model: BuildModel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        export_model(build_model(kind, **options), tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_the_default_protein_model_is_told_too(tmp_path: Path) -> None:
    model = Model(
        build_domain({"name": "protein"}), EncoderConfig(vocabulary_size=33, mask_token=32)
    )
    with pytest.raises(ConfigError, match=r"model\.normalisation = 'layer' \(is 'rms'\)"):
        export_model(model, tmp_path / "hf")


def test_a_folder_is_never_overwritten(
    exported: Callable[[str], Path], build_model: BuildModel
) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        export_model(build_model("esm"), exported("esm"))


def test_heads_of_other_tasks_are_left_out_and_named(
    build_model: BuildModel, tmp_path: Path
) -> None:
    plain = build_model("esm")
    heads = {"classes": OutputHeadConfig(outputs=2)}
    model = Model(plain.domain, plain.encoder.config, head_transform=True, heads=heads)
    report = export_model(model, tmp_path / "hf")
    assert report.left_out == ("heads.classes.output.bias", "heads.classes.output.weight")
    assert "heads.classes.output.bias" in "\n".join(report.lines())


@pytest.mark.parametrize("rate", [0.0, 0.15 * 0.8, 0.4])
def test_every_mask_rate_of_token_dropout_survives(
    rate: float, build_model: BuildModel, tmp_path: Path
) -> None:
    """Transformers scales by 0.88 whatever the rate: the embeddings make up for the difference."""
    model = build_model("esm", mask_token_rate=rate)
    export_model(model, tmp_path / "hf")
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    embedding = tensors["esm.embeddings.word_embeddings.weight"]
    own = model.encoder.token_embedding.weight
    torch.testing.assert_close(embedding * 0.88, own.detach() * (1 - rate))
    assert ("lm_head.decoder.weight" in tensors) == (rate != 0.15 * 0.8)
    imported = import_model(tmp_path / "hf").model
    assert imported.encoder.config == model.encoder.config
    assert imported.fingerprint() == model.fingerprint()


def test_a_domain_without_such_a_tokenizer_refuses(build_model: BuildModel, tmp_path: Path) -> None:
    text_model = build_model("bert")
    domain = build_domain({"name": "kg"})
    domain.vocabulary = text_model.vocabulary
    model = Model(domain, text_model.encoder.config, head_transform=True)
    with pytest.raises(ConfigError, match="domain 'kg' has no tokenizer of the form"):
        export_model(model, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
