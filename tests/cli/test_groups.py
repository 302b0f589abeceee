from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from seqmlm.cli import app
from seqmlm.cli.groups import COMMAND_GROUPS
from seqmlm.errors import ConfigError


def test_groups_of_domains_are_listed_after_the_commands() -> None:
    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert output.index(" doctor ") < output.index(" kg ")
    assert "Knowledge graphs: look into their files" in output


def test_a_group_prints_its_commands() -> None:
    result = CliRunner().invoke(app, ["kg", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert " audit " in result.stdout


def test_an_unknown_group_is_an_unknown_command() -> None:
    result = CliRunner().invoke(app, ["kgg", "audit"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "No such command 'kgg'" in result.stderr


def test_what_is_no_group_of_commands_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not a Typer"):
        COMMAND_GROUPS.load("seqmlm.errors:ConfigError")


def test_the_help_of_a_group_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['seqmlm', 'kg', 'audit', '--help']\n"
        "from seqmlm.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'numpy', 'networkx', 'rdflib', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
