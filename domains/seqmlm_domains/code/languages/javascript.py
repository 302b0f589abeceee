"""JavaScript with JSX, and the rules that TypeScript shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from seqmlm_domains.code.languages.language import (
    ANY_FIELD,
    INHERIT,
    NO_TYPES,
    Inherited,
    Language,
    Rule,
)
from seqmlm_domains.code.languages.lexicon import C_COMMENT, ORDINARY_STRING, Hole, Lexicon
from seqmlm_domains.code.roles import Role


def _load_grammar() -> object:
    import tree_sitter_javascript

    return tree_sitter_javascript.language()


_DEFINES_A_FUNCTION = (
    *("function_declaration", "function_expression", "generator_function_declaration"),
    "generator_function",
)

IDENTIFIER_KINDS: Final = frozenset(
    {
        *("identifier", "property_identifier", "private_property_identifier"),
        *("shorthand_property_identifier", "shorthand_property_identifier_pattern"),
    }
)

RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    **{kind: {"name": Role.FUNCTION} for kind in _DEFINES_A_FUNCTION},
    # In an object it is one of the keys, and nothing that could be called by its name alone.
    "method_definition": {"name": Inherited(Role.FUNCTION)},
    "object": {ANY_FIELD: Role.KEYWORD},
    "class_declaration": {"name": Role.CLASS},
    "class": {"name": Role.CLASS},
    "variable_declarator": {"name": Role.VARIABLE},
    "field_definition": {"property": Role.VARIABLE},
    "assignment_expression": {"left": Role.VARIABLE},
    "augmented_assignment_expression": {"left": Role.VARIABLE},
    "for_in_statement": {"left": Role.VARIABLE},
    "formal_parameters": {ANY_FIELD: Role.PARAMETER},
    "arrow_function": {"parameter": Role.PARAMETER},
    "catch_clause": {"parameter": Role.PARAMETER},
    "object_pattern": {ANY_FIELD: INHERIT},
    "array_pattern": {ANY_FIELD: INHERIT},
    "rest_pattern": {ANY_FIELD: INHERIT},
    "pair_pattern": {"key": Role.KEYWORD, "value": INHERIT},
    "assignment_pattern": {"left": INHERIT},
    "object_assignment_pattern": {"left": INHERIT},
    "call_expression": {"function": Role.CALL},
    "new_expression": {"constructor": Role.CALL},
    "pair": {"key": Role.KEYWORD},
    "jsx_attribute": {ANY_FIELD: Role.KEYWORD},
    "jsx_namespace_name": {ANY_FIELD: INHERIT},
    "import_clause": {ANY_FIELD: Role.IMPORT},
    "namespace_import": {ANY_FIELD: Role.IMPORT},
    "import_specifier": {"name": Role.IMPORT, "alias": Role.IMPORT},
}

KIND_ROLES: Final[Mapping[str, Role]] = {"shorthand_property_identifier": Role.READ}
TEXT_KINDS: Final = frozenset({"jsx_text", "regex_pattern"})
ANNOUNCED: Final[Mapping[str, Role]] = {
    "import": Role.IMPORT,
    "function": Role.FUNCTION,
    "class": Role.CLASS,
}

_KEYWORDS = (
    "break case catch class const continue debugger default delete do else enum export extends "
    "false finally for function if import in instanceof new null return super switch this throw "
    "true try typeof var void while with yield await async of let static as from get set"
)

# Bounded, so that a text full of signs that might begin one takes linear time.
_REGULAR_EXPRESSION = (
    r"(?:(?<=[(,=:\[!&|?{};])|(?<=[(,=:\[!&|?{};] ))"
    r"/(?![/*])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.){0,60}+\]){1,120}+/[a-z]*"
)

# Of an expression in a template: braces and templates in it, but none in those.
_HOLE = Hole(
    opening=r"\$\{",
    unit=r"[^{}`]|\{[^{}`]*+\}|`(?:[^`\\]|\\.)*+`",
    closing="}",
)

_TEMPLATE = rf"`(?:[^`\\$]|\\.|\$\{{(?:{_HOLE.unit})*+\}}|\$)*+`?"

LEXICON: Final = Lexicon(
    comment=C_COMMENT,
    string=rf"{ORDINARY_STRING}|{_TEMPLATE}|{_REGULAR_EXPRESSION}",
    word=r"[^\W\d]\w*(?:\$\w*)*|(?:\$\w*)+",
    sign=r"=>|\.\.\.|\?\.|\?\?=?|===?|!==?|&&=?|\|\|=?|\+\+|--|\*\*=?|>=|<=|[-+*/%&|^]=",
    keywords=frozenset(_KEYWORDS.split()),
    interpolated="`",
    hole=_HOLE,
)

JAVASCRIPT = Language(
    name="javascript",
    suffixes=(".js", ".jsx", ".mjs", ".cjs"),
    load_grammar=_load_grammar,
    identifier_kinds=IDENTIFIER_KINDS,
    rules=RULES,
    kind_roles=KIND_ROLES,
    text_kinds=TEXT_KINDS,
    announced=ANNOUNCED,
    lexicon=LEXICON,
    types=replace(
        NO_TYPES,
        scopes=frozenset(
            {
                *(*_DEFINES_A_FUNCTION, "method_definition", "arrow_function", "class_body"),
                *("statement_block", "for_statement", "for_in_statement", "catch_clause"),
                "switch_body",
            }
        ),
        class_scopes=frozenset({"class_body"}),
    ),
)
