"""Functions that a method is given alone: it calls them with what its object holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import tree_sitter

from seqmlm_domains.code.languages.language import TypeRules

_OBJECT: Final = "object"
_CALL_AND_ARGUMENTS: Final = 2


def object_that_calls(
    around: Sequence[tree_sitter.Node], rules: TypeRules
) -> tree_sitter.Node | None:
    """Return the object whose method a function is given to; None if it is given to none.

    Args:
        around: the nodes around the function, the innermost last.
        rules: of the language.
    """
    if len(around) < _CALL_AND_ARGUMENTS or around[-1].named_child_count != 1:
        return None
    call = around[-2]
    if call.type not in rules.calls:
        return None
    called = call.child_by_field_name(rules.wholes[call.type])
    holders = (holder for holder in (call, called) if holder is not None)
    objects = (holder.child_by_field_name(_OBJECT) for holder in holders)
    return next((found for found in objects if found is not None), None)


def parameter_names(
    parameters: tree_sitter.Node | None, identifier_kinds: frozenset[str]
) -> Iterator[tree_sitter.Node]:
    """Yield the names among the parameters of a function."""
    if parameters is None:
        return
    if parameters.type in identifier_kinds:
        yield parameters
    for child in parameters.named_children:
        name = child if child.type in identifier_kinds else child.child_by_field_name("pattern")
        if name is not None and name.type in identifier_kinds:
            yield name
