"""The same numbers and token ids as the library transformers, in both directions.

Models there read padded batches, models here packed ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.domain import build_domain
from seqmlm.encoding import Encoding
from seqmlm.interop.exporting import export_model
from seqmlm.interop.importing import import_model
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row
from seqmlm_domains.protein.contacts.prediction import predict_contacts
from seqmlm_domains.protein.tokenizer import TOKENS
from tests.interop.small_models import TEXTS, BuildModel

transformers = pytest.importorskip("transformers")
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

TOLERANCE = 1e-5
LENGTHS = (37, 5, 24)
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.1,
}
TYPED = {
    "esm": ("MKTAYIAK<mask>RQISFVKSHF", "M<mask>", "MKX"),
    "text": ("The cat sat on the {mask} today.", "A  model{mask}!!  1234  \n\n and (x)", *TEXTS),
}

Folder = Callable[[str], Path]


@dataclass(frozen=True)
class Case:
    """A model and a tokenizer of transformers in a folder."""

    folder: Path
    model: Any
    tokenizer: Any


def byte_pairs(special: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def esm(folder: Path, **options: Any) -> tuple[Any, Any]:
    (folder / "tokens.txt").write_text("\n".join(TOKENS))
    fixed = {
        "vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32, "layer_norm_eps": 1e-5,
        "position_embedding_type": "rotary", "token_dropout": True, "emb_layer_norm_before": False,
    }  # fmt: skip
    config = transformers.EsmConfig(**SIZES, **(fixed | options))
    return transformers.EsmForMaskedLM(config), transformers.EsmTokenizer(
        str(folder / "tokens.txt")
    )


def esm_1b(folder: Path) -> tuple[Any, Any]:
    return esm(
        folder,
        position_embedding_type="absolute",
        max_position_embeddings=45,
        emb_layer_norm_before=True,
    )


def bert(folder: Path) -> tuple[Any, Any]:
    letters = "abcdefghijklmnopqrstuvwxyz1234"
    tokens = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s"]
    tokens += [*letters, *(f"##{letter}" for letter in letters if letter != "s"), *".,!()+;"]
    (folder / "tokens.txt").write_text("\n".join(tokens))
    config = transformers.BertConfig(vocab_size=len(tokens), max_position_embeddings=40, **SIZES)
    return transformers.BertForMaskedLM(config), transformers.BertTokenizer(
        str(folder / "tokens.txt")
    )


def roberta(folder: Path) -> tuple[Any, Any]:
    learned = json.loads(byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]).to_str())["model"]
    (folder / "vocabulary.json").write_text(json.dumps(learned["vocab"]))
    (folder / "pairs.txt").write_text("\n".join(map(" ".join, learned["merges"])))
    tokenizer = transformers.RobertaTokenizer(
        str(folder / "vocabulary.json"), str(folder / "pairs.txt")
    )
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=42, type_vocab_size=1, **SIZES
    )
    return transformers.RobertaForMaskedLM(config), tokenizer


def modernbert(folder: Path) -> tuple[Any, Any]:
    """As there, the mask token and runs of blanks are added tokens, and rows are left over."""
    learned = byte_pairs(["[UNK]", "[CLS]", "[SEP]", "[PAD]"])
    learned.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=learned,
        unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        mask_token=transformers.AddedToken("[MASK]", lstrip=True, special=True),
    )  # fmt: skip
    tokenizer.add_tokens(["  ", "    "])
    config = transformers.ModernBertConfig(
        vocab_size=384, pad_token_id=3, cls_token_id=1, sep_token_id=2, bos_token_id=1,
        eos_token_id=2, local_attention=8, **SIZES,
    )  # fmt: skip
    return transformers.ModernBertForMaskedLM(config), tokenizer


KINDS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "esm": esm,
    "esm_1b": esm_1b,
    "bert": bert,
    "roberta": roberta,
    "modernbert": modernbert,
}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """Make a model with random weights, biases and norms included, and save it with tokenizer."""

    @cache
    def make(kind: str) -> Case:
        sources = tmp_path_factory.mktemp(f"{kind}-sources")
        torch.manual_seed(0)
        model, tokenizer = KINDS[kind](sources)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        folder = tmp_path_factory.mktemp(kind)
        model.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return Case(folder, model, tokenizer)

    return make


def random_rows(model: Model) -> list[Row]:
    """Rows of several lengths, some longer than a window, with mask tokens in two of them."""
    generator = np.random.default_rng(0)
    low, high = model.vocabulary.ranges[model.domain.name]
    rows = []
    for length in LENGTHS:
        ids = generator.integers(low, high, length).astype(np.int32)
        segments = np.zeros(length, np.int32)
        rows.append(Row.of(Encoding(ids, np.full(length, -1, np.int32), segments)))
    rows[0].ids[4:15] = rows[2].ids[3] = model.vocabulary.special.mask
    return rows


def packed_logits(model: Model, rows: Sequence[Row]) -> Tensor:
    """Scores of all tokens of all rows, one row after the other."""
    with model.inference():
        hidden = model(pack(rows))
        features = model.token_head.features(hidden, torch.arange(len(hidden)))
        return features @ model.encoder.token_embedding.weight.T + model.token_head.bias


def padded_logits(theirs: Any, rows: Sequence[Row], *, padding: int) -> Tensor:
    """The same of a model of transformers, which reads a padded batch."""
    ids = torch.full((len(rows), max(len(row.ids) for row in rows)), padding)
    attention_mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.from_numpy(row.ids)
        attention_mask[number, : len(row.ids)] = 1
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=attention_mask).logits
    return torch.cat([part[: len(row.ids)] for part, row in zip(logits, rows, strict=True)])


def largest_difference(ours: Model, theirs: Any) -> float:
    rows = random_rows(ours)
    padding = ours.vocabulary.special.padding
    expected = padded_logits(theirs, rows, padding=padding)
    assert expected.std() > 0.1  # or nothing would be compared
    return float((packed_logits(ours, rows) - expected).abs().max())


def reload(folder: Path) -> Any:
    model, report = transformers.AutoModelForMaskedLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert {name for name in report["missing_keys"] if "contact_head" not in name} == set()
    assert not report["unexpected_keys"]
    assert not report["mismatched_keys"]
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_imported_logits_are_those_of_transformers(kind: str, case: Callable[[str], Case]) -> None:
    given = case(kind)
    assert largest_difference(import_model(given.folder).model, given.model) < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_changes_no_bit(
    kind: str, case: Callable[[str], Case], tmp_path: Path
) -> None:
    given = case(kind)
    export_model(import_model(given.folder).model, tmp_path / "hf")
    again = reload(tmp_path / "hf")
    assert type(again) is type(given.model)
    before, after = given.model.state_dict(), again.state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kind", KINDS)
def test_token_ids_are_those_of_transformers(
    kind: str, case: Callable[[str], Case], tmp_path: Path
) -> None:
    given = case(kind)
    model = import_model(given.folder).model
    export_model(model, tmp_path / "hf")
    exported = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    for typed in TYPED["esm" if kind.startswith("esm") else "text"]:
        text = typed.replace("{mask}", given.tokenizer.mask_token)
        expected = given.tokenizer(text)["input_ids"]
        assert model.domain.parse(text).ids.tolist() == expected
        assert exported(text)["input_ids"] == expected


def test_rotary_frequencies_in_half_precision_are_used(
    case: Callable[[str], Case], tmp_path: Path
) -> None:
    """As in ESM-2's own files; recomputed ones would be noticed."""
    given = case("esm")
    export_model(import_model(given.folder).model, tmp_path / "hf")
    weights = tmp_path / "hf" / "model.safetensors"
    tensors = load_file(weights)
    for name in tensors:
        if name.endswith("inv_freq"):
            tensors[name] = tensors[name].half().float()
    save_file(tensors, weights, metadata={"format": "pt"})
    imported = import_model(tmp_path / "hf").model
    assert largest_difference(imported, reload(tmp_path / "hf")) < TOLERANCE
    export_model(imported, tmp_path / "again")
    written = load_file(tmp_path / "again" / "model.safetensors")
    assert all(torch.equal(written[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_any_mask_rate_of_token_dropout_is_exact_there(
    rate: float, case: Callable[[str], Case], tmp_path: Path
) -> None:
    imported = import_model(case("esm").folder).model
    assert imported.encoder.config.mask_token_rate == pytest.approx(0.12)
    config = replace(imported.encoder.config, mask_token_rate=rate)
    trained = Model(imported.domain, config, head_transform=True, has_pair_head=True).eval()
    trained.load_state_dict(imported.state_dict())
    export_model(trained, tmp_path / "hf")
    assert largest_difference(trained, reload(tmp_path / "hf")) < TOLERANCE


@pytest.mark.parametrize("kind", ["esm", "bert", "roberta", "modernbert"])
def test_a_model_of_ours_loads_there(kind: str, build_model: BuildModel, tmp_path: Path) -> None:
    model = build_model(kind)
    export_model(model, tmp_path / "hf")
    assert largest_difference(model, reload(tmp_path / "hf")) < TOLERANCE
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    texts = ["MKTAYIAK<mask>"] if kind == "esm" else [*TEXTS, "the [MASK] sat"]
    for text in texts:
        assert tokenizer(text)["input_ids"] == model.domain.parse(text).ids.tolist()


def test_what_the_tokenizer_returns_is_what_the_model_takes(
    build_model: BuildModel, tmp_path: Path
) -> None:
    """BERT gets token types of a pair, ModernBERT knows none and would refuse them."""
    for kind, names in (("bert", 3), ("modernbert", 2)):
        export_model(build_model(kind), tmp_path / kind)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / kind)
        batch = tokenizer("the cat", "the dog", return_tensors="pt")
        assert len(batch) == names
        assert reload(tmp_path / kind)(**batch).logits.shape[1] == batch["input_ids"].shape[1]


def test_bert_without_a_tokenizer_file_has_its_list_of_tokens(
    case: Callable[[str], Case], tmp_path: Path
) -> None:
    given = case("bert")
    tokens = sorted(given.tokenizer.get_vocab().items(), key=lambda item: item[1])
    (tmp_path / "vocab.txt").write_text("\n".join(token for token, _ in tokens))
    domain = build_domain({"name": "text"})
    domain.import_tokenizer(tmp_path, rows=len(tokens))
    for text in TEXTS:
        assert domain.parse(text).ids.tolist() == given.tokenizer(text)["input_ids"]


@pytest.mark.parametrize("kind", ["esm", "esm_1b"])
def test_imported_contact_probabilities_are_those_of_transformers(
    kind: str, case: Callable[[str], Case], tmp_path: Path
) -> None:
    """Of a padded batch there; ours come one protein at a time, saved and loaded before."""
    given = case(kind)
    import_model(given.folder).model.save(tmp_path / "run")
    model = Model.load(tmp_path / "run")
    sequences = ["MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ", "MKWVX", "GA", "W"]
    theirs = transformers.EsmModel.from_pretrained(
        given.folder, add_pooling_layer=False, attn_implementation="eager"
    )
    tokens = given.tokenizer(sequences, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = theirs.eval().predict_contacts(tokens["input_ids"], tokens["attention_mask"])
    for sequence, probabilities in zip(sequences, expected.numpy(), strict=True):
        found = predict_contacts(model, "x", model.domain.parse(sequence))
        length = len(sequence)
        assert found.scores.shape == (length, length)
        np.testing.assert_allclose(
            found.scores, probabilities[:length, :length], rtol=0, atol=TOLERANCE
        )
    assert found.measure == "probability"
    assert expected[0].std() > 0.001  # or nothing would be compared
