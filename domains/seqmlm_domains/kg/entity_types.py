"""Types of entities from a file."""

from __future__ import annotations

from pathlib import Path

from seqmlm.data.text_source import source_name
from seqmlm.errors import DataError
from seqmlm_domains.kg.triples import delimited_rows, is_json, read_json


def read_entity_types(path: str | Path) -> dict[str, list[str]]:
    """Return the types of each entity, in the order of the file.

    Args:
        path: JSON that maps identifiers to lists of types, as CoDEx has it; or TSV or CSV with an
            identifier and one or more types in each line, where an identifier may come again.

    Raises:
        DataError: the file is something else or cannot be read; names the line of a table.
    """
    if is_json(path):
        content = read_json(Path(path))
        if not isinstance(content, dict) or not all(map(_is_list_of_types, content.values())):
            raise DataError(f"{path}: it must map identifiers to lists of types, all strings.")
        return content
    types: dict[str, list[str]] = {}
    for number, fields in delimited_rows(path):
        entity, *own = (field.strip() for field in fields)
        if not entity or not own or not all(own):
            raise DataError(
                f"{source_name(path)}, line {number}: {fields!r}; a line is identifier TAB type."
            )
        types.setdefault(entity, []).extend(own)
    return types


def _is_list_of_types(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
