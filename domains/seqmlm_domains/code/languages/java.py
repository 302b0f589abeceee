"""Java: names of types are a node kind of their own."""

from __future__ import annotations

from seqmlm_domains.code.languages.language import ANY_FIELD, INHERIT, Inherited, Language
from seqmlm_domains.code.roles import Role


def _load_grammar() -> object:
    import tree_sitter_java

    return tree_sitter_java.language()


_DEFINES_A_TYPE = (
    *("class_declaration", "interface_declaration", "enum_declaration", "record_declaration"),
    "annotation_type_declaration",
)
_DEFINES_A_FUNCTION = (
    *("method_declaration", "constructor_declaration", "compact_constructor_declaration"),
    "annotation_type_element_declaration",
)

JAVA = Language(
    name="java",
    suffixes=(".java",),
    load_grammar=_load_grammar,
    identifier_kinds=frozenset({"identifier", "type_identifier"}),
    rules={
        **{kind: {"name": Role.CLASS} for kind in _DEFINES_A_TYPE},
        **{kind: {"name": Role.FUNCTION} for kind in _DEFINES_A_FUNCTION},
        # Of `String... names` the declarator is that of a parameter.
        "variable_declarator": {"name": Inherited(Role.VARIABLE)},
        "spread_parameter": {ANY_FIELD: Role.PARAMETER},
        "enhanced_for_statement": {"name": Role.VARIABLE},
        "resource": {"name": Role.VARIABLE},
        "enum_constant": {"name": Role.VARIABLE},
        "instanceof_expression": {"name": Role.VARIABLE},
        "formal_parameter": {"name": Role.PARAMETER},
        "catch_formal_parameter": {"name": Role.PARAMETER},
        "inferred_parameters": {ANY_FIELD: Role.PARAMETER},
        "lambda_expression": {"parameters": Role.PARAMETER},
        "method_invocation": {"name": Role.CALL},
        "element_value_pair": {"key": Role.KEYWORD},
        "marker_annotation": {"name": Role.TYPE},
        "annotation": {"name": Role.TYPE},
        "import_declaration": {ANY_FIELD: Role.IMPORT},
        "package_declaration": {ANY_FIELD: Role.IMPORT},
        "scoped_identifier": {ANY_FIELD: INHERIT},
    },
    kind_roles={"type_identifier": Role.TYPE},
)
