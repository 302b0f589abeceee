"""What the domain must know of a language: its grammar, its identifiers and what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from seqmlm_domains.code.languages.built_in_names import NO_BUILT_IN_NAMES, BuiltInNames
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
        is_array: whether what it declares is an array of the type.
    """

    name: str = "name"
    type: str = "type"
    declarators: str = ""
    is_function: bool = False
    is_array: bool = False


@dataclass(frozen=True)
class ImportRules:
    """How a language imports names.

    Args:
        modules: kind of a statement that imports names -> the field of the module they are in; the
            word behind the first one if that is in none.
        aliases: kind of a node that renames something -> the fields of its name and of the new one.
        patterns: those of ``aliases`` that do so where names are given a module alone.
        namespaces: kinds of nodes that hold a name of all that a module declares.
        defaults: kinds of those whose name is that of something that a module of the project
            declares, and of any other module mostly of all that it does.
        static: kinds of statements that may import a member of a class.
        exports: kinds of nodes that hold a name which others may import.
        wildcards: kinds of what stands for all names of a module.
        loaders: functions that give the module that they are given the name of.
        own_modules: what holds the names that the text declares for others, where that is no word
            before the declaration.
    """

    modules: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    patterns: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    defaults: frozenset[str] = frozenset()
    static: frozenset[str] = frozenset()
    exports: frozenset[str] = frozenset()
    wildcards: frozenset[str] = frozenset()
    loaders: frozenset[bytes] = frozenset()
    own_modules: tuple[str, ...] = ()

    @cached_property
    def kinds(self) -> frozenset[str]:
        """All kinds of nodes that import or export something."""
        named = self.namespaces | self.defaults | self.static | self.exports
        return frozenset({*self.modules, *self.aliases}) | named


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
        array_class: name of the class of all arrays.
        empty: names beside which another one of a union counts alone, such as ``null``.
        optional: names of generics that have the type of their argument, or nothing.
        generics: kinds of nodes that are a type with arguments.
        argument_lists: kinds of nodes that hold the arguments; those in the field ``subscript`` if
            there is none.
        tuples: names of generics with an argument for each of the things that they hold.
        untyped: names that stand in place of a type, such as ``var``.
        values: kind of a node that gives a name a value -> the fields of the value and of the name.
        results: kind of a function -> the field of the type of what it returns, if there is one.
        wholes: kind of an expression -> the field of the name whose type it has: of a call that of
            the function, of a member of the method's own object that of the member.
        calls: those of ``wholes`` that are calls.
        constructions: kind of an expression that makes an object -> the field of its class.
        wrappers: kinds of expressions that have the type of their first part.
        casts: kind of an expression -> the field of the type that it is said to have;
            :data:`LAST_PART` for the last of two parts, and :data:`ONLY_PART` for the first.
        indexed: kind of an expression that takes one thing of many -> the field of these.
        choices: kind of an expression that gives one of several values -> its operator, or the
            kind itself where it has none -> the fields of the values, or their numbers among its
            parts. Of what gives its second value if the first is true, that is the second alone.
        awaiting: kinds of expressions with what their part promises.
        literals: kind of an expression -> its type.
        loops: kind of a node that gives a name each of many things -> the fields of these and of
            the name.
        callbacks: kind of a function in an expression -> the fields of its parameters.
        imports: how it imports names.
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
    array_class: bytes = b"[]"
    empty: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    generics: frozenset[str] = frozenset()
    argument_lists: frozenset[str] = frozenset()
    tuples: frozenset[str] = frozenset()
    untyped: frozenset[str] = frozenset()
    values: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)
    wholes: Mapping[str, str] = field(default_factory=dict)
    calls: frozenset[str] = frozenset()
    constructions: Mapping[str, str] = field(default_factory=dict)
    wrappers: frozenset[str] = frozenset()
    casts: Mapping[str, str] = field(default_factory=dict)
    indexed: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, Sequence[str | int]]] = field(default_factory=dict)
    awaiting: frozenset[str] = frozenset()
    literals: Mapping[str, bytes] = field(default_factory=dict)
    loops: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    callbacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    imports: ImportRules = ImportRules()

    @cached_property
    def telling(self) -> frozenset[str]:
        """Kinds of expressions whose type may be told, names aside."""
        told = {*self.wholes, *self.constructions, *self.casts, *self.indexed, *self.literals}
        return frozenset(told | self.awaiting | {*self.choices, self.own_object})

    @cached_property
    def passed_through(self) -> frozenset[str]:
        """Kinds of expressions that may have the type of their first part."""
        return self.wrappers | frozenset(self.casts)


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
        name_signs: pattern of the signs that a name follows, and of what is before them in a line.
        package_file: stem of the files that stand for their folder where it is imported.
        package_is_folder: whether what a file declares is imported from its folder.
        modules_are_strings: whether an import names its module by a literal.
        built_in: names that need neither a declaration nor an import.
        has_elements: whether an expression may be an element between tags.
        exception_places: words and signs, with spaces, behind which exceptions stand.
        exceptions_are_called_so: whether by convention their names end in what they are.
        import_statement: pattern of one at the beginning of a line.
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
    name_signs: str = r"\."
    package_file: str = ""
    package_is_folder: bool = False
    modules_are_strings: bool = False
    built_in: BuiltInNames = NO_BUILT_IN_NAMES
    has_elements: bool = False
    exception_places: tuple[str, ...] = ()
    exceptions_are_called_so: bool = True
    import_statement: str = r"(?!)"
