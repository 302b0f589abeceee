"""What the lexer calls a name is what the parser calls an identifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqmlm_domains.code.languages import LANGUAGES, language_of
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import find_identifiers

REPOSITORY = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for pattern in ("editors/page/src/*.js", "editors/vscode/*.js", "domains/**/*.py")
    for path in REPOSITORY.glob(pattern)
)

KEYWORDS = sorted(LANGUAGES["typescript"].lexicon.keywords)
SOFT_KEYWORDS = sorted(LANGUAGES["typescript"].lexicon.soft_keywords)
NOT_TOLD = {"in", "instanceof", "as"}
"""Of `static in` the words around do not tell which one is the name."""

PLACES_OF_ANY_WORD = {
    "a.{};": set(),
    "a?.{}(b);": set(),
    "b = {{{}: c}};": set(),
    "b = {{c, {}: d}};": set(),
    "b = {{c: d.{}}};": set(),
    "class A {{ static {}() {{ return b; }} }}": NOT_TOLD,
    "class A {{ get {}() {{ return b; }} }}": NOT_TOLD,
    "import {{{} as b}} from 'c';": {"typeof"},  # which types are imported with in Flow
    "interface A {{ {}?: B; c: D }}": {"abstract"},
    "x = <input {}='a' title={{b}} />;": {"export", "extends"},
}
"""And the words of which it does not hold."""

PLACES_OF_SOFT_KEYWORDS = (
    *("const {} = a;", "f({}, a);", "f(a, {});", "a = {} + b;", "({}) => b;", "a = [{}];"),
    *("b = {{{}}};", "function f({}: A) {{ return {}; }}", "for (const {} of a) {{ b; }}"),
)


def names(text: str, language: str) -> list[tuple[int, str]]:
    tokens = SourceTokens.of(text, language)
    pieces = np.flatnonzero(tokens.kinds == Kind.NAME).tolist()
    spans = [tokens.span(piece) for piece in pieces]
    return [(start, text[start:end]) for start, end in spans]


def identifiers(text: str, language: str) -> list[tuple[int, str]]:
    return [(start, text[start:end]) for start, end, _ in find_identifiers(text, language).tolist()]


@pytest.mark.parametrize(("place", "exceptions"), PLACES_OF_ANY_WORD.items())
def test_any_word_is_a_name_where_members_keys_and_attributes_stand(
    place: str, exceptions: set[str]
) -> None:
    texts = {word: place.format(word) for word in KEYWORDS + SOFT_KEYWORDS}
    different = {
        word for word, text in texts.items() if names(text, "tsx") != identifiers(text, "tsx")
    }
    assert different == exceptions


@pytest.mark.parametrize("place", PLACES_OF_SOFT_KEYWORDS)
def test_a_soft_keyword_is_a_name_where_a_value_stands(place: str) -> None:
    for word in SOFT_KEYWORDS:
        found = names(place.format(word, word), "typescript")
        assert word in {name for _, name in found}


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("typescript", "type A = string | B; let b: number; abstract class C implements D {}"),
        ("typescript", "const schema = z.object({type: z.string(), default: z.any()});"),
        ("typescript", "import type {A} from 'b'; import * as c from 'd'; export type {A};"),
        ("typescript", "import type * as e from 'f'; export {default} from 'g'; export default h;"),
        ("typescript", "class S { private readonly type: A; set(k: B) {} async delete(k: C) {} }"),
        ("typescript", "declare namespace A { function set(get: B): value is C; }"),
        ("typescript", "const a = b as const satisfies C; for (const of of list) set(type);"),
        ("typescript", "type K = {readonly [key in keyof T]: T[key] extends infer U ? U : never}"),
        ("typescript", "switch (a) { case b: c(); break; default: d(); }"),
        ("typescript", "async function f<T>(this: A): Promise<void> { await g(); return null; }"),
        ("javascript", "p.then(a => a).catch(b => b).finally(() => {}); m.delete(1); x.default;"),
        ("javascript", "const o = {get a() { return b; }, set a(c) {}, async d() {}, from, of};"),
        ("javascript", "async () => { for await (const a of b) yield_(a); }; let c;"),
        ("java", "sealed interface S permits A, B {} record Point(int x) { int record() {} }"),
        ("java", "class A { int permits, record; int f() { return record.yield + permits; } }"),
        ("python", "match x:\n    case Point(y=1) if z: pass\ntype X = match\ncase = type(x)\n"),
        ("python", "print(type if match else case, re.match(a), type is None)\nx = type\ny = 1\n"),
    ],
)
def test_a_word_is_a_keyword_by_its_place(language: str, text: str) -> None:
    assert names(text, language) == identifiers(text, language)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_names_and_identifiers_agree_in_real_sources(path: Path) -> None:
    text, language = path.read_text(encoding="utf-8"), language_of(path.name)
    assert language is not None
    found = [name for name in names(text, language.name) if name[1] != "__future__"]
    assert found == identifiers(text, language.name)


def test_a_word_that_is_both_is_two_words_of_the_text() -> None:
    tokens = SourceTokens.of("type A = B; a.type;", "typescript")
    kinds = [
        Kind(kind)
        for word, kind in zip(tokens.words, tokens.word_kinds.tolist(), strict=True)
        if word == "type"
    ]
    assert kinds == [Kind.KEYWORD, Kind.NAME]
