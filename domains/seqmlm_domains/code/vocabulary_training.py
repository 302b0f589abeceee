"""Learns the sub-words of source code: byte-level BPE inside the pieces of :mod:`.pieces`.

Tokens that go on with a piece are marked, as in WordPiece, so that two words that meet can be told
from one. All 512 bytes that begin or continue a piece are tokens: nothing is unknown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.code.pieces import cut

PADDING, UNKNOWN, START, END, MASK = SPECIAL_TOKENS = (
    *("<|padding|>", "<|unknown|>", "<|start|>", "<|end|>", "<|mask|>"),
)
"""Nothing that a program of these languages holds outside its strings."""

CONTINUATION: Final = "\N{UNDERTIE}"
"""Before a token that does not begin a piece; no character of the byte alphabet."""

BYTE_ALPHABET: Final = tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))
SMALLEST_VOCABULARY: Final = len(SPECIAL_TOKENS) + 2 * len(BYTE_ALPHABET) + 1
LARGEST_VOCABULARY: Final = 2**24

_PIECES_AT_ONCE: Final = 10_000


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


class PieceCounts:
    """How often each piece occurs in some texts; its memory grows with the different ones."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Count the pieces of a text with ``\\n`` line ends."""
        self._counts.update(cut(text))

    @property
    def any_visible(self) -> bool:
        """Whether any piece is more than white space."""
        return any(piece.strip() for piece in self._counts)

    def batches(self) -> Iterator[list[str]]:
        """Yield every piece as often as it occurs, in the alphabet of bytes.

        Without those of a single byte, which hold no pair to merge; so it plays no part which of
        them are implied.
        """
        alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        batch: list[str] = []
        for piece, count in self._counts.items():
            ((written, _),) = alphabet.pre_tokenize_str(piece)
            while count and len(written) > 1:
                taken = min(count, _PIECES_AT_ONCE - len(batch))
                batch += [written] * taken
                count -= taken
                if len(batch) == _PIECES_AT_ONCE:
                    yield batch
                    batch = []
        yield batch


def train(counts: PieceCounts, *, vocabulary_size: int) -> str:
    """Learn a vocabulary; about 10 MB of source a second on one core, and a second for merges.

    Args:
        counts: of the pieces of all texts.
        vocabulary_size: most tokens, special tokens and bytes included.

    Returns:
        A tokenizer in the form of the library; equal counts and sizes give equal ones.

    Raises:
        DataError: the texts hold nothing but white space.
    """
    if not counts.any_visible:
        raise DataError("No vocabulary can be learned: the data hold nothing but white space.")
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix=CONTINUATION))
    # The library numbers marked characters in hash order unless they come with the specials.
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[*SPECIAL_TOKENS, *(CONTINUATION + byte for byte in BYTE_ALPHABET)],
        initial_alphabet=list(BYTE_ALPHABET),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    tokenizer.train_from_iterator(counts.batches(), trainer)
    # Only now: the pieces come in the alphabet of bytes, which is most of the work.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    content = json.loads(tokenizer.to_str())
    # Nothing in a source text is a special token, whatever it looks like.
    content["added_tokens"] = []
    return json.dumps(content, ensure_ascii=False)
