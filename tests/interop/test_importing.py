"""Folders that can be imported, and all that is refused, without the library transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import seqmlm
from seqmlm.errors import CheckpointError, ConfigError, SeqmlmError
from seqmlm.interop.hub import import_pretrained
from seqmlm.interop.importing import import_model
from tests.interop.small_models import SHAPES, TEXTS, BuildModel

Export = Callable[[str], Path]
Tensors = dict[str, Tensor]

MASK = {"esm": "MKT<mask>YIAK", "bert": "the [MASK] sat", "roberta": "the [MASK] sat"}


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def change_config(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def rename(old: str, new: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            if old in name:
                tensors[name.replace(old, new)] = tensors.pop(name)

    return change


@pytest.mark.parametrize("kind", SHAPES)
def test_what_was_exported_comes_back_bit_for_bit(
    kind: str, exported: Export, build_model: BuildModel
) -> None:
    imported = import_model(exported(kind))
    original = build_model(kind)
    assert imported.architecture == kind
    assert imported.left_out == ()
    assert imported.model.encoder.config == original.encoder.config
    ours, theirs = imported.model.exported_state(), original.exported_state()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_an_exported_tokenizer_gives_the_same_ids_when_imported(
    kind: str, exported: Export, build_model: BuildModel
) -> None:
    ours, imported = build_model(kind).domain, import_model(exported(kind)).model.domain
    for text in (*TEXTS, "the [MASK] sat"):
        assert imported.parse(text).ids.tolist() == ours.parse(text).ids.tolist()


@pytest.mark.parametrize("kind", MASK)
def test_an_imported_model_is_used_like_any_other(
    kind: str, exported: Export, tmp_path: Path
) -> None:
    import_model(exported(kind)).model.save(tmp_path / "run")
    model = seqmlm.load(str(tmp_path / "run"))
    assert len(model.fill_mask(MASK[kind], top_k=3)[0]) == 3
    text = MASK[kind].replace("<mask>", "A").replace("[MASK]", "cat")
    assert model.pseudo_log_likelihood([text])[0] < 0
    assert model.embed([text]).shape == (1, 16)


def test_weights_may_lie_in_several_files(exported: Export) -> None:
    folder = exported("bert")
    whole = import_model(folder).model.fingerprint()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {"a.safetensors": sorted(tensors)[:9], "b.safetensors": sorted(tensors)[9:]}
    for file, names in parts.items():
        save_file({name: tensors[name] for name in names}, folder / file)
    weight_map = {name: file for file, names in parts.items() for name in names}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert import_model(folder).model.fingerprint() == whole
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"names 'b\.safetensors', which is not in"):
        import_model(folder)


def test_norms_may_have_their_old_names(exported: Export) -> None:
    folder = exported("bert")
    whole = import_model(folder).model.fingerprint()
    change_tensors(folder, rename("LayerNorm.weight", "LayerNorm.gamma"))
    change_tensors(folder, rename("LayerNorm.bias", "LayerNorm.beta"))
    assert import_model(folder).model.fingerprint() == whole


def test_half_precision_becomes_single(exported: Export) -> None:
    folder = exported("modernbert")
    change_tensors(
        folder, lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()})
    )
    state = import_model(folder).model.exported_state()
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_tensors_without_use_are_named(exported: Export) -> None:
    folder = exported("bert")
    extra = {"bert.pooler.dense.weight": torch.zeros(16, 16)}
    change_tensors(folder, lambda tensors: tensors.update(extra))
    imported = import_model(folder)
    assert imported.left_out == ("bert.pooler.dense.weight",)
    assert "  bert.pooler.dense.weight" in imported.lines()


def test_a_second_copy_of_a_tied_tensor_is_used_if_it_is_equal(exported: Export) -> None:
    folder = exported("roberta")
    embedding = "roberta.embeddings.word_embeddings.weight"
    change_tensors(
        folder, lambda tensors: tensors.update({"lm_head.decoder.weight": tensors[embedding] + 0})
    )
    assert import_model(folder).left_out == ()
    change_tensors(folder, lambda tensors: tensors["lm_head.decoder.weight"].add_(1))
    with pytest.raises(CheckpointError, match=r"lm_head\.decoder\.weight is not equal to"):
        import_model(folder)


def test_frequencies_in_half_precision_are_kept(exported: Export) -> None:
    """ESM-2 was trained with such: recomputed ones would turn far positions differently."""
    folder = exported("esm")

    def halve(tensors: Tensors) -> None:
        for name in tensors:
            if name.endswith("inv_freq"):
                tensors[name] = tensors[name].half().float()

    change_tensors(folder, halve)
    encoder = import_model(folder).model.encoder.config
    # 10000 ** (-2 i / 8) for i = 0 to 3; only 0.01 and 0.001 are not exact in half precision.
    assert encoder.rotary_frequencies == pytest.approx((1.0, 0.1, 0.01, 0.001), rel=1e-3)
    assert encoder.rotary_frequencies[1] == float(torch.tensor(0.1).half())


TENSOR_FAULTS: dict[str, tuple[str, Callable[[Tensors], object], str]] = {
    "one is missing": (
        "esm",
        lambda tensors: tensors.pop("lm_head.bias"),
        r"lm_head\.bias is missing, which EsmForMaskedLM needs",
    ),
    "one is unknown": (
        "bert",
        lambda tensors: tensors.update({"bert.adapter.weight": torch.zeros(2)}),
        r"bert\.adapter\.weight is unknown in BertForMaskedLM",
    ),
    "one has another shape": (
        "modernbert",
        lambda tensors: tensors.update({"model.layers.1.mlp.Wo.weight": torch.zeros(3, 4)}),
        r"model\.layers\.1\.mlp\.Wo\.weight has the shape \(3, 4\); config\.json makes it",
    ),
    "one is not finite": (
        "bert",
        lambda tensors: tensors["cls.predictions.bias"].fill_(float("nan")),
        r"cls\.predictions\.bias holds values that are not finite",
    ),
    "one is quantised": (
        "bert",
        lambda tensors: tensors.update(
            {"cls.predictions.bias": tensors["cls.predictions.bias"].to(torch.int8)}
        ),
        r"cls\.predictions\.bias holds int8, not floating-point numbers",
    ),
    "the encoder stands alone": (
        "bert",
        rename("bert.", ""),
        r"no tensor begins with 'bert\.'",
    ),
    "layers turn differently": (
        "esm",
        lambda tensors: tensors[
            "esm.encoder.layer.1.attention.self.rotary_embeddings.inv_freq"
        ].add_(1),
        "layers have different rotary frequencies",
    ),
}


@pytest.mark.parametrize(("kind", "change", "message"), TENSOR_FAULTS.values(), ids=TENSOR_FAULTS)
def test_tensors_that_do_not_fit_are_refused(
    kind: str, change: Callable[[Tensors], object], message: str, exported: Export
) -> None:
    folder = exported(kind)
    change_tensors(folder, change)
    with pytest.raises(CheckpointError, match=message):
        import_model(folder)


CONFIG_FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "architecture": ("bert", {"model_type": "berd"}, "Did you mean 'bert'.*Supported: esm, bert"),
    "no architecture": ("bert", {"model_type": None}, "model_type is ''"),
    "activation": ("bert", {"hidden_act": "gelu_new"}, "only 'gelu' can be imported as bert"),
    "relative positions": (
        "bert", {"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative",
    ),
    "decoder": ("roberta", {"is_decoder": True}, "is_decoder = True"),
    "biases": ("modernbert", {"norm_bias": True}, "norm_bias = True, but only False"),
    "layer pattern": (
        "modernbert", {"layer_types": ["sliding_attention"] * 3}, "only an even pattern",
    ),
    "rotary scaling": (
        "modernbert",
        {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}},
        r"rope_parameters\.full_attention\.rope_type = 'yarn'",
    ),
    "no number": ("bert", {"layer_norm_eps": "small"}, "model: .*not supported between"),
    "no size": ("esm", {"hidden_size": None}, "hidden_size is None"),
    "mask token": ("esm", {"mask_token_id": 31}, "mask_token_id is 31, but the tokenizer"),
    "rows": ("esm", {"vocab_size": 64}, "64 rows in the model's embedding; ESM-2 has 33"),
    "more tokens than rows": ("roberta", {"vocab_size": 9}, "but the model's embedding has 9 rows"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "message"), CONFIG_FAULTS.values(), ids=CONFIG_FAULTS)
def test_settings_without_a_counterpart_are_refused(
    kind: str, settings: dict[str, Any], message: str, exported: Export
) -> None:
    folder = exported(kind)
    change_config(folder, **settings)
    with pytest.raises(SeqmlmError, match=message):
        import_model(folder)


def test_a_damaged_or_missing_file_is_named(exported: Export) -> None:
    folder = exported("esm")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        import_model(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors and no model\.safetensors\."):
        import_model(folder)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match="is a pickle, which can run any program"):
        import_model(folder)
    weights.write_bytes(content)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        import_model(folder)


def test_other_amino_acid_ids_are_refused(exported: Export) -> None:
    folder = exported("esm")
    path = folder / "vocab.txt"
    path.write_text(path.read_text().replace("L\nA\n", "A\nL\n"))
    with pytest.raises(CheckpointError, match="line 5: id 4 is 'A', but 'L' in ESM-2"):
        import_model(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match="nothing says what the ids mean"):
        import_model(folder)


def test_a_model_of_ours_needs_no_import(build_model: BuildModel, tmp_path: Path) -> None:
    build_model("esm").save(tmp_path / "model")
    with pytest.raises(ConfigError, match="is a model of seqmlm itself"):
        import_model(tmp_path / "model")


def test_from_pretrained_takes_a_folder(exported: Export) -> None:
    folder = exported("esm")
    assert seqmlm.from_pretrained(str(folder)).fingerprint() == (
        import_model(folder).model.fingerprint()
    )
    with pytest.raises(ConfigError, match="has no revision 'main'"):
        seqmlm.from_pretrained(str(folder), revision="main")


def test_a_name_is_fetched_from_the_hub(exported: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    folder, asked = exported("esm"), []

    def fetch(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, "pytorch_model.bin" in allow_patterns))
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    assert import_pretrained("facebook/tiny", revision="v1").architecture == "esm"
    assert asked == [("facebook/tiny", "v1", False)]


def test_what_the_hub_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def fetch(name: str, **_: Any) -> str:
        raise ConnectionError("no route to the hub\nmore")

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    with pytest.raises(CheckpointError, match=r"cannot be fetched.*: no route to the hub$"):
        import_pretrained("facebook/tiny")
    with pytest.raises(CheckpointError, match="There is no folder /nowhere/model"):
        import_pretrained("/nowhere/model")


def test_without_the_extra_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"pip install 'seqmlm\[hf\]'"):
        import_pretrained("facebook/tiny")
