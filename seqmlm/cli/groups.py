"""Groups of commands that domains contribute, such as ``seqmlm kg``; loaded when named."""

from __future__ import annotations

import inspect
from typing import Any

import typer
from typer.core import TyperGroup

from seqmlm.registry import Registry

COMMAND_GROUPS = Registry(
    noun="command group",
    builtin={
        "code": "seqmlm_domains.code.commands:app",
        "kg": "seqmlm_domains.kg.commands:app",
        "protein": "seqmlm_domains.protein.commands:app",
    },
    group="seqmlm.commands",
    kind=typer.Typer,
)


class CommandsAndGroups(TyperGroup):
    """The core's commands and, after them, the groups of domains.

    The help loads every group, any other call the one it names: a module of a group imports
    nothing heavy at its top.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands and groups."""
        return [*super().list_commands(ctx), *COMMAND_GROUPS.names()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command or group; None if there is none of that name."""
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            _flow(found)
        if found is None and cmd_name in COMMAND_GROUPS.names():
            group = typer.main.get_group(COMMAND_GROUPS.load(cmd_name))
            group.name = cmd_name
            _flow(group)
            return group
        return found


def command_for(domain: str, name: str) -> str:
    """Return the words of a command: the domain's own by that name if it has one, else the core's.

    Args:
        domain: as a configuration names it.
        name: of the command.
    """
    if domain not in COMMAND_GROUPS.names():
        return name
    own = typer.main.get_group(COMMAND_GROUPS.load(domain)).commands
    return f"{domain} {name}" if name in own else name


def _flow(command: Any) -> None:
    """Join the lines of each paragraph of the help, also of sub-commands: terminals wrap them."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs) or None
    for each in getattr(command, "commands", {}).values():
        _flow(each)
