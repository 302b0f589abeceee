"""Words of entities and relations as tokens: a byte-level BPE, which knows no unknown string."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class RaggedTokens:
    """Token lists of different lengths in two flat arrays (CSR).

    Args:
        flat: int32 ``[total]``.
        offsets: int64 ``[lists + 1]``.
    """

    flat: IntArray
    offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> RaggedTokens:
        """Join lists; any number, also empty ones."""
        lengths = np.array([len(part) for part in lists], np.int64)
        flat = np.fromiter((token for part in lists for token in part), np.int32, lengths.sum())
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> IntArray:
        return self.flat[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each list, int64 ``[lists]``."""
        return np.diff(self.offsets)

    def joined(self, other: RaggedTokens) -> RaggedTokens:
        """Return these lists and then those of ``other``."""
        return RaggedTokens(
            np.concatenate([self.flat, other.flat]),
            np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
        )


class NameTokenizer:
    """Splits names and descriptions into sub-words, numbered from 0.

    Args:
        serialised: what :meth:`to_json` gave.
    """

    def __init__(self, serialised: str) -> None:
        self._tokenizer = Tokenizer.from_str(serialised)

    @classmethod
    def train(cls, texts: Iterable[str], *, vocabulary_size: int, lowercase: bool) -> NameTokenizer:
        """Learn sub-words; a pure function of the texts and options.

        Args:
            texts: names and descriptions, each as often as it should count.
            vocabulary_size: sub-words at most; 256 of them are the single bytes.
            lowercase: whether case is dropped.
        """
        tokenizer = Tokenizer(models.BPE())
        steps: list[Any] = [normalizers.NFC()]
        tokenizer.normalizer = normalizers.Sequence(
            [*steps, normalizers.Lowercase()] if lowercase else steps
        )
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=max(vocabulary_size, 256),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    @property
    def tokens(self) -> list[str]:
        """The sub-words in the order of their numbers."""
        size = self._tokenizer.get_vocab_size()
        return [str(self._tokenizer.id_to_token(number)) for number in range(size)]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the numbers of each text's sub-words."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def normalised(self, texts: Sequence[str]) -> list[str]:
        """Return texts as they are before they are split: equal ones have equal sub-words."""
        normalizer = self._tokenizer.normalizer
        return [normalizer.normalize_str(text) for text in texts]

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of sub-words, without the space before it."""
        return str(self._tokenizer.decode(list(numbers))).strip()

    def to_json(self) -> str:
        """Return the tokenizer in the format of the library ``tokenizers``."""
        return str(self._tokenizer.to_str())
