"""TypeScript and TSX: JavaScript with types, parsed by two grammars."""

from __future__ import annotations

from typing import Final

from seqmlm_domains.code.languages.javascript import IDENTIFIER_KINDS, RULES
from seqmlm_domains.code.languages.language import Language
from seqmlm_domains.code.roles import Role


def _load_typescript() -> object:
    import tree_sitter_typescript

    return tree_sitter_typescript.language_typescript()


def _load_tsx() -> object:
    import tree_sitter_typescript

    return tree_sitter_typescript.language_tsx()


_DEFINES_A_TYPE = (
    *("abstract_class_declaration", "interface_declaration", "type_alias_declaration"),
    "enum_declaration",
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
}
_KIND_ROLES: Final = {"type_identifier": Role.TYPE}

TYPESCRIPT = Language(
    name="typescript",
    suffixes=(".ts", ".mts", ".cts"),
    load_grammar=_load_typescript,
    identifier_kinds=_IDENTIFIER_KINDS,
    rules=_RULES,
    kind_roles=_KIND_ROLES,
)

TSX = Language(
    name="tsx",
    suffixes=(".tsx",),
    load_grammar=_load_tsx,
    identifier_kinds=_IDENTIFIER_KINDS,
    rules=_RULES,
    kind_roles=_KIND_ROLES,
)
