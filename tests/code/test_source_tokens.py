"""Texts as tokens, without a parser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.source_tokens import RecentTexts, SourceTokens

SIGNS = st.text(st.sampled_from("ab1 \n\"'`#/*\\{}$()[]=.fr\U0001f600ß"), max_size=60)


@given(text=SIGNS, language=st.sampled_from(list(LANGUAGES)))
def test_every_character_is_in_one_piece(text: str, language: str) -> None:
    tokens = SourceTokens.of(text, language)
    spans = [tokens.span(piece) for piece in range(len(tokens.numbers))]
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)


@pytest.mark.parametrize(
    ("language", "text", "names"),
    [
        ("python", "def f(x: int) -> None: return x.y  # z", "f x int y"),
        ("python", "f'{a.b!r:>{w}} {{no}}' + r'no'", "a b w"),
        ("java", "class A<T> { int n = s.length(); /* no */ char c = 'n'; }", "A T n s length c"),
        ("typescript", "const a = /no/g.test(b) ? `no ${c.d} no` : x?.y;", "a test b c d x y"),
        ("typescript", "`${a ? `no ${b}` : f({c})} no` + d", "a b f c d"),
        ("typescript", "`${a.map(b => `${b ? `${c['}']}` : {d: {e}}}`)}` + f", "a map b c d e f"),
        ("python", "f'{ {a: b for c in d} }' + e", "a b c d e"),
        ("python", "f\"{'no' if a else f'{b'}\" + c", "a b c"),
        ("python", 'f"{a["no"] + f"{b:{c}}"!r}" + d', "a b c d"),
        ("python", 'f"{", ".join(a)}" + b', "join a b"),
        ("python", "f'{a[b:c]} {d != e:no}'", "a b c d e"),
        ("python", "f'no {a(b\nc", "a b c"),
        ("python", "f'{a[\"no\"]:no}'", "a"),
        ("javascript", "let $a = b / c / d;", "$a b c d"),
        ("javascript", "if (a) return /no`no/.test(b);", "a test b"),
        ("javascript", "if (a) /no['\"]no/.exec(b); c", "a exec b c"),
        ("javascript", "x = [\n  /no'/i,\n  /[no/`]/,\n] / a", "x a"),
        ("javascript", "a = (b + c) / d / e.f; g", "a b c d e f g"),
        ("tsx", "a = <p>It's `no` // no</p> / b", "a p b"),
        ("tsx", "a = <A {...b} /></A>", "a A b"),
    ],
)
def test_names_are_what_a_reader_would_call_so(language: str, text: str, names: str) -> None:
    tokens = SourceTokens.of(text, language)
    found = [tokens.words[n] for n in np.flatnonzero(tokens.word_kinds == Kind.NAME).tolist()]
    assert found == names.split()


@pytest.mark.parametrize("language", ["javascript", "typescript", "tsx"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("class A { #b = 1; // no\n c() { /* no */ } }", id="field first"),
        pytest.param("/* no */ class A { #b = 1; // no\n c() { } }", id="comment first"),
    ],
)
def test_the_sign_of_a_private_field_is_code_and_comments_are_not(text: str, language: str) -> None:
    tokens = SourceTokens.of(text, language)
    code = [tokens.words[number] for number in tokens.code(0, len(tokens.numbers)).tolist()]
    assert " ".join(code) == "class A { # b = <num> ; c ( ) { } }"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("(" * 100_000, id="brackets"),
        pytest.param('"' * 99_999, id="quotes"),
        pytest.param("'''" + "a" * 100_000, id="open literal"),
        pytest.param("`${" * 30_000, id="open templates"),
        pytest.param("/*" * 50_000, id="open comments"),
        pytest.param("[/" * 9_000, id="slashes"),
        pytest.param("<a>" * 10_000 + "</b>" * 10_000, id="elements that are never closed"),
        pytest.param("<a>{" * 10_000 + "</a>", id="elements in elements"),
        pytest.param('f"' + "'a{' " * 30_000, id="quotes and braces in an open literal"),
        pytest.param('f"' + "{(" * 30_000, id="brackets in an open literal"),
        pytest.param("`" + "${'a{` " * 20_000, id="quotes and braces in an open template"),
    ],
)
def test_hostile_text_is_cut_to_the_end(language: str, text: str) -> None:
    assert SourceTokens.of(text, language).ends[-1] == len(text)


def test_a_text_seen_again_is_not_cut_again() -> None:
    recent = RecentTexts(2)
    first = recent.tokens("a", "python")
    recent.tokens("b", "python")
    assert recent.tokens("a", "python") is first
    recent.tokens("c", "python")
    recent.tokens("d", "python")
    assert recent.tokens("a", "python") is not first
