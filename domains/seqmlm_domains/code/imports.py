"""What a text imports: of which modules its names are, and what those stand for that it renames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import tree_sitter

from seqmlm_domains.code.languages.language import Language
from seqmlm_domains.code.member_paths import ITSELF, OWN_MODULE
from seqmlm_domains.code.modules import imported_module

_NAME: Final = "name"
_SCOPE: Final = "scope"
_STATIC: Final = "static"
_STRINGS: Final = frozenset({"string", "template_string"})


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes whose names belong to a class or module.

    Args:
        start: first byte.
        end: one past the last.
        owner: name of the class or module.
    """

    start: int
    end: int
    owner: bytes


@dataclass(frozen=True, slots=True)
class Original:
    """What a name stands for that an import gives to something called otherwise.

    Args:
        name: of the thing, of a module its last word.
        owner: the class that it is a member of, if it is imported from one.
    """

    name: bytes
    owner: bytes | None = None


@dataclass(frozen=True, slots=True)
class ImportedNames:
    """What a part of a text imports for the others.

    Args:
        names: that it binds.
        originals: of those that stand for something called otherwise.
    """

    names: frozenset[bytes] = frozenset()
    originals: Mapping[bytes, Original] = field(default_factory=dict)


NO_IMPORTS: Final = ImportedNames()


class Imports:
    """The imports of a text, and what it passes on of them; noted in the order of the source.

    Args:
        source: text of the file in UTF-8.
        language: gives the rules.

    Attributes:
        spans: of the names of each module.
        renamed: first bytes of names that an import gives to something called otherwise.
        originals: what names stand for, by the number of their scope and the name; None where one
            is imported as it is called too, as if the other import fails.
        exported: first bytes of names that others may import from this text.
        passed_on: modules all of whose names belong to another one too: that one, and the module.
    """

    def __init__(self, source: bytes, language: Language) -> None:
        self._source, self._rules = source, language.types.imports
        self._calls, self._awaiting = language.types.calls, language.types.awaiting
        self._identifier_kinds = language.identifier_kinds
        self._statement: tuple[int, bytes | None] = (0, None)
        self._is_relative = False
        self.spans: list[Span] = []
        self.renamed: set[int] = set()
        self.originals: dict[tuple[int, bytes], Original | None] = {}
        self.exported: set[int] = set()
        self.passed_on: list[tuple[bytes, bytes]] = []

    def visit(self, node: tree_sitter.Node, kind: str, scope: int) -> None:
        """Note what a node imports into a scope."""
        rules = self._rules
        if kind not in rules.kinds:
            return
        if (field := rules.modules.get(kind)) is not None:
            self._enter(node, node.child_by_field_name(field) if field else node.children[1])
            for plain in node.children_by_field_name(_NAME):
                if plain.type not in rules.aliases:
                    self.originals[scope, self._text(plain)] = None
        own = (child for child in node.children if child.type in self._identifier_kinds)
        name = next(own, None)
        if kind in rules.namespaces and name is not None:
            self._name_module(name, scope)
        elif kind in rules.defaults and name is not None and not self._is_relative:
            self._note(name, self._statement[1], scope)
        elif kind in rules.static:
            self._import_member(node, scope)
        elif (fields := rules.aliases.get(kind)) is not None:
            original, alias = map(node.child_by_field_name, fields)
            name = alias or original
            if kind not in rules.patterns or self.is_imported(node.start_byte):
                self._rename(original, alias, scope)
        if kind in rules.exports and name is not None:
            self._export(name, scope)

    def is_imported(self, start: int) -> bool:
        """Say whether a name before which nothing else is visited is one of those of a module."""
        return start < self._statement[0]

    def load(self, target: tree_sitter.Node, value: tree_sitter.Node, scope: int) -> bool:
        """Note that names are given a module, or what it holds; say whether they are.

        Args:
            target: the name, or a pattern of them.
            value: that may call for a module, such as ``require('fs')``.
            scope: number of the one that holds the names.
        """
        module = self.loaded(value)
        if module is None:
            return False
        self._enter(target, value, module)
        if target.type in self._identifier_kinds:
            self._name_module(target, scope)
        return True

    def loaded(self, value: tree_sitter.Node) -> bytes | None:
        """Return the module that an expression calls for; None if it calls for none."""
        while value.type in self._awaiting and value.named_children:
            value = value.named_children[0]
        if value.type not in self._calls or not self._rules.loaders:
            return None
        function, given = map(value.child_by_field_name, ("function", "arguments"))
        if function is None or given is None or self._text(function) not in self._rules.loaders:
            return None
        module = given.named_children[0] if given.named_child_count == 1 else None
        if module is None or module.type not in _STRINGS:
            return None
        return imported_module(self._text(module))

    def _enter(
        self,
        node: tree_sitter.Node,
        module: tree_sitter.Node | None,
        name: bytes | None = None,
    ) -> None:
        """Note the module of the names of a node, which stand behind that of the module or before.

        Args:
            node: that imports.
            module: names it.
            name: of the module, if its node is not that name alone.
        """
        self._statement = (0, None)
        if module is None:
            return
        text = self._text(module)
        name = name or imported_module(text)
        self._is_relative = text[1:2] == b"."
        self._statement = (module.start_byte, name)
        if name is None:
            return
        self.spans.append(Span(node.start_byte, module.start_byte, name))
        self.spans.append(Span(module.end_byte, node.end_byte, name))
        if any(child.type in self._rules.wildcards for child in node.children):
            self.passed_on.append((OWN_MODULE, ITSELF + name))

    def _name_module(self, name: tree_sitter.Node, scope: int) -> None:
        """Note a name of all that the module of the statement declares."""
        self.renamed.add(name.start_byte)
        self._note(name, self._statement[1], scope)

    def _rename(
        self, original: tree_sitter.Node | None, alias: tree_sitter.Node | None, scope: int
    ) -> None:
        if original is not None and alias is not None:
            self.renamed.add(alias.start_byte)
            self._note(alias, self._text(original).rpartition(b".")[2], scope)

    def _export(self, name: tree_sitter.Node, scope: int) -> None:
        """Note a name that others may import, of a module with all that the module declares."""
        self.exported.add(name.start_byte)
        text = self._text(name)
        original = self.originals.get((scope, text))
        if original is not None and original.name != text:
            self.passed_on.append((ITSELF + text, ITSELF + original.name))

    def _import_member(self, node: tree_sitter.Node, scope: int) -> None:
        """Note a member of a class that is imported by its name."""
        if not any(child.type == _STATIC for child in node.children):
            return
        for path in node.named_children:
            holder, name = map(path.child_by_field_name, (_SCOPE, _NAME))
            if holder is not None and name is not None and path == node.named_children[-1]:
                self._note(name, self._text(name), scope, self._text(holder).rpartition(b".")[2])

    def _note(
        self,
        name: tree_sitter.Node,
        original: bytes | None,
        scope: int,
        owner: bytes | None = None,
    ) -> None:
        if original is not None:
            self.originals.setdefault((scope, self._text(name)), Original(original, owner))

    def _text(self, node: tree_sitter.Node) -> bytes:
        return self._source[node.start_byte : node.end_byte]
