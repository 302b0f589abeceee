"""What the domain must know of a language: its grammar, its identifiers and what they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from seqmlm_domains.code.roles import Role

ANY_FIELD = "*"
"""In a rule: a child in no field, or in one without a rule of its own."""


@dataclass(frozen=True)
class Inherited:
    """The role that the parent passes on; ``otherwise`` if it passes on none."""

    otherwise: Role = Role.READ


INHERIT = Inherited()

Rule = Role | Inherited


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
    """

    name: str
    suffixes: tuple[str, ...]
    load_grammar: Callable[[], object]
    identifier_kinds: frozenset[str]
    rules: Mapping[str, Mapping[str, Rule]]
    kind_roles: Mapping[str, Role]
