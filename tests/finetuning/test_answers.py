"""Agreement of answers; expected values worked out by hand from the official scripts' rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.finetuning.answers import AnswerMetric, answer_scores


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "f1"),
    [
        pytest.param("The Eiffel Tower", ["eiffel tower."], 1, 1, id="articles-case-and-signs"),
        pytest.param("tower of Paris", ["Eiffel Tower"], 0, 2 / 5, id="one-common-word"),
        pytest.param("in 1889", ["1888", "1889"], 0, 2 / 3, id="best-of-the-references"),
        pytest.param("dog dog", ["dog"], 0, 2 / 3, id="words-as-multisets"),
        pytest.param("", [], 1, 1, id="rightly-no-answer"),
        pytest.param("Paris", [], 0, 0, id="answer-where-there-is-none"),
        pytest.param("", ["Paris"], 0, 0, id="no-answer-where-there-is-one"),
    ],
)
def test_squad_scores(prediction: str, references: list[str], exact: float, f1: float) -> None:
    assert answer_scores(prediction, references, "squad") == pytest.approx((exact, f1))


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "f1"),
    [
        pytest.param("光荣和ω-force", ["光荣和ωforce"], 1, 1, id="hyphen-means-nothing"),
        pytest.param("《三国志》", ["三国志"], 1, 1, id="quotation-marks-mean-nothing"),
        pytest.param("光荣公司", ["光荣"], 0, 2 * 2 / 6, id="run-of-two-of-four-and-two"),
        # The longest common run counts, not all common characters: 三国 and 志 are parted.
        pytest.param("三国大志", ["三国志"], 0, 2 * 2 / 7, id="only-the-longest-run"),
        pytest.param("2008 年", ["2008年"], 0, 1, id="a-number-is-one-segment"),
        # Words of other scripts count whole, with the signs that NLTK leaves inside.
        pytest.param("3.5", ["3.6"], 0, 0, id="decimals-are-whole"),
        pytest.param("1,200", ["1,300"], 0, 0, id="thousands-are-whole"),
        pytest.param("1,200人", ["1,200"], 0, 2 * 1 / 3, id="a-number-and-a-character"),
        pytest.param("约3.5%", ["3.5%。"], 0, 2 * 2 / 5, id="a-percent-sign-stands-apart"),
        pytest.param("Windows XP.", ["windows xp"], 0, 2 * 2 / 5, id="a-full-stop-at-the-end"),
        pytest.param("u.s.a", ["u.s.b"], 0, 0, id="abbreviations-are-whole"),
        pytest.param("a,b", ["a"], 0, 2 * 1 / 4, id="a-comma-parts-letters"),
        pytest.param("jpop", ["jrock"], 0, 0, id="latin-words-are-whole"),
        pytest.param("北京", ["上海", "北京"], 1, 1, id="best-of-the-references"),
        pytest.param("北京", ["上海"], 0, 0, id="nothing-in-common"),
    ],
)
def test_cmrc_scores(prediction: str, references: list[str], exact: float, f1: float) -> None:
    assert answer_scores(prediction, references, "cmrc2018") == pytest.approx((exact, f1))


@given(
    st.text(alphabet="ab 三国.", max_size=12),
    st.text(alphabet="ab 三国.", max_size=12),
    st.sampled_from(["squad", "cmrc2018"]),
)
def test_f1_is_symmetric_and_between_0_and_1(first: str, second: str, metric: AnswerMetric) -> None:
    _, f1 = answer_scores(first, [second], metric)
    assert 0 <= f1 <= 1
    assert f1 == pytest.approx(answer_scores(second, [first], metric)[1])
