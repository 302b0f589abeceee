"""seqmlm code complete"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqmlm.cli.options import AsJson, Backend, Device
from seqmlm.errors import suggestion

if TYPE_CHECKING:
    from seqmlm_domains.code.completion.completion import Completion, CompletionRequest

NAME = "complete"
EXAMPLES = """Examples:

seqmlm code complete runs/code --file module.py --line 12 --column 9

seqmlm code complete runs/code --file module.py --offset 250 --limit 5 --json

seqmlm code complete runs/code --file A.java --offset 250 --role attribute --type int"""


def run(
    run: Annotated[Path, typer.Argument(help="A run of domain code.", show_default=False)],
    file: Annotated[Path, typer.Option(help="Source file; its suffix tells the language.")],
    offset: Annotated[
        int | None,
        typer.Option(min=0, help="Of the cursor, in characters from the start."),
    ] = None,
    line: Annotated[int | None, typer.Option(min=1, help="Of the cursor, from 1.")] = None,
    column: Annotated[
        int | None, typer.Option(min=1, help="Of the cursor, in characters from 1; with --line.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Names to print.")] = 10,
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="Only names that do this somewhere, such as attribute, call or type; repeatable.",
            show_default=False,
        ),
    ] = None,
    type: Annotated[
        list[str] | None,
        typer.Option(
            help="Only names declared with this type somewhere, such as List or int[]; repeatable.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Complete the name at a place of a file: --offset, or --line and --column.

    Characters are those of the file as UTF-8: a line end of CR LF counts as two, an emoji as one, a
    byte-order mark at the start as none.

    Scores are natural logarithms of probabilities among the names that begin as typed.
    """
    import json
    import logging

    from seqmlm_domains.code.commands.place import language_at, offset_at, read_text
    from seqmlm_domains.code.completion.completer import Completer
    from seqmlm_domains.code.completion.completion import CompletionRequest, roles_named

    text, language = read_text(file), language_at(file)
    request = CompletionRequest(
        source=text,
        offset=offset_at(text, offset=offset, line=line, column=column),
        language=language,
        limit=limit,
        roles=roles_named(role) if role else None,
        types=frozenset(type) if type else None,
    )
    completer = Completer.load(run, device=device, backend=backend)
    missing = completer.project.missing(language)
    if missing is not None:
        logging.getLogger("seqmlm").warning("%s: %s", run, missing)
    (found,) = completer.complete_batch([request])
    if as_json:
        print(json.dumps([_as_json(item) for item in found.completions], ensure_ascii=False))
        return
    if not found.completions:
        types = completer.project.table(language).types.names
        known = "known" if missing is None else "in this text"
        print(_reason_for_none(request, types, known=known))
        return
    if found.types:
        expected = ", ".join(f"{each.name} {each.probability:.2f}" for each in found.types)
        print(f"expected type: {expected}")
    for item in found.completions:
        name = item.text if item.type is None else f"{item.text}: {item.type}"
        print(f"{item.score:8.3f}  {name}  ({item.source})")


def _reason_for_none(request: CompletionRequest, types: Sequence[str], *, known: str) -> str:
    """Why there is no completion; ``types`` are those of the project, names are ``known``."""
    words = set(re.findall(r"\w+", request.source))
    asked = sorted((request.types or frozenset()).difference(types))
    unknown = [name for name in asked if name.rstrip("[]") not in words]
    if unknown:
        name = unknown[0]
        return f"No name of the project is declared with type {name!r}.{suggestion(name, types)}"
    if request.roles or request.types:
        return "No name can stand here, or none of the roles and types asked for begins as typed."
    return f"No name can stand here, or none is {known} that begins as typed."


def _as_json(item: Completion) -> dict[str, Any]:
    return asdict(item) | {"role": None if item.role is None else item.role.name.lower()}
