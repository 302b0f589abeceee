"""Where a list opens of itself, and where it does not."""

from __future__ import annotations

import pytest

from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.serving.trigger_characters import TRIGGER_CHARACTERS, is_name_due


@pytest.mark.parametrize(
    ("language", "typed", "is_due"),
    [
        *((language, "x = a.", True) for language in LANGUAGES),
        ("python", "@", True),
        ("python", "    @", True),
        ("python", "x = a @", False),
        ("python", "def f(x:", False),
        ("python", "if a <", False),
        ("python", "a /", False),
        ("java", "run(Ship::", True),
        ("java", "void f(@", True),
        ("java", "a ? b :", False),
        ("java", "a <", False),
        ("java", "List<", False),
        ("java", "//", False),
        ("typescript", "this.#", True),
        ("typescript", "  @", True),
        ("typescript", "let x:", False),
        ("typescript", "#", False),
        ("typescript", "(<", False),
        ("tsx", "return <", True),
        ("tsx", "  <", True),
        ("tsx", "x = (<", True),
        ("tsx", "ready && <", True),
        ("tsx", "<p><", True),
        ("tsx", "<b></", True),
        ("tsx", "if (a <", False),
        ("tsx", "useState<", False),
        ("tsx", "f() <", False),
        ("tsx", "3 <", False),
        ("tsx", "a /", False),
        ("javascript", "default <", True),
        ("javascript", "mydefault <", False),
    ],
)
def test_a_list_opens_behind_signs_that_a_name_follows(
    language: str, typed: str, is_due: bool
) -> None:
    assert typed[-1] in TRIGGER_CHARACTERS
    for before in ("", "a\n"):
        assert is_name_due(f"{before}{typed}", len(before) + len(typed), language) == is_due


def test_what_is_behind_the_cursor_does_not_count() -> None:
    assert is_name_due("a.b", 2, "python")
    assert not is_name_due("a.b", 3, "python")
