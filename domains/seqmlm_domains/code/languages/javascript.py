"""JavaScript with JSX, and the rules that TypeScript shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from seqmlm_domains.code.languages.built_in_names import JAVASCRIPT_NAMES
from seqmlm_domains.code.languages.javascript_words import (
    JOINING_WORDS,
    KEYWORDS,
    PLACES,
    SOFT_KEYWORDS,
)
from seqmlm_domains.code.languages.jsx import JsxScanner
from seqmlm_domains.code.languages.language import (
    ANY_FIELD,
    INHERIT,
    NO_TYPES,
    ImportRules,
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
PACKAGE_FILE: Final = "index"
NAME_SIGNS: Final = r"\.#?|@"
ELEMENT_SIGNS: Final = (
    r"(?:^|[^\w\s$)\]\"'`]|\b(?:await|case|default|do|else|in|of|return|typeof|yield))\s*<|</"
)
IMPORT_STATEMENT: Final = (
    r"import\b[^'\";=]*['\"][^'\"\n]*['\"]|"
    r"(?:const|let|var)\b[^;=]*=\s*(?:await\s+)?(?:require|import)\s*\([^)\n]*\)"
)
EXCEPTION_PLACES: Final = ("throw new",)
ANNOUNCED: Final[Mapping[str, Role]] = {
    "import": Role.IMPORT,
    "function": Role.FUNCTION,
    "class": Role.CLASS,
}

VALUES: Final = {
    "variable_declarator": ("value", "name"),
    "assignment_expression": ("right", "left"),
}
WHOLES: Final = {"member_expression": "property", "call_expression": "function"}
CALLS: Final = frozenset({"call_expression"})
CONSTRUCTIONS: Final = {"new_expression": "constructor"}
IMPORTS: Final = ImportRules(
    modules={
        **dict.fromkeys(("import_statement", "export_statement"), "source"),
        "import_require_clause": "source",
    },
    aliases={
        **dict.fromkeys(("import_specifier", "export_specifier"), ("name", "alias")),
        "pair_pattern": ("key", "value"),
    },
    patterns=frozenset({"pair_pattern"}),
    namespaces=frozenset({"namespace_import", "namespace_export", "import_require_clause"}),
    defaults=frozenset({"import_clause"}),
    exports=frozenset({"export_specifier", "namespace_export"}),
    wildcards=frozenset({"*"}),
    loaders=frozenset({b"require", b"import"}),
    own_modules=("exports", "module.exports"),
)
WRAPPERS: Final = frozenset(
    {"parenthesized_expression", "non_null_expression", "satisfies_expression"}
)
CHOICES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "binary_expression": {
        **dict.fromkeys(("||", "??"), ("left", "right")),
        "&&": ("right",),
    },
    "ternary_expression": {"ternary_expression": ("consequence", "alternative")},
}
INDEXED: Final = {"subscript_expression": "object"}
AWAITING: Final = frozenset({"await_expression"})
ARRAY_CLASS: Final = b"Array"
LITERALS: Final = {"string": b"string", "template_string": b"string", "array": ARRAY_CLASS}
LOOPS: Final = {"for_in_statement": ("right", "left")}
CALLBACKS: Final = {"arrow_function": ("parameter", "parameters")}

# Behind a sign or a word that an operand follows, or at the beginning of a line; elsewhere a slash
# divides, unless what it begins is asked to match. Bounded, so that a text full of signs that might
# begin one takes linear time.
_OPERAND_FOLLOWS = (
    *(r"[(,=:\[!&|?{};]", r"[(,=:\[!&|?{};] ", r"=>", "=> ", r"\n", r"[ \t\n][ \t]"),
    *(f"{word} " for word in ("return", "typeof", "case", "yield", "await", "else", "throw")),
)
_REGULAR_EXPRESSION_BODY = (
    r"/(?![/*>])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.){0,100}+\]){1,1000}+/[a-z]*"
)
_REGULAR_EXPRESSION = (
    rf"(?=/)(?:{'|'.join(f'(?<={before})' for before in _OPERAND_FOLLOWS)})"
    rf"{_REGULAR_EXPRESSION_BODY}|{_REGULAR_EXPRESSION_BODY}(?=\.(?:test|exec)\()"
)

_NESTED: Final = 3
"""Levels of templates and braces in the expressions of a template."""


def _unit(levels: int) -> str:
    """One sign of an expression in a template, or what is quoted or between braces in it."""
    deeper = f"|\\{{(?:{_unit(levels - 1)})*+\\}}|{_template(levels - 1)}`" if levels else ""
    return rf"[^{{}}`\"']|\"(?:[^\"\\\n]|\\.)*+\"|'(?:[^'\\\n]|\\.)*+'|[\"']{deeper}"


def _template(levels: int) -> str:
    """A template up to its end."""
    return rf"`(?:[^`\\$]|\\.|\$\{{(?:{_unit(levels)})*+\}}|\$)*+"


_HOLE = Hole(opening=r"\$\{", unit=_unit(_NESTED), closing="}")
_LITERAL = rf"{ORDINARY_STRING}|{_template(_NESTED)}`?|{_REGULAR_EXPRESSION}"

LEXICON: Final = Lexicon(
    comment=C_COMMENT,
    string=_LITERAL,
    word=r"[^\W\d]\w*(?:\$\w*)*|(?:\$\w*)+",
    sign=r"=>|\.\.\.|\?\.(?!\d)|\?:|\?\?=?|===?|!==?|&&=?|\|\|=?|\+\+|--|\*\*=?|>=|<=|[-+*/%&|^]=",
    keywords=KEYWORDS,
    soft_keywords=SOFT_KEYWORDS,
    joining_words=JOINING_WORDS,
    places=PLACES,
    interpolated="`",
    hole=_HOLE,
    find_texts=JsxScanner(_LITERAL).texts,
)

JAVASCRIPT = Language(
    name="javascript",
    import_statement=IMPORT_STATEMENT,
    suffixes=(".js", ".jsx", ".mjs", ".cjs"),
    load_grammar=_load_grammar,
    identifier_kinds=IDENTIFIER_KINDS,
    rules=RULES,
    kind_roles=KIND_ROLES,
    text_kinds=TEXT_KINDS,
    announced=ANNOUNCED,
    lexicon=LEXICON,
    name_signs=f"{NAME_SIGNS}|{ELEMENT_SIGNS}",
    package_file=PACKAGE_FILE,
    modules_are_strings=True,
    built_in=JAVASCRIPT_NAMES,
    has_elements=True,
    exception_places=EXCEPTION_PLACES,
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
        own_object="this",
        values={**VALUES, "field_definition": ("value", "property")},
        wholes=WHOLES,
        calls=CALLS,
        constructions=CONSTRUCTIONS,
        wrappers=WRAPPERS,
        imports=IMPORTS,
        choices=CHOICES,
        indexed=INDEXED,
        awaiting=AWAITING,
        literals=LITERALS,
        loops=LOOPS,
        callbacks=CALLBACKS,
    ),
)
