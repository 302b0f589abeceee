"""Runs a learned vocabulary: source text to ids and back, exactly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from seqmlm.vocabulary import SpecialTokens, Vocabulary
from seqmlm_domains.code.pieces import BLANKS, IMPLIED, WORD_BYTES, cut
from seqmlm_domains.code.vocabulary_training import (
    CONTINUATION,
    END,
    MASK,
    PADDING,
    SPECIAL_TOKENS,
    START,
    UNKNOWN,
)

BoolArray = npt.NDArray[np.bool_]

_PIECES_KEPT: Final = 1_000_000  # a large repository has some 100,000


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of several texts, one after the other.

    Args:
        ids: uint32 ``[sum(lengths)]``.
        offsets: int32 ``[sum(lengths), 2]``, in each text the first character and one past the
            last. Tokens that are bytes of one character share its offsets.
        lengths: int64 ``[texts]``.
    """

    ids: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]


class CodeTokenizer:
    """A learned vocabulary of source code; texts have ``\\n`` line ends.

    Args:
        content: of a ``tokenizer.json`` that
            :func:`~seqmlm_domains.code.vocabulary_training.train` made.
        domain: name of the vocabulary's range.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """

    def __init__(self, content: str, *, domain: str) -> None:
        ids: dict[str, int] = json.loads(content)["model"]["vocab"]
        tokens = tuple(sorted(ids, key=ids.__getitem__))
        if tokens[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
            raise ValueError("it is no vocabulary of source code")
        self.content = content
        self._tokenizer = Tokenizer.from_str(content)
        self.vocabulary = Vocabulary(
            tokens=tokens,
            special=SpecialTokens(
                padding=ids[PADDING],
                unknown=ids[UNKNOWN],
                start=ids[START],
                end=ids[END],
                mask=ids[MASK],
            ),
            ranges={domain: (len(SPECIAL_TOKENS), len(tokens))},
        )
        self._forget()
        byte_of = _byte_of_character()
        self._bytes = [
            b""
            if token in SPECIAL_TOKENS
            else bytes(byte_of[character] for character in token.removeprefix(CONTINUATION))
            for token in tokens
        ]
        self._begins_piece = [not token.startswith(CONTINUATION) for token in tokens]
        self._ends_line = np.array([b"\n" in text for text in self._bytes])
        self._is_blank = np.array([not text.strip(BLANKS.encode()) for text in self._bytes])

    def _forget(self) -> None:
        """Empty the table of pieces: characters, ids and offsets of each, one after the other."""
        self._entry_of: dict[str, int] = {}
        self._firsts = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self._widths = np.zeros(0, np.int64)
        self._ids = np.zeros(0, np.uint32)
        self._offsets = np.zeros((0, 2), np.int32)

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Return the ids of texts and where they stand; about 10 MB a second on one core."""
        of_texts = [cut(text) for text in texts]
        num_pieces = np.fromiter(map(len, of_texts), np.int64, len(texts))
        pieces = list(chain.from_iterable(of_texts))
        self._learn(pieces)
        entries = np.fromiter(map(self._entry_of.__getitem__, pieces), np.int64, len(pieces))
        is_written = entries != self._entry_of.get(IMPLIED, -1)
        ends = np.cumsum(num_pieces)
        is_written[(ends - num_pieces)[num_pieces > 0]] = True
        is_written[(ends - 1)[num_pieces > 0]] = True
        widths = self._widths[entries]
        text_of_piece = np.repeat(np.arange(len(texts)), num_pieces)
        text_starts = np.cumsum([0, *map(len, texts[:-1])]) if texts else np.zeros(0, np.int64)
        piece_starts = np.cumsum(widths) - widths - text_starts[text_of_piece]
        entries, piece_starts = entries[is_written], piece_starts[is_written]
        counts = self._counts[entries]
        places = _ranges(self._firsts[entries], counts)
        offsets = self._offsets[places] + np.repeat(piece_starts, counts)[:, None]
        lengths = np.bincount(text_of_piece[is_written], weights=counts, minlength=len(texts))
        return Tokens(self._ids[places], offsets.astype(np.int32), lengths.astype(np.int64))

    def _learn(self, pieces: Sequence[str]) -> None:
        """Encode the pieces that were not met before; most were."""
        if len(self._entry_of) > _PIECES_KEPT:
            self._forget()
        new = [piece for piece in dict.fromkeys(pieces) if piece not in self._entry_of]
        if not new:
            return
        encoded = self._tokenizer.encode_batch(new, add_special_tokens=False)
        counts = np.fromiter(map(len, encoded), np.int64, len(encoded))
        ids = np.fromiter(chain.from_iterable(item.ids for item in encoded), np.uint32)
        flat = chain.from_iterable(chain.from_iterable(item.offsets for item in encoded))
        offsets = np.fromiter(flat, np.int32).reshape(-1, 2)
        known = len(self._entry_of)
        self._entry_of |= {piece: known + number for number, piece in enumerate(new)}
        self._firsts = np.concatenate([self._firsts, len(self._ids) + np.cumsum(counts) - counts])
        self._counts = np.concatenate([self._counts, counts])
        widths = np.fromiter(map(len, new), np.int64, len(new))
        self._widths = np.concatenate([self._widths, widths])
        self._ids = np.concatenate([self._ids, ids])
        self._offsets = np.concatenate([self._offsets, offsets])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; special tokens are left out, and what is no UTF-8 is U+FFFD."""
        texts = self._bytes
        parts: list[bytes] = []
        after_word = False
        for id in ids:
            text = texts[id]
            if not text:
                continue
            if after_word and self._begins_piece[id] and text[0] in WORD_BYTES:
                parts.append(b" ")
            parts.append(text)
            after_word = text[-1] in WORD_BYTES
        return b"".join(parts).decode(errors="replace")

    def line_starts(self, ids: npt.NDArray[np.unsignedinteger[Any]]) -> BoolArray:
        """Say which tokens are the first of a line that is not white space, bool ``[n]``.

        The indentation belongs to the line before. The first token always counts.
        """
        ends_line = self._ends_line[ids]
        line = np.cumsum(ends_line) - ends_line  # what ends a line is the last of its token
        visible = np.flatnonzero(~self._is_blank[ids])
        starts = np.zeros(len(ids), np.bool_)
        starts[visible] = np.diff(line[visible], prepend=0) > 0
        starts[:1] = True
        return starts


def _ranges(firsts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers ``first, first + 1, ...`` of each range, ``count`` of them."""
    skipped = np.cumsum(counts) - counts
    return np.repeat(firsts - skipped, counts) + np.arange(int(counts.sum()))


def _byte_of_character() -> dict[str, int]:
    """The byte that each character of GPT-2's byte alphabet stands for."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + number): byte for number, byte in enumerate(others)
    }
