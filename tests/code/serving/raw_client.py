"""A client that may send anything, and hears everything."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from itertools import count
from typing import Any

URI = "file:///repository/module.py"


class RawClient:
    """Speaks JSON-RPC over a pair of streams; :attr:`answered` counts answers by id.

    Args:
        reader: of what the server sends.
        writer: to the server.

    Where the server is of this process, ``server`` ends with its exit code.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ids = count(1)
        self._answers: dict[int | str, asyncio.Future[dict[str, Any]]] = {}
        self.answered: Counter[int | str | None] = Counter()
        self.faults: list[dict[str, Any]] = []
        self.notifications: list[dict[str, Any]] = []
        self.server: asyncio.Task[int] | None = None
        self._has_heard = asyncio.Event()
        self._listening = asyncio.ensure_future(self._listen())

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    def send_body(self, body: bytes) -> None:
        self.send_bytes(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def send(self, message: Any) -> None:
        self.send_body(json.dumps(message).encode())

    def notify(self, method: str, **params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def begin(self, method: str, params: Any) -> int:
        """Send a request; returns its id."""
        identifier = next(self._ids)
        self.send({"jsonrpc": "2.0", "id": identifier, "method": method, "params": params})
        return identifier

    async def answer(self, identifier: int | str) -> dict[str, Any]:
        """Wait for the answer to a request."""
        future = self._answers.setdefault(identifier, asyncio.get_running_loop().create_future())
        return await asyncio.wait_for(asyncio.shield(future), 30)

    def forget(self, identifier: int | str) -> None:
        """Expect another answer under an id that is used again."""
        del self._answers[identifier], self.answered[identifier]

    async def ask(self, method: str, params: Any) -> Any:
        """Return the result of a request that must succeed."""
        answer = await self.answer(self.begin(method, params))
        assert "error" not in answer, answer
        return answer["result"]

    def cancel(self, identifier: int) -> None:
        self.notify("$/cancelRequest", id=identifier)

    async def initialize(self, **params: Any) -> Any:
        default: dict[str, Any] = {"processId": None, "rootUri": None, "capabilities": {}}
        result = await self.ask("initialize", default | params)
        self.notify("initialized")
        return result

    def open(self, text: str, *, uri: str = URI, language: str = "python") -> None:
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.notify("textDocument/didOpen", textDocument=item)

    def change(self, *changes: dict[str, Any], uri: str = URI) -> None:
        self.notify(
            "textDocument/didChange",
            textDocument={"uri": uri, "version": 2},
            contentChanges=list(changes),
        )

    async def names(self, line: int, character: int, *, uri: str = URI) -> list[str]:
        """Return the labels of the completions at a place."""
        result = await self.ask("textDocument/completion", at(line, character, uri=uri))
        return [item["label"] for item in result["items"]]

    async def heard(self) -> None:
        """Wait for the next message of any kind."""
        self._has_heard.clear()
        await self._has_heard.wait()

    async def listen_to_the_end(self) -> None:
        """Wait until the server closes the connection."""
        await asyncio.wait_for(self._listening, 30)

    async def leave(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
        await self.listen_to_the_end()

    async def _listen(self) -> None:
        while (header := await self._reader.readline()) != b"":
            if not header.lower().startswith(b"content-length:"):
                continue
            while await self._reader.readline() != b"\r\n":
                pass
            body = await self._reader.readexactly(int(header.split(b":")[1]))
            self._hear(json.loads(body))
            self._has_heard.set()

    def _hear(self, message: dict[str, Any]) -> None:
        assert message["jsonrpc"] == "2.0"
        if "method" in message:
            self.notifications.append(message)
            return
        identifier = message["id"]
        self.answered[identifier] += 1
        if identifier is None:
            self.faults.append(message["error"])
            return
        answer = self._answers.setdefault(identifier, asyncio.get_running_loop().create_future())
        if not answer.done():
            answer.set_result(message)


def at(line: int, character: int, *, uri: str = URI) -> dict[str, Any]:
    """Return the parameters of a request at a place."""
    return {
        "textDocument": {"uri": uri},
        "position": {"line": line, "character": character},
    }
