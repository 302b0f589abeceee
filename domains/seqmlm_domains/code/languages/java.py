"""Java: names of types are a node kind of their own."""

from __future__ import annotations

from seqmlm_domains.code.languages.built_in_names import JAVA_NAMES
from seqmlm_domains.code.languages.language import (
    ANY_FIELD,
    INHERIT,
    LAST_PART,
    ONLY_PART,
    Declaration,
    ImportRules,
    Inherited,
    Language,
    TypeRules,
)
from seqmlm_domains.code.languages.lexicon import C_COMMENT, ORDINARY_STRING, Lexicon
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

_KEYWORDS = (
    "abstract assert boolean break byte case catch char class const continue default do double "
    "else enum extends false final finally float for goto if implements import instanceof int "
    "interface long native new null package private protected public return short static "
    "strictfp super switch synchronized this throw throws transient true try void volatile while"
)

_LEXICON = Lexicon(
    comment=C_COMMENT,
    string=rf'"""(?:[^"\\]|\\.|"(?!""))*+(?:""")?|{ORDINARY_STRING}',
    word=r"[^\W\d]\w*(?:\$\w*)*|(?:\$\w*)+",
    sign=r"->|::|\.\.\.|==|!=|&&|\|\||\+\+|--|>=|<=|[-+*/%&|^]=",
    keywords=frozenset(_KEYWORDS.split()),
    soft_keywords=frozenset({"permits", "record", "sealed", "yield"}),
    joining_words=frozenset({"instanceof"}),
)

_VARIABLES = Declaration(declarators="declarator")
_CLASS_BODIES = ("class_body", "interface_body", "enum_body", "annotation_type_body")

_TYPES = TypeRules(
    declarations={
        "local_variable_declaration": _VARIABLES,
        "field_declaration": _VARIABLES,
        "constant_declaration": _VARIABLES,
        "method_declaration": Declaration(is_function=True),
        "annotation_type_element_declaration": Declaration(is_function=True),
        "formal_parameter": Declaration(),
        "resource": Declaration(),
        "enhanced_for_statement": Declaration(),
        "catch_formal_parameter": Declaration(type=ONLY_PART),
        "instanceof_expression": Declaration(type="right"),
        # Its declarator is the last child, and in no field.
        "spread_parameter": Declaration(name=ONLY_PART, type=ONLY_PART, is_array=True),
    },
    scopes=frozenset(
        {
            *_CLASS_BODIES,
            *("method_declaration", "constructor_declaration", "compact_constructor_declaration"),
            *("record_declaration", "lambda_expression", "block", "constructor_body"),
            *("for_statement", "try_with_resources_statement", "catch_clause", "switch_block"),
        }
    ),
    class_scopes=frozenset(_CLASS_BODIES),
    own_object="this",
    members_are_in_scope=True,
    name_kinds=frozenset(
        {"type_identifier", "integral_type", "floating_point_type", "boolean_type", "void_type"}
    ),
    parts={
        "generic_type": ONLY_PART,
        "scoped_type_identifier": LAST_PART,
        "array_type": "element",
        "annotated_type": LAST_PART,
        "catch_type": ONLY_PART,
        "wildcard": LAST_PART,
    },
    generics=frozenset({"generic_type"}),
    argument_lists=frozenset({"type_arguments"}),
    passed_over=frozenset({"type_arguments"}),
    array_kinds=frozenset({"array_type"}),
    untyped=frozenset({"var"}),
    values={"variable_declarator": ("value", "name"), "assignment_expression": ("right", "left")},
    results={"method_declaration": "type", "lambda_expression": "", "constructor_declaration": ""},
    wholes={"field_access": "field", "method_invocation": "name"},
    calls=frozenset({"method_invocation"}),
    constructions={"object_creation_expression": "type"},
    wrappers=frozenset({"parenthesized_expression"}),
    choices={"ternary_expression": {"ternary_expression": ("consequence", "alternative")}},
    casts={"cast_expression": "type"},
    indexed={"array_access": "array"},
    literals={"string_literal": b"String"},
    loops={"enhanced_for_statement": ("value", "name")},
    callbacks={"lambda_expression": ("parameters",)},
    imports=ImportRules(static=frozenset({"import_declaration"})),
)

JAVA = Language(
    name="java",
    import_statement=r"import\b[^;\n]*;",
    suffixes=(".java",),
    load_grammar=_load_grammar,
    identifier_kinds=frozenset({"identifier", "type_identifier"}),
    rules={
        **{kind: {"name": Role.CLASS} for kind in _DEFINES_A_TYPE},
        **{kind: {"name": Role.FUNCTION} for kind in _DEFINES_A_FUNCTION},
        "type_parameter": {ANY_FIELD: Role.CLASS},
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
    announced={
        **dict.fromkeys(("import", "package"), Role.IMPORT),
        **dict.fromkeys(("class", "interface", "enum"), Role.CLASS),
    },
    types=_TYPES,
    lexicon=_LEXICON,
    name_signs=r"\.|::|@",
    package_is_folder=True,
    built_in=JAVA_NAMES,
    exception_places=("catch (", "catch ( final", "throw new", "throws"),
)
