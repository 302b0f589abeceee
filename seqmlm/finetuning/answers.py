"""How well a predicted answer agrees with the reference answers: SQuAD's and CMRC 2018's rules."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Literal

AnswerMetric = Literal["squad", "cmrc2018"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SQUAD_PUNCTUATION = str.maketrans("", "", string.punctuation)

_CMRC_PUNCTUATION = frozenset(
    "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"  # noqa: RUF001
)
"""Of the official script, which also lists a pair of dots that no single character equals."""

_CHINESE = "\u4e00-\u9fa5"
_APART = r";@#$%&?!()\[\]{}<>\""
_CMRC_SEGMENT = re.compile(
    # Letters, digits and other signs are one word, with a comma before a digit and a full stop
    # before anything: 1,200 and 3.5 and u.s are words. At the end of a word both stand alone.
    rf"[{_CHINESE}]|\.{{2,}}"
    rf"|(?:[^\s{_CHINESE}{_APART},.]|,(?=\d)|\.(?=[^\s{_CHINESE}{_APART},.]))+"
    r"|\S"
)
"""A Chinese character, a word, or a sign that NLTK sets apart."""


def answer_scores(
    prediction: str, references: Sequence[str], metric: AnswerMetric
) -> tuple[float, float]:
    """Return exact match (0 or 1) and F1 in [0, 1], the best over the reference answers.

    ``squad`` (arXiv 1606.05250, 1806.03822): without case, punctuation and articles; F1 over the
    words as multisets; the empty answer agrees with itself alone. ``cmrc2018`` (arXiv 1810.07366):
    without case and the script's punctuation; F1 from the longest common run of segments, a
    segment being a Chinese character or another word. The official script finds those other words
    with NLTK, this one by NLTK's rules for signs and numbers; NLTK also parts contractions
    (``it's``), here one word.

    Args:
        prediction: empty for "there is no answer".
        references: empty for a question without an answer.
        metric: whose rules.
    """
    exact, f1 = _SCORES[metric]
    true = list(references) or [""]
    return (
        max(exact(prediction, answer) for answer in true),
        max(f1(prediction, answer) for answer in true),
    )


def _squad_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_SQUAD_PUNCTUATION)).split()


def _squad_exact(prediction: str, answer: str) -> float:
    return float(_squad_words(prediction) == _squad_words(answer))


def _squad_f1(prediction: str, answer: str) -> float:
    predicted, true = _squad_words(prediction), _squad_words(answer)
    if not predicted or not true:
        return float(predicted == true)
    return _f1((Counter(predicted) & Counter(true)).total(), len(predicted), len(true))


def _cmrc_plain(text: str) -> str:
    return "".join(letter for letter in text.lower().strip() if letter not in _CMRC_PUNCTUATION)


def _cmrc_exact(prediction: str, answer: str) -> float:
    return float(_cmrc_plain(prediction) == _cmrc_plain(answer))


def _cmrc_f1(prediction: str, answer: str) -> float:
    predicted = _CMRC_SEGMENT.findall(_cmrc_plain(prediction))
    true = _CMRC_SEGMENT.findall(_cmrc_plain(answer))
    return _f1(_longest_common_run(predicted, true), len(predicted), len(true))


def _f1(common: int, predicted: int, true: int) -> float:
    return 2 * common / (predicted + true) if common else 0.0


def _longest_common_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest stretch that both have; time and memory as the product of lengths."""
    longest = 0
    previous = [0] * (len(second) + 1)
    for left in first:
        current = [0]
        for index, right in enumerate(second):
            current.append(previous[index] + 1 if left == right else 0)
        longest = max(longest, *current)
        previous = current
    return longest


_SCORES = {"squad": (_squad_exact, _squad_f1), "cmrc2018": (_cmrc_exact, _cmrc_f1)}
