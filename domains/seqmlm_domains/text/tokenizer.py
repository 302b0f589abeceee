"""Runs a learned tokenizer: text to ids and words, ids to text, and its file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding as Encoded
from tokenizers import Tokenizer, processors

from seqmlm.errors import CheckpointError, ConfigError, DataError
from seqmlm.vocabulary import SpecialTokens, Vocabulary
from seqmlm_domains.text.chinese import HAN, continues_word
from seqmlm_domains.text.sentences import SentenceStarts
from seqmlm_domains.text.training import (
    CONTINUATION,
    END,
    MASK,
    PADDING,
    PARAGRAPH,
    SPECIAL_TOKENS,
    START,
    UNKNOWN,
    TokenizerSettings,
)

TOKENIZER_FILE: Final = "tokenizer.json"
SETTINGS_FILE: Final = "tokenizer_settings.json"

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
"""What an unknown token decodes to."""

_BLANK_BEGINS_TOKEN = ("bpe", "unigram")
_PIECE_CHARACTERS = 500  # the library takes half the time for short texts
_BLANK_BETWEEN_HAN = re.compile(f"(?<=[{HAN}]) (?=[{HAN}])")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of several texts, one after the other.

    Args:
        ids: uint32 ``[sum(lengths)]``.
        starts_word: bool ``[sum(lengths)]``; True for the first token of each word.
        lengths: int64 ``[texts]``.
    """

    ids: npt.NDArray[np.uint32]
    starts_word: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int64]


class TextTokenizer:
    """A learned tokenizer that takes nothing in the data for a special token.

    Args:
        content: of a ``tokenizer.json`` that
            :func:`~seqmlm_domains.text.training.train_tokenizer` made.
        settings: it was made with.
    """

    def __init__(self, content: str, settings: TokenizerSettings) -> None:
        self._content = content
        self.settings = settings
        self._kind = settings.kind
        self._mask = MASK
        parsed = json.loads(content)
        # A literal [MASK] of the data must stay text: the library would make a special of it.
        parsed["added_tokens"] = [item for item in parsed["added_tokens"] if not item["special"]]
        self._tokenizer = Tokenizer.from_str(json.dumps(parsed))
        tokens = _tokens_by_id(Tokenizer.from_str(content))
        high = len(tokens) - len(settings.reserved)
        self.vocabulary = Vocabulary(
            tokens=tokens,
            special=SpecialTokens(
                **{
                    name: tokens.index(token)
                    for name, token in (
                        *(("padding", PADDING), ("unknown", UNKNOWN), ("start", START)),
                        *(("end", END), ("mask", MASK)),
                    )
                }
            ),
            ranges={"text": (len(SPECIAL_TOKENS), high)},
        )

    def normalise(self, text: str) -> str:
        """Return what :meth:`decode` gives back for the ids of ``text``, if all are known."""
        return self.decode(self.encode([text]).ids.tolist())

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Return the ids of all texts, without special tokens, and where words start.

        Words are runs of letters and digits, signs (BPE: runs of signs), line ends, and Chinese
        characters or words; no token reaches across two of them, Chinese words excepted.
        """
        pieces = [list(self._pieces(text)) for text in texts]
        flat = list(chain.from_iterable(pieces))
        encoded = self._tokenizer.encode_batch(flat, add_special_tokens=False)
        ids, starts = self._arrays(flat, encoded)
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        ends = np.cumsum([len(parts) for parts in pieces], dtype=np.int64)
        totals = np.concatenate([[0], np.cumsum(lengths)])[np.concatenate([[0], ends])]
        return Tokens(ids, starts, np.diff(totals))

    def encode_typed(
        self, text: str
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
        """Return ids, word starts and offsets of a text in which the mask token is no text.

        A blank before a mask belongs to what is hidden, if tokens of this kind begin with blanks.

        Returns:
            uint32 ``[n]``, bool ``[n]``, and int32 ``[n, 2]``, counted in characters.

        Raises:
            DataError: the text holds half a surrogate pair.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"input: position {error.start + 1} is half a surrogate pair, not a character."
            ) from error
        ids: list[npt.NDArray[np.uint32]] = []
        starts: list[npt.NDArray[np.bool_]] = []
        offsets: list[npt.NDArray[np.int32]] = []
        position = 0
        segments = text.split(self._mask)
        for number, segment in enumerate(segments):
            is_before_mask = number < len(segments) - 1
            visible = self._before_mask(segment) if is_before_mask else segment
            encoded = self._tokenizer.encode(visible, add_special_tokens=False)
            part_ids, part_starts = self._arrays([visible], [encoded])
            ids.append(part_ids)
            starts.append(part_starts)
            offsets.append(np.array(encoded.offsets, np.int32).reshape(-1, 2) + position)
            position += len(segment)
            if is_before_mask:
                ids.append(np.array([self.vocabulary.special.mask], np.uint32))
                starts.append(np.ones(1, np.bool_))
                offsets.append(np.array([[position, position + len(self._mask)]], np.int32))
                position += len(self._mask)
        return np.concatenate(ids), np.concatenate(starts), np.concatenate(offsets)

    @cached_property
    def sentence_starts(self) -> SentenceStarts:
        """What finds the beginnings of sentences among tokens."""
        texts = (self.decode([id]) for id in range(len(self.vocabulary)))
        return SentenceStarts(texts, has_blanks=self._kind != "wordpiece")

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``: special tokens left out, unknown ones as U+FFFD."""
        low, high = self.vocabulary.ranges["text"]
        tokens = self.vocabulary.tokens
        parts: list[str] = []
        run: list[int] = []
        for id in [*ids, self.vocabulary.special.end]:
            if low <= id < high:
                run.append(id)
                continue
            if run:
                parts.append(self._decode_learned(run))
                run = []
            if id == self.vocabulary.special.unknown:
                parts.append(REPLACEMENT)
            elif id >= high:
                parts.append(tokens[id])
        if self._kind != "wordpiece":
            return "".join(parts)
        return " ".join(parts).replace(f" {PARAGRAPH} ", PARAGRAPH)

    def _decode_learned(self, ids: list[int]) -> str:
        if self._kind != "wordpiece":
            return str(self._tokenizer.decode(ids))
        tokens = (self.vocabulary.tokens[id] for id in ids)
        joined = "".join(
            token[len(CONTINUATION) :] if token.startswith(CONTINUATION) else f" {token}"
            for token in tokens
        )
        return _BLANK_BETWEEN_HAN.sub("", joined.removeprefix(" "))

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and beside it its checksum and the settings it was made with."""
        (folder / TOKENIZER_FILE).write_bytes(self._content.encode())
        (folder / SETTINGS_FILE).write_text(json.dumps(self._record(), indent=1) + "\n")

    def export(self, folder: Path, *, max_length: int | None, has_segments: bool) -> None:
        """Write what ``AutoTokenizer`` of Hugging Face loads; see :class:`Domain`."""
        (folder / TOKENIZER_FILE).write_bytes(self._exported().encode())
        names = {"pad": "padding", "unk": "unknown", "cls": "start", "sep": "end", "mask": "mask"}
        special = asdict(self.vocabulary.special)
        content: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        for their, our in names.items():
            content[f"{their}_token"] = self.vocabulary.tokens[special[our]]
        segments = ["token_type_ids"] if has_segments else []
        content["model_input_names"] = ["input_ids", *segments, "attention_mask"]
        if max_length is not None:
            content["model_max_length"] = max_length
        (folder / "tokenizer_config.json").write_text(json.dumps(content, indent=1) + "\n")

    def _exported(self) -> str:
        """``tokenizer.json`` for programs that know nothing of :meth:`encode_typed` and pairs."""
        tokenizer = Tokenizer.from_str(self._content)
        ids = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{START} $A {END}", pair=f"{START} $A {END} $B:1 {END}:1", special_tokens=ids
        )
        parsed = json.loads(tokenizer.to_str())
        for item in parsed["added_tokens"]:
            if item["content"] == MASK:
                item["lstrip"] = self._kind in _BLANK_BEGINS_TOKEN
        return json.dumps(parsed, ensure_ascii=False)

    def _record(self) -> dict[str, Any]:
        """What a file beside ``tokenizer.json`` tells of it."""
        return {"sha256": _sha256(self._content.encode()), "settings": _plain(self.settings)}

    def _before_mask(self, text: str) -> str:
        """A text before a mask without what is hidden along."""
        return text.removesuffix(" ") if self._kind in _BLANK_BEGINS_TOKEN else text

    def _pieces(self, text: str) -> Iterator[str]:
        return _pieces(text)

    def _arrays(
        self, texts: Sequence[str], encoded: Sequence[Encoded]
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        total = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(item.ids for item in encoded), np.uint32, total)
        words = chain.from_iterable(item.word_ids for item in encoded)
        starts = np.diff(np.fromiter(words, np.int64, total), prepend=-1) != 0
        starts[(np.cumsum(lengths) - lengths)[lengths > 0]] = True
        if self.settings.chinese_units == "word":
            first = 0
            for text, item, length in zip(texts, encoded, lengths.tolist(), strict=True):
                if length:
                    begins = np.array(item.offsets, np.int64)[:, 0]
                    starts[first : first + length] &= ~continues_word(text)[begins]
                first += length
        return ids, starts


def load_tokenizer(folder: Path, settings: TokenizerSettings) -> TextTokenizer:
    """Read what :meth:`TextTokenizer.save` wrote.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: the tokenizer was made with other settings.
    """
    content, record = read_saved(folder)
    made_with = record["settings"]
    for name, value in _plain(settings).items():
        if made_with.get(name) != value:
            raise ConfigError(
                f"{folder / TOKENIZER_FILE} was learned with {name} = {made_with.get(name)!r}, but "
                f"the configuration says {value!r}. Give the same [domain] options, or prepare the "
                "data again."
            )
    return TextTokenizer(content, settings)


def read_saved(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the two files of :meth:`TextTokenizer.save`: the tokenizer, and what is said of it.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    path = folder / TOKENIZER_FILE
    try:
        content = path.read_bytes()
        record: dict[str, Any] = json.loads((folder / SETTINGS_FILE).read_bytes())
        sha256, _ = record["sha256"], record["settings"]["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} holds no tokenizer that can be read ({error}).") from error
    if _sha256(content) != sha256:
        raise CheckpointError(f"{path} is damaged: its sha256 is not the recorded one.")
    return content.decode(), record


def _plain(settings: TokenizerSettings) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return values


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tokens_by_id(tokenizer: Tokenizer) -> tuple[str, ...]:
    ids: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    return tuple(sorted(ids, key=ids.__getitem__))


def _pieces(text: str) -> Iterator[str]:
    """Cut a text behind line ends, where no tokenizer of ours joins anything.

    Never inside a paragraph break, which is a token of WordPiece.
    """
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        end = text.find("\n", start + _PIECE_CHARACTERS) + 1
        if not end:
            break
        end += text.startswith("\n", end)
        yield text[start:end]
        start = end
    yield text[start:]
