"""Chinese words, which the text itself does not show: where jieba puts their borders."""

from __future__ import annotations

import logging
import re
import warnings
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from seqmlm.errors import ConfigError

HAN: Final = (
    r"\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
"""Chinese characters, as the inside of a regular expression's brackets."""

_HAN_PAIR: Final = re.compile(f"(?<=[{HAN}])[{HAN}]")


def continues_word(text: str) -> npt.NDArray[np.bool_]:
    """Say of each character whether it continues the Chinese word of the one before it.

    Shape bool ``[characters]``; True only between two Chinese characters. About 1 MB a
    second, after a second of loading jieba's dictionary.

    Raises:
        ConfigError: jieba is not installed.
    """
    continues = np.zeros(len(text), np.bool_)
    second = [match.start() for match in _HAN_PAIR.finditer(text)]
    if second:
        continues[second] = True
        lengths = [len(word) for word in _segmenter().cut(text)]
        borders = np.cumsum(lengths[:-1], dtype=np.int64)
        continues[borders] = False
    return continues


@cache
def _segmenter() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in its source, when first compiled
            import jieba
    except ModuleNotFoundError as error:
        if error.name != "jieba":
            raise
        raise ConfigError(
            "domain.chinese_units is 'word', which needs jieba: pip install 'seqmlm[chinese]'."
        ) from error
    jieba.setLogLevel(logging.WARNING)
    return jieba.Tokenizer()
