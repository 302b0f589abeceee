"""Runs a tokenizer that was learned elsewhere, as Hugging Face folders hold it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from seqmlm.errors import CheckpointError, ConfigError
from seqmlm.vocabulary import SpecialTokens, Vocabulary
from seqmlm_domains.text.tokenizer import (
    REPLACEMENT,
    TOKENIZER_FILE,
    TextTokenizer,
    read_saved,
)
from seqmlm_domains.text.training import CONTINUATION, TokenizerSettings

VOCABULARY_FILE: Final = "vocab.txt"
"""All that old BERT folders have: the tokens of WordPiece, one a line."""

CONFIG_FILE: Final = "tokenizer_config.json"
ROLES_FILE: Final = "special_tokens_map.json"

ROLES: Final = {
    "padding": ("pad_token", ("[PAD]", "<pad>")),
    "unknown": ("unk_token", ("[UNK]", "<unk>")),
    "start": ("cls_token", ("[CLS]", "<s>", "<cls>")),
    "end": ("sep_token", ("[SEP]", "</s>", "<eos>")),
    "mask": ("mask_token", ("[MASK]", "<mask>")),
}
"""Of special tokens: the key in the files, and the usual tokens where the files do not say."""

_KINDS: Final = {"WordPiece": "wordpiece", "BPE": "bpe", "Unigram": "unigram"}
_LONGEST_WORD = 100  # characters of a WordPiece word, as in BERT


class PretrainedTokenizer(TextTokenizer):
    """A tokenizer whose special tokens have any names and ids.

    It gives the same ids as the library does with the original file, but for texts that spell out
    a special token, which stays text. The longest stretch of ids without special and added tokens
    is what may be masked, drawn and predicted; the rest of the vocabulary is input only.

    Args:
        content: of a ``tokenizer.json``.
        special: the token of each of :data:`ROLES`.
        rows: of the token embedding: the size of the vocabulary. Rows without a token get the
            placeholder ``<row N>``.

    Raises:
        CheckpointError: the tokenizer is damaged or does not fit ``special`` or ``rows``.
        ConfigError: it is of a kind that cannot tell what a word is.
    """

    def __init__(self, content: str, *, special: Mapping[str, str], rows: int) -> None:
        original = _parse(content)
        parsed = json.loads(content)
        added = {str(item["content"]): item for item in parsed["added_tokens"]}
        self._kind = _kind(parsed)
        self.settings = TokenizerSettings(kind="pretrained", vocabulary_size=rows)
        self._content = content
        self._special = dict(special)
        self._tokenizer = original
        # A literal mask token of the data must stay text: the library would make a special of it.
        self._tokenizer.encode_special_tokens = True
        self._mask = special["mask"]
        self._mask_takes_blanks = bool(added.get(self._mask, {}).get("lstrip", False))
        ids: dict[str, int] = original.get_vocab(with_added_tokens=True)
        tokens = _tokens(ids, rows)
        roles = SpecialTokens(**{role: ids[token] for role, token in special.items()})
        apart = {ids[token] for token in (*added, *special.values())}
        silent = {ids[token] for token in added if added[token]["special"]}
        self._silent = silent | set(vars(roles).values()) | set(range(len(ids), rows))
        self.vocabulary = Vocabulary(
            tokens=tokens, special=roles, ranges={"text": _longest_stretch(len(ids), apart)}
        )

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``: special tokens left out, unknown ones as U+FFFD."""
        special = self.vocabulary.special
        parts: list[str] = []
        run: list[int] = []
        for id in [*ids, special.end]:
            if id not in self._silent:
                run.append(id)
                continue
            if run:
                parts.append(self._decode_learned(run))
                run = []
            if id == special.unknown:
                parts.append(REPLACEMENT)
        return (" " if self._kind == "wordpiece" else "").join(parts)

    def _exported(self) -> str:
        return self._content

    def _record(self) -> dict[str, Any]:
        rows = len(self.vocabulary)
        return super()._record() | {"special_tokens": self._special, "rows": rows}

    def _pieces(self, text: str) -> Iterator[str]:
        yield text

    def _before_mask(self, text: str) -> str:
        return text.rstrip() if self._mask_takes_blanks else text


def read_pretrained(folder: Path, *, rows: int) -> PretrainedTokenizer:
    """Read ``tokenizer.json``, or ``vocab.txt`` of BERT, and which token plays which part.

    Raises:
        CheckpointError: a file is missing or damaged, or no token plays one of the parts.
        ConfigError: the tokenizer is of a kind that cannot tell what a word is.
    """
    config = _read_json(folder / CONFIG_FILE)
    path = folder / TOKENIZER_FILE
    try:
        if path.is_file():
            content = path.read_text(encoding="utf-8")
        else:
            lines = (folder / VOCABULARY_FILE).read_text(encoding="utf-8").splitlines()
            content = _wordpiece(lines, config)
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{folder}: neither {TOKENIZER_FILE} nor {VOCABULARY_FILE} can be read ({error})."
        ) from error
    known = _parse(content).get_vocab(with_added_tokens=True)
    settings = _read_json(folder / ROLES_FILE) | config
    special: dict[str, str] = {}
    for role, (key, usual) in ROLES.items():
        given = settings.get(key)
        given = given.get("content") if isinstance(given, dict) else given
        found = [token for token in ([given] if given else usual) if token in known]
        if not found:
            raise CheckpointError(
                f"{folder}: no token for {role}. Name it in {CONFIG_FILE}: {key} = one of the "
                "vocabulary."
            )
        special[role] = found[0]
    return PretrainedTokenizer(content, special=special, rows=rows)


def load_pretrained(folder: Path) -> PretrainedTokenizer:
    """Read what :meth:`PretrainedTokenizer.save` wrote.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: the tokenizer in the folder is one of our own.
    """
    content, record = read_saved(folder)
    if record["settings"]["kind"] != "pretrained":
        raise ConfigError(
            f"{folder}: the tokenizer is no imported one, but domain.tokenizer is 'pretrained'. "
            f"Set domain.tokenizer = {record['settings']['kind']!r} and its other options."
        )
    return PretrainedTokenizer(content, special=record["special_tokens"], rows=record["rows"])


def _parse(content: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(content)
    except Exception as error:
        if type(error) is not Exception:  # the library raises nothing more precise
            raise
        raise CheckpointError(f"{TOKENIZER_FILE} cannot be read: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a file that may be absent."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds {type(content).__name__} instead of an object.")
    return content


def _wordpiece(tokens: Sequence[str], config: Mapping[str, Any]) -> str:
    """BERT's tokenizer around a list of tokens."""
    vocabulary = {token: id for id, token in enumerate(tokens)}
    unknown = config.get("unk_token", "[UNK]")
    tokenizer = Tokenizer(
        models.WordPiece(
            vocab=vocabulary, unk_token=unknown, max_input_chars_per_word=_LONGEST_WORD
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    special = [usual[0] for _, usual in ROLES.values()]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special]
    )
    return str(tokenizer.to_str())


def _kind(parsed: Mapping[str, Any]) -> Any:
    """What a token's text looks like, which :meth:`TextTokenizer.decode` must know."""
    model = parsed["model"]["type"]
    if model not in _KINDS:
        raise ConfigError(
            f"{TOKENIZER_FILE}: the model is {model!r}; supported: {', '.join(_KINDS)}."
        )
    if model == "WordPiece" and parsed["model"]["continuing_subword_prefix"] != CONTINUATION:
        raise ConfigError(f"{TOKENIZER_FILE}: tokens inside a word must begin with {CONTINUATION}.")
    if parsed.get("pre_tokenizer") is None:
        raise ConfigError(f"{TOKENIZER_FILE}: no pre-tokenizer, so nothing says what a word is.")
    return _KINDS[model]


def _tokens(ids: Mapping[str, int], rows: int) -> tuple[str, ...]:
    """Token of every row of the embedding."""
    last = max(ids, key=lambda token: ids[token])
    if ids[last] >= rows:
        raise CheckpointError(
            f"{TOKENIZER_FILE}: token {last!r} has id {ids[last]}, but the model's embedding has "
            f"{rows} rows."
        )
    tokens = [f"<row {row}>" for row in range(rows)]
    for token, id in ids.items():
        tokens[id] = token
    return tuple(tokens)


def _longest_stretch(size: int, apart: set[int]) -> tuple[int, int]:
    """Longest half-open range of ids below ``size`` that holds none of ``apart``."""
    borders = [-1, *sorted(apart), size]
    stretches = [(low + 1, high) for low, high in pairwise(borders) if low < high]
    return max(stretches, key=lambda stretch: stretch[1] - stretch[0])
