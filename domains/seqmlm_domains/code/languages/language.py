"""What the domain must know of a language: its grammar, its identifiers and what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from seqmlm_domains.code.languages.lexicon import Lexicon
from seqmlm_domains.code.roles import Role

ANY_FIELD = "*"
"""In a rule: a child in no field, or in one without a rule of its own."""


@dataclass(frozen=True)
class Inherited:
    """The role that the parent passes on; ``otherwise`` if it passes on none."""

    otherwise: Role = Role.READ


INHERIT = Inherited()

Rule = Role | Inherited

ONLY_PART = "*"
"""In :attr:`TypeRules.parts`: the only part that is none of those to pass over."""

LAST_PART = "last"
"""The last of them, as of a qualified name."""


@dataclass(frozen=True)
class Declaration:
    """Where a node that declares names with a type holds both.

    Args:
        name: field of the identifier; :data:`ONLY_PART` for the first child that is or holds one.
        type: field of the type; :data:`ONLY_PART` for the first child that is one.
        declarators: field of the children that hold the names; of the node itself if empty.
        is_function: whether the type is that of a result.
        suffix: what the declaration adds to the name of the type.
    """

    name: str = "name"
    type: str = "type"
    declarators: str = ""
    is_function: bool = False
    suffix: bytes = b""


@dataclass(frozen=True)
class TypeRules:
    """How a language declares the types of variables, fields and results.

    Args:
        declarations: by kind of the node. One whose type is missing or no plain name hides those
            of the same name further out, unless the same scope declares it with a type too.
        scopes: kinds of nodes whose declarations hold inside. Those of a node that is a scope
            itself, such as a function's name, hold around it.
        class_scopes: those whose declarations are members.
        own_object: what stands before the dot in a method for its own object.
        members_are_in_scope: whether a member can be used without an object before it, and a
            method beside a field of its name, as in Java.
        name_kinds: kinds of nodes whose text is the name of a type.
        parts: kind of a node in a type -> field of the part that names it, generics aside;
            :data:`ONLY_PART` and :data:`LAST_PART` where there is no field.
        passed_over: kinds of parts that name nothing, such as arguments of generics.
        array_kinds: kinds of nodes that add ``[]`` to the name of their part.
        empty: names beside which another one of a union counts alone, such as ``null``.
        optional: names of generics that have the type of their argument, or nothing.
        untyped: names that stand in place of a type, such as ``var``.
        values: kind of a node that gives a name a value -> the fields of the value and of the name.
        results: kind of a function -> the field of the type of what it returns, if there is one.
        wholes: kind of an expression -> the field of the name whose type it has: of a call that of
            the function, of a member of the method's own object that of the member.
        calls: those of ``wholes`` that are calls.
        constructions: kind of an expression that makes an object -> the field of its class.
        wrappers: kinds of expressions with one part, whose type they have.
        imports: kind of a statement that imports names -> the field of the module they are in.
    """

    declarations: Mapping[str, Declaration]
    scopes: frozenset[str]
    class_scopes: frozenset[str]
    own_object: str
    name_kinds: frozenset[str]
    parts: Mapping[str, str]
    members_are_in_scope: bool = False
    passed_over: frozenset[str] = frozenset()
    array_kinds: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    untyped: frozenset[str] = frozenset()
    values: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)
    wholes: Mapping[str, str] = field(default_factory=dict)
    calls: frozenset[str] = frozenset()
    constructions: Mapping[str, str] = field(default_factory=dict)
    wrappers: frozenset[str] = frozenset()
    imports: Mapping[str, str] = field(default_factory=dict)


NO_TYPES = TypeRules(
    declarations=MappingProxyType({}),
    scopes=frozenset(),
    class_scopes=frozenset(),
    own_object="",
    name_kinds=frozenset(),
    parts=MappingProxyType({}),
)
"""Of a language that declares no types."""


@dataclass(frozen=True)
class Language:
    """A language that tree-sitter parses.

    Args:
        name: as written in options and requests.
        suffixes: lower-case, of its files.
        load_grammar: returns the capsule that ``tree_sitter.Language`` takes; imports the grammar.
        identifier_kinds: node kinds that are identifiers.
        rules: kind of a node -> field -> the role of a child in that field. A child without a rule
            is read. A rule holds for a child that is an identifier, and for one that passes it on
            with :data:`INHERIT`; every other child begins anew.
        kind_roles: identifier kinds that tell the role themselves, unless a rule says
            :attr:`Role.CLASS`.
        lexicon: its tokens.
        types: how it declares types.
        announced: keyword -> the role of a name behind it, where the parser cannot tell it yet.
        text_kinds: kinds of nodes within which no name can stand, comments and strings aside.
    """

    name: str
    suffixes: tuple[str, ...]
    load_grammar: Callable[[], object]
    identifier_kinds: frozenset[str]
    rules: Mapping[str, Mapping[str, Rule]]
    kind_roles: Mapping[str, Role]
    lexicon: Lexicon
    types: TypeRules = NO_TYPES
    announced: Mapping[str, Role] = field(default_factory=dict)
    text_kinds: frozenset[str] = frozenset()
