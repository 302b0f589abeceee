"""The whole model: one table for input and output, and a folder that brings it back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqmlm
from seqmlm.data.packing import pack
from seqmlm.domain import Domain, build_domain
from seqmlm.errors import CheckpointError, ConfigError
from seqmlm.model.model import Model
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.rows import Row
from seqmlm_domains.protein.domain import ProteinDomain

Models = Callable[..., Model]


@pytest.fixture
def protein() -> Domain:
    return build_domain({"name": "protein", "gaps": "keep"})


def test_input_and_output_share_one_parameter(words: Domain, build_model: Models) -> None:
    model = build_model(words)
    shapes = [name for name, value in model.named_parameters() if value.shape == (33, 16)]
    assert shapes == ["encoder.token_embedding.weight"]


def test_the_shared_table_learns_from_input_and_output(words: Domain, build_model: Models) -> None:
    """<start> is only ever input, 'z' here only ever a candidate of the output."""
    model = build_model(words)
    objective = MaskedLanguageModelling(words, {"rate": 0.5, "corruptor": {"name": "mixed",
        "mask": 1.0, "random": 0.0, "keep": 0.0}})  # fmt: skip
    batch = pack(objective.rows(words.parse("abcdef"), np.random.default_rng(0)))
    objective.loss(model, model(batch), batch).total.backward()  # type: ignore[no-untyped-call]
    gradient = model.encoder.token_embedding.weight.grad
    assert gradient is not None
    assert gradient[words.vocabulary.special.start].any()
    assert gradient[words.vocabulary.id_of("z")].any()
    assert not gradient[words.vocabulary.special.padding].any(), "neither input nor candidate"


def test_the_shared_gradient_is_the_sum_of_both_uses(words: Domain, build_model: Models) -> None:
    model = build_model(words)
    batch = pack([Row.of(words.parse("ab<mask>de"))])
    rows, labels = torch.tensor([3]), torch.tensor([words.vocabulary.id_of("c")])
    table = model.encoder.token_embedding.weight

    def score(hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        scores = hidden[rows] @ weight.T + model.token_head.bias
        return torch.nn.functional.cross_entropy(scores, labels)

    (as_input,) = torch.autograd.grad(score(model(batch), table.detach()), table)
    (as_output,) = torch.autograd.grad(score(model(batch).detach(), table), table)
    (both,) = torch.autograd.grad(model.token_head.loss(model(batch), rows, labels).sum(), table)
    torch.testing.assert_close(both, as_input + as_output, rtol=1e-5, atol=1e-6)
    assert as_input.any()
    assert as_output.any()


def test_the_head_transform_is_dense_gelu_and_norm(words: Domain, build_model: Models) -> None:
    model = build_model(words, head_transform=True)
    head = model.token_head
    hidden, rows = torch.randn(5, 16), torch.tensor([4, 1])
    assert head.dense is not None
    assert head.norm is not None
    features = head.norm(torch.nn.functional.gelu(head.dense(hidden[rows])))
    scores = features @ model.encoder.token_embedding.weight.T + head.bias
    expected = torch.nn.functional.cross_entropy(scores, torch.tensor([7, 8]), reduction="none")
    torch.testing.assert_close(head.loss(hidden, rows, torch.tensor([7, 8])), expected)


def test_inference_mode_ends_as_it_began(words: Domain, build_model: Models) -> None:
    model = build_model(words).train()
    with model.inference():
        assert not model.training
        assert not model(pack([Row.of(words.parse("a"))])).requires_grad
    assert model.training
    with pytest.raises(KeyError), model.inference():
        raise KeyError
    assert model.training


# Saving and loading


@pytest.mark.parametrize(
    "options",
    [{}, {"positions": "learned", "max_positions": 9, "segments": 2, "head_transform": True}],
    ids=["default", "all tables"],
)
def test_a_loaded_model_is_the_saved_one_bit_by_bit(
    protein: Domain, build_model: Models, tmp_path: Path, options: dict[str, Any]
) -> None:
    model = build_model(protein, **options)
    model.save(tmp_path / "model")
    loaded = seqmlm.load(str(tmp_path / "model"))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded.encoder.config == model.encoder.config
    assert loaded.domain.options == model.domain.options
    assert not loaded.training
    assert torch.equal(loaded.embed(["MKT-A"]), model.embed(["MKT-A"]))


def test_a_run_folder_gives_the_model_in_it(
    protein: Domain, build_model: Models, tmp_path: Path
) -> None:
    model = build_model(protein)
    model.save(tmp_path / "model")
    assert seqmlm.load(str(tmp_path)).fingerprint() == model.fingerprint()


def test_saving_replaces_an_older_model(
    protein: Domain, build_model: Models, tmp_path: Path
) -> None:
    build_model(protein).save(tmp_path / "model")
    (tmp_path / "model" / "old").write_text("")
    newer = build_model(protein, layers=1)
    newer.save(tmp_path / "model")
    assert seqmlm.load(str(tmp_path)).fingerprint() == newer.fingerprint()
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("domain", ["words", "protein"])
def test_domains_that_were_constructed_directly_can_be_saved(
    request: pytest.FixtureRequest, build_model: Models, tmp_path: Path, domain: str
) -> None:
    """Only build_domain() named them once, so that save() raised an AttributeError."""
    built = request.getfixturevalue("words") if domain == "words" else ProteinDomain(gaps="strip")
    model = build_model(built)
    model.save(tmp_path / "model")
    loaded = seqmlm.load(str(tmp_path / "model"))
    assert type(loaded.domain) is type(built)
    assert loaded.domain.options == built.options


def test_fingerprint_changes_with_any_weight(words: Domain, build_model: Models) -> None:
    model = build_model(words)
    before = model.fingerprint()
    assert build_model(words).fingerprint() == before
    with torch.no_grad():
        model.token_head.bias[3] += 1e-6
    assert model.fingerprint() != before


@pytest.fixture
def saved(protein: Domain, build_model: Models, tmp_path: Path) -> Path:
    build_model(protein).save(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_one_flipped_bit_in_the_weights_is_noticed(saved: Path) -> None:
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged: its sha256"):
        seqmlm.load(str(saved))


@pytest.mark.parametrize("damage", ["missing", "shortened", "empty"])
def test_incomplete_weights_are_noticed(saved: Path, damage: str) -> None:
    path = saved / "model.safetensors"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors (is damaged|cannot be loaded)"):
        seqmlm.load(str(saved))


def test_weights_of_another_shape_are_refused(
    saved: Path, protein: Domain, build_model: Models, tmp_path: Path
) -> None:
    build_model(protein, layers=1).save(tmp_path / "other")
    content = json.loads((tmp_path / "other" / "config.json").read_text())
    edit(saved, encoder=content["encoder"])
    with pytest.raises(CheckpointError, match=r"(?s)cannot be loaded: .*Unexpected key"):
        seqmlm.load(str(saved))


def test_a_changed_vocabulary_is_refused(saved: Path) -> None:
    edit(saved, vocabulary_fingerprint="0123456789abcdef")
    with pytest.raises(
        CheckpointError, match=r"vocabulary of domain 'protein' has changed .*then 0123456789abcdef"
    ):
        seqmlm.load(str(saved))


def test_models_of_a_later_format_are_refused(saved: Path) -> None:
    edit(saved, format_version=2, seqmlm_version="9.9")
    with pytest.raises(CheckpointError, match=r"written by seqmlm 9\.9 in format 2; this one"):
        seqmlm.load(str(saved))


@pytest.mark.parametrize("key", ["domain", "encoder", "token_head", "weights_sha256"])
def test_parts_missing_from_the_configuration_are_named(saved: Path, key: str) -> None:
    edit(saved, **{key: None})
    with pytest.raises(CheckpointError, match=f"config.json: {key} missing"):
        seqmlm.load(str(saved))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"x"'])
def test_other_files_of_the_same_name_are_refused(saved: Path, content: str) -> None:
    (saved / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"is not the config\.json of a seqmlm model"):
        seqmlm.load(str(saved))


def test_unknown_domain_options_name_the_file(saved: Path) -> None:
    edit(saved, domain={"name": "protein", "gasp": "keep"})
    with pytest.raises(ConfigError, match=r"config\.json: domain\.gasp: .*Did you mean 'gaps'"):
        seqmlm.load(str(saved))


def test_folders_without_a_model_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model here\. Give a run folder"):
        seqmlm.load(str(tmp_path / "nothing"))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=r"before its first step.*with its whole command"):
        seqmlm.load(str(tmp_path))
    (tmp_path / "config.toml").touch()
    with pytest.raises(CheckpointError, match=r"not finished.*seqmlm train --resume --output"):
        seqmlm.load(str(tmp_path))
