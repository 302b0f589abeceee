"""Python: every identifier is one node kind, so parents and fields give the roles."""

from __future__ import annotations

import keyword

from seqmlm_domains.code.languages.built_in_names import PYTHON_NAMES
from seqmlm_domains.code.languages.language import (
    ANY_FIELD,
    INHERIT,
    ONLY_PART,
    Declaration,
    ImportRules,
    Language,
    TypeRules,
)
from seqmlm_domains.code.languages.lexicon import ORDINARY_STRING, Hole, Lexicon
from seqmlm_domains.code.roles import Role


def _load_grammar() -> object:
    import tree_sitter_python

    return tree_sitter_python.language()


_PASSED_ON = (
    *("pattern_list", "tuple_pattern", "list_pattern", "list_splat_pattern"),
    *("dictionary_splat_pattern", "dotted_name", "relative_import"),
    *("generic_type", "union_type", "binary_operator"),
)

_NESTED = 3
"""Levels of brackets and literals in the expressions of a literal."""


def _signs(excluded: str, levels: int, newline: str) -> str:
    """One sign of an expression in a literal, or what is bracketed or quoted in it."""
    signs = rf"[^()\[\]{{}}\"'{excluded}{newline}]"
    deeper = _signs("", levels - 1, newline) if levels else signs
    strings = "|".join(rf"{quote}{_text(quote, levels - 1)}{quote}" for quote in "\"'")
    return rf"{signs}|[(\[{{](?:{deeper})*+[)\]}}]|{strings}"


def _unit(levels: int, newline: str = "") -> str:
    """As :func:`_signs`, up to what is said of the format."""
    return rf"{_signs('!:', levels, newline)}|!="


def _text(quote: str, levels: int, newline: str = r"\n") -> str:
    """What is between quotation marks, with expressions unless it is nested too deeply."""
    last = quote[-1]
    ordinary = rf"[^{last}\\{newline}{{]|\\." + rf"|{last}(?!{last * 2})" * (len(quote) == 3)
    if levels < 0:
        return rf"(?:{ordinary}|\{{)*+"
    format_ = rf"[!:](?:[^{{}}\"'{newline}]|\{{[^{{}}\"'{newline}]*+\}})*+"
    hole = rf"\{{(?:{_unit(levels, newline)})*+(?:{format_})?\}}"
    return rf"(?:{ordinary}|\{{\{{|{hole}|\{{)*+"


def _interpolated(quote: str) -> str:
    text = _text(quote, _NESTED, r"\n" if len(quote) == 1 else "")
    return rf"{quote}{text}(?:{quote})?"


_TRIPLE_STRING = r'"""(?:[^"\\]|\\.|"(?!""))*+(?:""")?|' + r"'''(?:[^'\\]|\\.|'(?!''))*+(?:''')?"
_INTERPOLATED_STRING = "|".join(_interpolated(quote) for quote in ('"""', "'''", '"', "'"))
_INTERPOLATED_PREFIX = "(?:[rR][fF]|[fF][rR]?)"

_LEXICON = Lexicon(
    comment=r"#[^\n]*",
    string=(
        rf"(?=[rRfF]){_INTERPOLATED_PREFIX}(?:{_INTERPOLATED_STRING})"
        rf"|(?=[rRbBuU\"'])(?:[rR][bB]?|[bB][rR]?|[uU])?(?:{_TRIPLE_STRING}|{ORDINARY_STRING})"
    ),
    word=r"[^\W\d]\w*",
    sign=r"\.\.\.|\*\*=?|//=?|>>=?|<<=?|->|:=|[-+*/%&|^=!<>@]=",
    keywords=frozenset(keyword.kwlist),
    soft_keywords=frozenset({"case", "match", "type"}),
    joining_words=frozenset(
        ["and", "as", "else", "for", "from", "if", "import", "in", "is", "not", "or"]
    ),
    interpolated=rf"{_INTERPOLATED_PREFIX}[\"']",
    hole=Hole(
        opening=r"(?<!\{)(?:\{\{)*\{(?!\{)",
        unit=_unit(_NESTED),
        closing="}!:",
    ),
)

_TYPES = TypeRules(
    declarations={
        "assignment": Declaration(name="left"),
        "function_definition": Declaration(type="return_type", is_function=True),
        # `*names: str` is a tuple of what it declares, so the pattern is no name here.
        "typed_parameter": Declaration(name=ONLY_PART),
        "typed_default_parameter": Declaration(),
    },
    scopes=frozenset(
        {
            *("function_definition", "class_definition", "lambda", "list_comprehension"),
            *("set_comprehension", "dictionary_comprehension", "generator_expression"),
        }
    ),
    class_scopes=frozenset({"class_definition"}),
    own_object="self",
    name_kinds=frozenset({"identifier", "none", "string_content"}),
    parts={
        "type": ONLY_PART,
        "generic_type": ONLY_PART,
        "subscript": "value",
        "attribute": "attribute",
        "string": ONLY_PART,
        "union_type": ONLY_PART,
        "binary_operator": ONLY_PART,
        "type_parameter": ONLY_PART,
    },
    generics=frozenset({"generic_type", "subscript"}),
    argument_lists=frozenset({"type_parameter"}),
    tuples=frozenset({"tuple", "Tuple"}),
    passed_over=frozenset({"type_parameter", "string_start", "string_end"}),
    empty=frozenset({"None", "..."}),
    optional=frozenset({"Optional"}),
    values={"assignment": ("right", "left"), "named_expression": ("value", "name")},
    results={"function_definition": "return_type", "lambda": ""},
    wholes={"attribute": "attribute", "call": "function"},
    calls=frozenset({"call"}),
    wrappers=frozenset({"parenthesized_expression"}),
    choices={
        "named_expression": {"named_expression": ("value",)},
        "boolean_operator": {"or": ("left", "right"), "and": ("right",)},
        "conditional_expression": {"conditional_expression": (0, 2)},
    },
    indexed={"subscript": "value"},
    awaiting=frozenset({"await"}),
    literals={"string": b"str", "list": b"list", "dictionary": b"dict"},
    loops={"for_statement": ("right", "left"), "for_in_clause": ("right", "left")},
    imports=ImportRules(
        modules={"import_from_statement": "module_name", "future_import_statement": ""},
        aliases={"aliased_import": ("name", "alias")},
        wildcards=frozenset({"wildcard_import"}),
    ),
)

PYTHON = Language(
    name="python",
    import_statement=r"[ \t]*(?:import|from)\b[^\n(]*(?:\([^)]*\))?",
    suffixes=(".py", ".pyi"),
    load_grammar=_load_grammar,
    identifier_kinds=frozenset({"identifier"}),
    rules={
        **{kind: {ANY_FIELD: INHERIT} for kind in _PASSED_ON},
        "function_definition": {"name": Role.FUNCTION},
        "class_definition": {"name": Role.CLASS},
        "type_alias_statement": {"left": Role.CLASS},
        "assignment": {"left": Role.VARIABLE},
        "augmented_assignment": {"left": Role.VARIABLE},
        "for_statement": {"left": Role.VARIABLE},
        "for_in_clause": {"left": Role.VARIABLE},
        "named_expression": {"name": Role.VARIABLE},
        "as_pattern_target": {ANY_FIELD: Role.VARIABLE},
        "global_statement": {ANY_FIELD: Role.VARIABLE},
        "nonlocal_statement": {ANY_FIELD: Role.VARIABLE},
        "parameters": {ANY_FIELD: Role.PARAMETER},
        "lambda_parameters": {ANY_FIELD: Role.PARAMETER},
        "default_parameter": {"name": Role.PARAMETER},
        "typed_default_parameter": {"name": Role.PARAMETER},
        "typed_parameter": {ANY_FIELD: Role.PARAMETER, "type": Role.TYPE},
        "call": {"function": Role.CALL},
        "keyword_argument": {"name": Role.KEYWORD},
        "type": {ANY_FIELD: Role.TYPE},
        "import_statement": {ANY_FIELD: Role.IMPORT},
        "import_from_statement": {ANY_FIELD: Role.IMPORT},
        "future_import_statement": {ANY_FIELD: Role.IMPORT},
        "aliased_import": {"name": Role.IMPORT, "alias": Role.IMPORT},
    },
    kind_roles={},
    announced={
        **dict.fromkeys(("import", "from"), Role.IMPORT),
        **{"def": Role.FUNCTION, "class": Role.CLASS},
    },
    types=_TYPES,
    lexicon=_LEXICON,
    name_signs=r"\.|^\s*@",
    package_file="__init__",
    built_in=PYTHON_NAMES,
    exception_places=("except", "except (", "except *", "raise"),
    exceptions_are_called_so=False,
)
