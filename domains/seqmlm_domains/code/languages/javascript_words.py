"""Keywords of JavaScript and TypeScript, nearly all of which are names in some places."""

from __future__ import annotations

from typing import Final

from seqmlm_domains.code.languages.lexicon import Place


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KEYWORDS: Final = _words(
    "break case catch class const continue debugger default delete do else enum export extends "
    "false finally for function if import in instanceof new null return super switch this throw "
    "true try typeof undefined var void while with yield await"
)
SOFT_KEYWORDS: Final = _words("async of let static as from get set")
JOINING_WORDS: Final = _words("in instanceof of as from extends")

TYPES: Final = _words("any boolean never number object string symbol unknown")
"""Keywords of TypeScript where a type stands."""

_LITERAL_TYPES: Final = _words("false null this true undefined void")
TYPE_KEYWORDS: Final = KEYWORDS | TYPES
TYPE_SOFT_KEYWORDS: Final = SOFT_KEYWORDS | _words(
    "abstract asserts declare implements infer interface is keyof namespace override "
    "private protected public readonly satisfies type unique"
)
_MODIFIERS: Final = _words(
    "abstract async declare get override private protected public readonly set static"
)
_ALL: Final = TYPE_KEYWORDS | TYPE_SOFT_KEYWORDS

PLACES: Final = (
    Place(is_name=True, words=_ALL, before=_words(". ?.")),
    # Keys, members and parameters: `{string: 1, in?: 2}`.
    Place(is_name=False, words=_words("default"), before=_words("; } export")),
    Place(is_name=False, words=_words("this"), before=_words("("), behind=_words(":")),
    Place(is_name=True, words=_ALL, before=_words("{ , ( ;"), behind=_words(":")),
    Place(is_name=True, words=_ALL, behind=_words("?:")),
    Place(
        is_name=False, words=TYPES | _LITERAL_TYPES, before=_words(": ?: | & < => as is extends")
    ),
    # Attributes of JSX, fields and parameters with a value.
    Place(is_name=False, words=_words("export"), behind=_words("=")),
    Place(is_name=True, words=_ALL, behind=_words("=")),
    # Members of classes, and functions.
    Place(is_name=False, words=_words("function import"), before=_words("async")),
    Place(is_name=False, words=_words("new"), before=_words("abstract")),
    Place(is_name=True, words=_ALL, before=_MODIFIERS, behind=_words("( < ; ! :")),
    Place(
        is_name=True,
        words=(TYPE_SOFT_KEYWORDS | TYPES) - _words("as satisfies"),  # `as const satisfies A`
        before=_words("function const let var class interface enum namespace"),
    ),
    # Words that take a bracket as keywords; all others are called by it.
    Place(
        is_name=False,
        words=_words(
            "as async await case catch delete do else extends for function if import in infer "
            "instanceof is keyof new of readonly return satisfies super switch this throw typeof "
            "void while yield"
        ),
        behind=_words("("),
    ),
    Place(is_name=True, words=_ALL, behind=_words("(")),
    Place(
        is_name=False,
        words=_words("as async get infer is keyof let of readonly satisfies set static"),
        behind=_words("["),
    ),
    # Specifiers of imports and exports; `import type * as a` begins with none.
    Place(is_name=True, words=_ALL, before=_words("{ ,"), behind=_words("as")),
    Place(is_name=True, words=_words("default"), before=_words("{ , as")),
    Place(is_name=False, words=_MODIFIERS, behind=_words("as from of is extends *")),
    Place(is_name=False, words=_words("type"), before=_words("import export"), behind=_words("*")),
)
"""Of both languages: JavaScript has no keywords but its own."""

TYPE_PLACES: Final = (
    *PLACES,
    Place(is_name=True, words=TYPES, behind=_words(". ?. in instanceof of as")),
    Place(is_name=False, words=TYPES, behind=_words("> | & extends")),
    Place(
        is_name=True,
        words=TYPES,
        before=_words("( { = , ! + - * / return throw case await typeof"),
    ),
)
"""Of TypeScript, which its types are added to."""
