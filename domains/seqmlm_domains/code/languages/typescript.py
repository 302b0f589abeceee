"""TypeScript and TSX: JavaScript with types, parsed by two grammars."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from seqmlm_domains.code.languages.built_in_names import TYPESCRIPT_NAMES
from seqmlm_domains.code.languages.javascript import (
    ANNOUNCED,
    ARRAY_CLASS,
    AWAITING,
    CALLBACKS,
    CALLS,
    CHOICES,
    CONSTRUCTIONS,
    ELEMENT_SIGNS,
    EXCEPTION_PLACES,
    IDENTIFIER_KINDS,
    IMPORT_STATEMENT,
    IMPORTS,
    INDEXED,
    KIND_ROLES,
    LEXICON,
    LITERALS,
    LOOPS,
    NAME_SIGNS,
    PACKAGE_FILE,
    RULES,
    TEXT_KINDS,
    VALUES,
    WHOLES,
    WRAPPERS,
)
from seqmlm_domains.code.languages.javascript_words import (
    TYPE_KEYWORDS,
    TYPE_PLACES,
    TYPE_SOFT_KEYWORDS,
)
from seqmlm_domains.code.languages.language import (
    ANY_FIELD,
    INHERIT,
    LAST_PART,
    ONLY_PART,
    Declaration,
    Language,
    TypeRules,
)
from seqmlm_domains.code.roles import Role


def _load_typescript() -> object:
    import tree_sitter_typescript

    return tree_sitter_typescript.language_typescript()


def _load_tsx() -> object:
    import tree_sitter_typescript

    return tree_sitter_typescript.language_tsx()


_DEFINES_A_TYPE = (
    *("abstract_class_declaration", "interface_declaration", "type_alias_declaration"),
    *("enum_declaration", "type_parameter", "internal_module", "module"),
)

_IDENTIFIER_KINDS: Final = IDENTIFIER_KINDS | {"type_identifier"}
_RULES: Final = {
    **RULES,
    **{kind: {"name": Role.CLASS} for kind in _DEFINES_A_TYPE},
    "function_signature": {"name": Role.FUNCTION},
    "method_signature": {"name": Role.FUNCTION},
    "abstract_method_signature": {"name": Role.FUNCTION},
    "public_field_definition": {"name": Role.VARIABLE},
    "property_signature": {"name": Role.VARIABLE},
    "enum_body": {"name": Role.VARIABLE},
    "enum_assignment": {"name": Role.VARIABLE},
    "required_parameter": {"pattern": Role.PARAMETER},
    "optional_parameter": {"pattern": Role.PARAMETER},
    "index_signature": {"name": Role.PARAMETER},
    "nested_identifier": {ANY_FIELD: INHERIT},
    "import_require_clause": {ANY_FIELD: Role.IMPORT},
    "import_alias": {ANY_FIELD: Role.IMPORT},
}
_KIND_ROLES: Final = {**KIND_ROLES, "type_identifier": Role.TYPE}
_ANNOUNCED: Final = {
    **ANNOUNCED,
    **dict.fromkeys(("interface", "enum", "namespace"), Role.CLASS),
}

_LEXICON: Final = replace(
    LEXICON, keywords=TYPE_KEYWORDS, soft_keywords=TYPE_SOFT_KEYWORDS, places=TYPE_PLACES
)

_FUNCTIONS: Final = (
    *("function_declaration", "generator_function_declaration", "function_signature"),
    *("method_definition", "method_signature", "abstract_method_signature"),
)
_FUNCTION_EXPRESSIONS: Final = ("function_expression", "generator_function", "arrow_function")
_CLASS_BODIES: Final = ("class_body", "interface_body", "object_type", "enum_body")

_TYPES: Final = TypeRules(
    declarations={
        **{kind: Declaration(type="return_type", is_function=True) for kind in _FUNCTIONS},
        "variable_declarator": Declaration(),
        "public_field_definition": Declaration(),
        "property_signature": Declaration(),
        "required_parameter": Declaration(name="pattern"),
        "optional_parameter": Declaration(name="pattern"),
    },
    scopes=frozenset(
        {
            *(*_FUNCTIONS, *_FUNCTION_EXPRESSIONS, *_CLASS_BODIES, "statement_block"),
            *("function_type", "for_statement", "for_in_statement", "catch_clause"),
            "switch_body",
        }
    ),
    class_scopes=frozenset(_CLASS_BODIES),
    own_object="this",
    name_kinds=frozenset({"type_identifier", "predefined_type", "literal_type"}),
    parts={
        "type_annotation": ONLY_PART,
        "generic_type": "name",
        "type_arguments": ONLY_PART,
        "nested_type_identifier": "name",
        "array_type": ONLY_PART,
        "readonly_type": ONLY_PART,
        "parenthesized_type": ONLY_PART,
        "union_type": ONLY_PART,
    },
    generics=frozenset({"generic_type"}),
    argument_lists=frozenset({"type_arguments"}),
    array_kinds=frozenset({"array_type"}),
    array_class=ARRAY_CLASS,
    empty=frozenset({"null", "undefined"}),
    values={**VALUES, "public_field_definition": ("value", "name")},
    results={
        **{kind: "return_type" for kind in _FUNCTIONS},
        **{kind: "return_type" for kind in _FUNCTION_EXPRESSIONS},
    },
    wholes=WHOLES,
    calls=CALLS,
    constructions=CONSTRUCTIONS,
    wrappers=WRAPPERS,
    imports=IMPORTS,
    casts={"as_expression": LAST_PART, "type_assertion": ONLY_PART},
    choices=CHOICES,
    indexed=INDEXED,
    awaiting=AWAITING,
    literals=LITERALS,
    loops=LOOPS,
    callbacks=CALLBACKS,
)

TYPESCRIPT = Language(
    name="typescript",
    import_statement=IMPORT_STATEMENT,
    suffixes=(".ts", ".mts", ".cts"),
    load_grammar=_load_typescript,
    identifier_kinds=_IDENTIFIER_KINDS,
    rules=_RULES,
    kind_roles=_KIND_ROLES,
    text_kinds=TEXT_KINDS,
    announced=_ANNOUNCED,
    types=_TYPES,
    lexicon=_LEXICON,
    name_signs=NAME_SIGNS,
    package_file=PACKAGE_FILE,
    modules_are_strings=True,
    built_in=TYPESCRIPT_NAMES,
    exception_places=EXCEPTION_PLACES,
)

TSX = Language(
    name="tsx",
    import_statement=IMPORT_STATEMENT,
    suffixes=(".tsx",),
    load_grammar=_load_tsx,
    identifier_kinds=_IDENTIFIER_KINDS,
    rules=_RULES,
    kind_roles=_KIND_ROLES,
    text_kinds=TEXT_KINDS,
    announced=_ANNOUNCED,
    types=_TYPES,
    lexicon=_LEXICON,
    name_signs=f"{NAME_SIGNS}|{ELEMENT_SIGNS}",
    package_file=PACKAGE_FILE,
    modules_are_strings=True,
    built_in=TYPESCRIPT_NAMES,
    has_elements=True,
    exception_places=EXCEPTION_PLACES,
)
