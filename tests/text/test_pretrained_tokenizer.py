"""Tokenizers of other models: their ids, their words, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from seqmlm.data.prepare import prepare
from seqmlm.domain import Record
from seqmlm.errors import CheckpointError, ConfigError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm_domains.text.domain import TextDomain
from seqmlm_domains.text.pretrained import read_pretrained

BERT = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "!"]
TEXTS = ["the cats sat !", "the cat sat", "the the cat"]


def byte_pairs(*, mask_takes_blanks: bool = True) -> Tokenizer:
    """Ids: 0 ``<s>``, 1 ``</s>``, then bytes from 2, then added tokens, the mask last."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: id for id, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>", "<unk>"])
    tokenizer.add_tokens(["  "])
    mask = AddedToken("<mask>", lstrip=mask_takes_blanks, special=True, normalized=False)
    tokenizer.add_special_tokens([mask])
    return tokenizer


def write_bert(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(BERT) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_byte_pairs(folder: Path, tokenizer: Tokenizer) -> Path:
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def imported(folder: Path, *, rows: int) -> TextDomain:
    domain = TextDomain()
    domain.import_tokenizer(folder, rows=rows)
    return domain


def test_a_list_of_tokens_is_word_piece(tmp_path: Path) -> None:
    domain = imported(write_bert(tmp_path / "bert"), rows=11)
    encoding = domain.parse("The CATS [MASK] dog!")
    assert encoding.ids.tolist() == [3, 6, 7, 8, 5, 2, 10, 4]
    # A word is a unit; the mask and the unknown word are none.
    assert encoding.unit_ids.tolist() == [-1, 0, 1, 1, -1, -1, 2, -1]
    assert domain.decode(encoding.ids.tolist()) == "the cats \N{REPLACEMENT CHARACTER} !"


def test_case_may_matter(tmp_path: Path) -> None:
    domain = imported(write_bert(tmp_path / "bert", do_lower_case=False), rows=11)
    assert domain.parse("The cat").ids.tolist() == [3, 2, 7, 4]


def test_special_tokens_are_known_by_their_part_wherever_they_are(tmp_path: Path) -> None:
    domain = imported(write_byte_pairs(tmp_path / "bpe", byte_pairs()), rows=262)
    special = domain.vocabulary.special
    assert (special.start, special.end) == (0, 1)
    assert (special.padding, special.unknown, special.mask) == (258, 259, 261)
    assert domain.vocabulary.tokens[260] == "  "
    assert domain.vocabulary.ranges == {"text": (2, 258)}


def test_the_files_say_which_token_plays_a_part(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "bert", mask_token={"content": "[unused0]"})
    assert imported(folder, rows=11).vocabulary.special.mask == 1
    (folder / "special_tokens_map.json").write_text('{"sep_token": "!"}')
    assert imported(folder, rows=11).vocabulary.special.end == 10
    write_bert(folder, pad_token="absent")
    with pytest.raises(CheckpointError, match=r"no token for padding.*pad_token"):
        imported(folder, rows=11)


@pytest.mark.parametrize(("takes_blanks", "before"), [(True, 0), (False, 1)])
def test_a_blank_before_the_mask_belongs_to_it_if_the_tokenizer_says_so(
    takes_blanks: bool, before: int, tmp_path: Path
) -> None:
    tokenizer = byte_pairs(mask_takes_blanks=takes_blanks)
    domain = imported(write_byte_pairs(tmp_path / "bpe", tokenizer), rows=262)
    ids = domain.parse("a <mask> b").ids.tolist()
    assert ids.index(261) == 2 + before
    assert ids[1:-1] == tokenizer.encode("a <mask> b").ids


def test_special_tokens_in_the_data_stay_text(tmp_path: Path) -> None:
    """And the ids of added tokens do not shift."""
    domain = imported(write_byte_pairs(tmp_path / "bpe", byte_pairs()), rows=262)
    ids = domain.parse("a  b</s><pad>").ids.tolist()[1:-1]
    assert ids[1] == 260
    assert not {0, 1, 258, 259, 261} & set(ids)
    assert domain.decode(ids) == "a  b</s><pad>"


def test_rows_without_a_token_are_input_only(tmp_path: Path) -> None:
    vocabulary = imported(write_bert(tmp_path / "bert"), rows=13).vocabulary
    assert vocabulary.tokens[11:] == ("<row 11>", "<row 12>")
    assert vocabulary.ranges == {"text": (6, 11)}


def test_a_saved_tokenizer_comes_back(tmp_path: Path) -> None:
    domain = imported(write_bert(tmp_path / "bert"), rows=13)
    domain.save_tokenizer(tmp_path)
    again = TextDomain(**domain.options)
    again.load_tokenizer(tmp_path)
    assert again.vocabulary.fingerprint() == domain.vocabulary.fingerprint()
    assert again.options == domain.options
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(CheckpointError, match="is damaged"):
        TextDomain(**domain.options).load_tokenizer(tmp_path)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A saved model with BERT's kind of tokenizer."""
    domain = imported(write_bert(tmp_path / "bert"), rows=11)
    shape = EncoderConfig(vocabulary_size=11, mask_token=5, layers=1, hidden_size=8, heads=2)
    Model(domain, shape).save(tmp_path / "model")
    return tmp_path / "model"


def test_another_run_can_use_the_tokenizer(model_folder: Path, tmp_path: Path) -> None:
    domain = TextDomain(tokenizer="pretrained", tokenizer_folder=str(model_folder))
    assert domain.vocabulary.tokens == tuple(BERT)
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS))
    store = prepare(domain, [str(path)], tmp_path / "store")
    whole = " ".join(TEXTS)
    assert domain.assemble(store[0], max_length=99).ids.tolist() == domain.parse(whole).ids.tolist()
    unlearned = TextDomain(tokenizer="pretrained")
    unlearned.load_tokenizer(tmp_path / "store")
    assert unlearned.vocabulary.fingerprint() == domain.vocabulary.fingerprint()


def test_the_folder_is_not_needed_once_the_model_is_saved(
    model_folder: Path, tmp_path: Path
) -> None:
    domain = TextDomain(tokenizer="pretrained", tokenizer_folder=str(model_folder))
    domain.save_tokenizer(tmp_path)
    moved = TextDomain(**{**domain.options, "tokenizer_folder": "gone"})
    assert not moved.has_vocabulary
    with pytest.raises(ConfigError, match="such a one is not learned"):
        moved.fit_tokenizer([Record("a", "the cat", "text", 1)])
    moved.load_tokenizer(tmp_path)
    assert moved.vocabulary.fingerprint() == domain.vocabulary.fingerprint()


def test_a_tokenizer_that_was_learned_here_is_none(tmp_path: Path) -> None:
    learned = TextDomain(tokenizer="character")
    learned.fit_tokenizer([Record("a", "the cat", "text", 1)])
    learned.save_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="is no imported one"):
        TextDomain(tokenizer="pretrained").load_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="set it to 'pretrained'"):
        TextDomain(tokenizer_folder="runs/bert")


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor vocab\.txt"):
        read_pretrained(tmp_path, rows=9)
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": 1}')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        read_pretrained(tmp_path, rows=9)
    write_byte_pairs(tmp_path, byte_pairs())
    with pytest.raises(CheckpointError, match=r"token '<mask>' has id 261.*has 9 rows"):
        read_pretrained(tmp_path, rows=9)
    wordless = byte_pairs()
    wordless.pre_tokenizer = None
    write_byte_pairs(tmp_path, wordless)
    with pytest.raises(ConfigError, match="nothing says what a word is"):
        read_pretrained(tmp_path, rows=262)
    levels = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    levels.add_special_tokens(["<pad>", "<s>", "</s>", "<mask>"])
    write_byte_pairs(tmp_path, levels)
    with pytest.raises(ConfigError, match="the model is 'WordLevel'; supported: WordPiece, BPE"):
        read_pretrained(tmp_path, rows=9)
