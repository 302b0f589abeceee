"""Editors complete a real file with a model that was really trained."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.code.serving.raw_client import RawClient
from tests.code.serving.server_process import (
    PATIENCE_S,
    PATIENT,
    TcpServer,
    command,
    tcp_server,
)
from tests.code.sources import SOURCE

pytestmark = pytest.mark.slow

EDITORS = Path(__file__).parent / "editors"
VSCODE_PROTOCOL = Path(__file__).parent / "vscode_protocol"
SET_UP = Path(__file__).parents[3] / "docs" / "completion.md"
EGLOT = Path("/usr/share/emacs/site-lisp/elpa-src")
TYPED, COMPLETED = "print(resu", "print(result"
SECRET = "hunter2_token"


@pytest.fixture(scope="module")
def server(code_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpServer]:
    """A server that all clients of this module share; its log must hold nothing of their files."""
    log = tmp_path_factory.mktemp("server") / "log"
    with tcp_server(code_run, log=log) as running:
        yield running
    text = log.read_text()
    assert "textDocument/completion" in text
    for secret in (SECRET, "result", "listdir", "zq_"):
        assert secret not in text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "module.py"
    path.write_text(f'{SOURCE}\npassword = "{SECRET}"\n')
    return path


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: the language server is not tried with it")
    return found


def setup_as_shown(language: str, path: Path, *, command: list[str]) -> Path:
    """Write the set-up that is shown to users, with another command to start the server."""
    (shown,) = re.findall(rf"```{language}\n(.*?)```", SET_UP.read_text(), re.DOTALL)
    words = ["seqmlm", "code", "serve", "/path/to/runs/code", "--lsp"]
    for before, quote, between in (("{ ", "'", ", "), ("(", '"', " ")):
        start, separator = before + quote, quote + between + quote
        shown = shown.replace(start + separator.join(words), start + separator.join(command))
    assert command[0] in shown
    path.write_text(shown)
    return path


def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        arguments,
        env=os.environ | {"TYPED": TYPED, "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_neovim_completes_a_file(code_run: Path, file: Path, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    run(
        [
            *(program("nvim"), "--headless", "-u", "NONE", "-i", "NONE", "-n"),
            *("-c", f"luafile {EDITORS / 'complete.lua'}"),
        ],
        SETUP=str(
            setup_as_shown("lua", tmp_path / "init.lua", command=command(code_run, *PATIENT))
        ),
        FILE=str(file),
        ANSWER=str(answer),
    )
    told = json.loads(answer.read_text())
    assert told["incremental"]
    assert told["menu"][0] == "result"
    assert told["line"] == COMPLETED


def test_emacs_completes_a_file(server: TcpServer, file: Path, tmp_path: Path) -> None:
    emacs, answer = program("emacs"), tmp_path / "answer.json"
    if not any(EGLOT.glob("eglot-*")):
        pytest.skip("elpa-eglot is not installed: the language server is not tried with Emacs")
    run(
        [emacs, "-Q", "--batch", "-l", str(EDITORS / "complete.el")],
        SETUP=str(setup_as_shown("elisp", tmp_path / "init.el", command=["server", "--lsp"])),
        PORT=str(server.port),
        FILE=str(file),
        ANSWER=str(answer),
    )
    assert json.loads(answer.read_text()) == {
        "command": ["server", "--lsp"],
        "line": COMPLETED,
        "change": 2,
    }


@pytest.fixture
def told_by_vscode(server: TcpServer, file: Path) -> dict[str, Any]:
    node = program("node")
    if not (VSCODE_PROTOCOL / "node_modules").is_dir():
        pytest.skip(f"run npm ci in {VSCODE_PROTOCOL.name}: VS Code's protocol layer is missing")
    script = VSCODE_PROTOCOL / "complete.mjs"
    done = run([node, str(script)], PORT=str(server.port), FILE=str(file))
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_protocol_layer_of_vscode_completes_cancels_and_edits(
    told_by_vscode: dict[str, Any],
) -> None:
    told = told_by_vscode
    assert told["incremental"]
    assert told["offersInline"]
    assert told["labels"][0] == "result"
    assert told["completed"] == COMPLETED
    assert "%" in told["detail"]
    assert set(told["outcomes"]) <= {"answered", -32800}
    assert told["cancelled"] > 0
    assert told["cancelledByServer"] <= told["cancelled"]
    assert len(told["expected"]) > 5
    assert set(told["expected"]) <= set(told["found"])


def test_clients_come_and_go_and_one_that_breaks_off_harms_no_other(server: TcpServer) -> None:
    async def talk() -> None:
        stays, breaks_off, leaves = [
            RawClient(*await asyncio.open_connection("127.0.0.1", server.port)) for _ in range(3)
        ]
        for client in (stays, leaves):
            await client.initialize()
            client.open(f"{SECRET} = 1\n{SECRET[:4]}")
        breaks_off.send_bytes(f"Content-Length: 99\r\n\r\n{SECRET}".encode())
        await breaks_off.leave()
        leaves.notify("exit")
        await leaves.listen_to_the_end()
        await leaves.leave()
        stays.send_body(f'{{"{SECRET}'.encode())
        stays.send({"jsonrpc": "2.0", "id": SECRET, "method": SECRET})
        assert (await stays.answer(SECRET))["error"]["code"] == -32601
        assert SECRET in await stays.names(1, 4)
        await stays.leave()

    asyncio.run(talk())
