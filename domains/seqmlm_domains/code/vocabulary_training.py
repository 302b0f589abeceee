"""Learns the sub-words of source code: byte-level BPE inside the pieces of :mod:`.pieces`.

Tokens that go on with a piece are marked, as in WordPiece, so that two words that meet can be told
from one. All 512 bytes that begin or continue a piece are tokens: nothing is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.code.pieces import cut, is_implied

PADDING, UNKNOWN, START, END, MASK = SPECIAL_TOKENS = (
    *("<|padding|>", "<|unknown|>", "<|start|>", "<|end|>", "<|mask|>"),
)
"""Nothing that a program of these languages holds outside its strings."""

CONTINUATION: Final = "\N{UNDERTIE}"
"""Before a token that does not begin a piece; no character of the byte alphabet."""

BYTE_ALPHABET: Final = tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))
SMALLEST_VOCABULARY: Final = len(SPECIAL_TOKENS) + 2 * len(BYTE_ALPHABET) + 1
LARGEST_VOCABULARY: Final = 2**24


def check_vocabulary_size(size: int) -> None:
    """Refuse a size that cannot be learned.

    Raises:
        ConfigError: there is no room beside the special tokens and bytes, or it is too large.
    """
    if type(size) is not int or not SMALLEST_VOCABULARY <= size <= LARGEST_VOCABULARY:
        raise ConfigError(
            f"vocabulary_size = {size!r}: it is a whole number from {SMALLEST_VOCABULARY} (special "
            f"tokens and bytes) to {LARGEST_VOCABULARY}."
        )


def train(texts: Iterable[str], *, vocabulary_size: int) -> str:
    """Learn a vocabulary; about 2 MB of source a second on one core.

    Args:
        texts: with ``\\n`` line ends.
        vocabulary_size: most tokens, special tokens and bytes included.

    Returns:
        A tokenizer in the form of the library; equal texts and sizes give equal ones.

    Raises:
        DataError: the texts hold nothing but white space.
    """
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix=CONTINUATION))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    # The library numbers marked characters in hash order unless they come with the specials.
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[*SPECIAL_TOKENS, *(CONTINUATION + byte for byte in BYTE_ALPHABET)],
        initial_alphabet=list(BYTE_ALPHABET),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    seen = _Pieces(texts)
    tokenizer.train_from_iterator(seen, trainer)
    if not seen.any_visible:
        raise DataError("No vocabulary can be learned: the data hold nothing but white space.")
    content = json.loads(tokenizer.to_str())
    # Nothing in a source text is a special token, whatever it looks like.
    content["added_tokens"] = []
    return json.dumps(content, ensure_ascii=False)


class _Pieces:
    """The written pieces of each text, and whether any of them is more than white space."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.any_visible = False

    def __iter__(self) -> Iterator[list[str]]:
        for text in self._texts:
            self.any_visible = self.any_visible or bool(text.strip())
            pieces = cut(text)
            yield [piece for i, piece in enumerate(pieces) if not is_implied(pieces, i)]
