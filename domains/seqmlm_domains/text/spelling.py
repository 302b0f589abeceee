"""How a word of a table may be written in running text, as units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqmlm_domains.text.tokenizer import TextTokenizer

Unit = tuple[int, ...]

_SPELLINGS = 4


def spelled_units(tokenizer: TextTokenizer, words: Sequence[str]) -> list[tuple[Unit | None, ...]]:
    """Return four spellings of each word as token ids; about 10 microseconds each.

    As given, behind a blank (which some tokenizers make part of a word), and both with a first
    capital letter. A spelling that is not exactly one word of known tokens is None.

    Args:
        tokenizer: knows what a word is.
        words: without blanks around them.
    """
    texts = [
        blank + spelling
        for word in words
        for spelling in (word, word[:1].upper() + word[1:])
        for blank in ("", " ")
    ]
    tokens = tokenizer.encode(texts)
    low, high = tokenizer.vocabulary.ranges["text"]
    owners = np.repeat(np.arange(len(texts)), tokens.lengths)
    is_outside = (tokens.ids < low) | (tokens.ids >= high)
    is_word = np.repeat([bool(word.strip()) for word in words], _SPELLINGS)
    is_unit = is_word & (np.bincount(owners, weights=tokens.starts_word, minlength=len(texts)) == 1)
    is_unit &= np.bincount(owners, weights=is_outside, minlength=len(texts)) == 0
    ids = tokens.ids.tolist()
    ends = np.cumsum(tokens.lengths).tolist()
    units = [
        tuple(ids[start:end]) if single else None
        for start, end, single in zip([0, *ends], ends, is_unit.tolist(), strict=False)
    ]
    return [tuple(units[first : first + _SPELLINGS]) for first in range(0, len(units), _SPELLINGS)]
