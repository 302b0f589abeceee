"""A server of its own whose model is being read for as long as a test wants."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from seqmlm_domains.code.learned_vocabulary import TOKENIZER_FILE
from tests.code.serving.raw_client import RawClient, at
from tests.code.serving.server_process import PATIENCE_S, PATIENT, command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio,
    pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes in folders"),
]

COMPLETION, EXECUTE = "textDocument/completion", "workspace/executeCommand"
REQUEST_FAILED = -32803
NOTHING_YET = {"isIncomplete": True, "items": []}
TEXT = "counter = 1\nprint(coun"


@pytest.fixture
def held_run(code_run: Path, tmp_path: Path) -> Path:
    """A run whose tokenizer is a pipe: reading it ends when something is written into it."""
    run = tmp_path / "run"
    shutil.copytree(code_run, run, ignore=shutil.ignore_patterns("checkpoints", "repository"))
    tokenizer = run / "model" / TOKENIZER_FILE
    tokenizer.rename(run / TOKENIZER_FILE)
    os.mkfifo(tokenizer)
    return run


async def let_go(run: Path, content: bytes | None = None) -> None:
    """Let the tokenizer be read; it is that of the model unless other bytes are given."""
    if content is None:
        content = (run / TOKENIZER_FILE).read_bytes()
    await asyncio.to_thread((run / "model" / TOKENIZER_FILE).write_bytes, content)


Start = Callable[[Path], Awaitable[tuple[Process, RawClient]]]


@pytest_asyncio.fixture
async def start() -> AsyncIterator[Start]:
    """Start servers on standard streams, which must have ended by themselves after the test."""
    running: list[Process] = []

    async def start(run: Path) -> tuple[Process, RawClient]:
        process = await asyncio.create_subprocess_exec(
            *command(run, *PATIENT),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        running.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        return process, RawClient(process.stdout, process.stdin)

    yield start
    for process in running:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: Process) -> tuple[int | None, str]:
    """Wait for the end of a server; returns its exit code and all of its log."""
    assert process.stderr is not None
    log = await asyncio.wait_for(process.stderr.read(), PATIENCE_S)
    await asyncio.wait_for(process.wait(), PATIENCE_S)
    return process.returncode, log.decode()


async def notified(client: RawClient, text: str) -> str:
    """Wait for a message with a text in it; returns the method it came by."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for message in client.notifications:
                if text in message["params"]["message"]:
                    return str(message["method"])
            await client.heard()


async def test_a_client_is_answered_before_the_model_is_loaded(
    held_run: Path, start: Start
) -> None:
    process, client = await start(held_run)
    told = await client.initialize()
    assert told["capabilities"]["completionProvider"]["resolveProvider"]
    assert await notified(client, "being loaded") == "window/logMessage"
    client.open(TEXT)
    asked = [client.begin(COMPLETION, at(1, 10)) for _ in range(20)]
    asked.append(
        client.begin("textDocument/inlineCompletion", at(1, 10) | {"context": {"triggerKind": 2}})
    )
    for command_name in ("seqmlm.reloadModel", "seqmlm.statistics"):
        refused = client.begin(EXECUTE, {"command": command_name})
        assert (await client.answer(refused))["error"]["code"] == REQUEST_FAILED
    answers = [(await client.answer(identifier))["result"] for identifier in asked]
    assert answers == [NOTHING_YET] * 20 + [{"items": []}]
    await let_go(held_run)
    assert await notified(client, "ready") == "window/logMessage"
    assert "counter" in await client.names(1, 10)
    await client.ask("shutdown", None)
    client.notify("exit")
    assert set(client.answered.values()) == {1}
    assert (await ended(process))[0] == 0


async def test_a_model_that_turns_out_to_be_damaged_is_shown_and_ends_the_server(
    held_run: Path, start: Start
) -> None:
    process, client = await start(held_run)
    await client.initialize()
    await notified(client, "being loaded")
    await let_go(held_run, b"{")
    assert await notified(client, "cannot be loaded") == "window/showMessage"
    code, log = await ended(process)
    assert code == 1
    assert TOKENIZER_FILE in log
    assert "Traceback" not in log


async def test_a_client_that_leaves_while_the_model_is_read_ends_the_server(
    held_run: Path, start: Start
) -> None:
    process, client = await start(held_run)
    await client.initialize()
    await client.ask("shutdown", None)
    client.notify("exit")
    assert (await ended(process))[0] == 0


async def test_a_signal_ends_a_server_that_reads_its_model(held_run: Path, start: Start) -> None:
    process, client = await start(held_run)
    await client.initialize()
    process.terminate()
    assert (await ended(process))[0] == 0
