"""What a client may send that is no LSP, and when it comes: all is answered, nothing ends."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.code.serving.connection import Connect
from tests.code.serving.raw_client import RawClient, at
from tests.code.serving.scripted_completer import ScriptedCompleter

pytestmark = pytest.mark.asyncio

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
NOT_INITIALIZED, REQUEST_CANCELLED = -32002, -32800


@pytest_asyncio.fixture
async def client(connect: Connect) -> AsyncIterator[RawClient]:
    client = await connect(ScriptedCompleter())
    await client.initialize()
    client.open("name")
    assert await client.names(0, 4) == ["name"]
    client.notifications.clear()  # that the model is ready
    yield client
    assert await client.names(0, 4) == ["name"], "the server goes on"


def body(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"{", PARSE_ERROR),
        (b"", PARSE_ERROR),
        (b"\xff\xfe", PARSE_ERROR),
        (b'{"a": "\xc3"}', PARSE_ERROR),
        ('{"jsonrpc": "2.0", "method": "x"}'.encode("utf-16"), PARSE_ERROR),
        (b"[" * 50_000, PARSE_ERROR),
        (b'{"a":' * 50_000, PARSE_ERROR),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "x"}', PARSE_ERROR),
        (b"1" * 10_000, PARSE_ERROR),
        (b"null", INVALID_REQUEST),
        (b"[]", INVALID_REQUEST),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "shutdown"}]', INVALID_REQUEST),
        (b'{"id": null, "method": "shutdown"}', INVALID_REQUEST),
        (body(id=None, method="shutdown"), INVALID_REQUEST),
        (body(id=1.5, method="shutdown"), INVALID_REQUEST),
        (body(id=[1], method="shutdown"), INVALID_REQUEST),
        (body(id={}, method="shutdown"), INVALID_REQUEST),
        (body(id=True, method="shutdown"), INVALID_REQUEST),
        (body(method=5), INVALID_REQUEST),
        (body(), INVALID_REQUEST),
    ],
    ids=lambda sent: ascii(sent)[:40],
)
async def test_what_is_no_message_is_answered_with_an_error(
    client: RawClient, sent: bytes, code: int
) -> None:
    client.send_body(sent)
    await client.names(0, 4)
    assert [fault["code"] for fault in client.faults] == [code]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"method": "no/such"}, METHOD_NOT_FOUND),
        ({"method": "$/no/such"}, METHOD_NOT_FOUND),
        ({"method": "no/such", "params": {"type_name": "int"}}, METHOD_NOT_FOUND),
        ({"jsonrpc": "1.0", "method": "shutdown"}, INVALID_REQUEST),
        ({"method": None}, INVALID_REQUEST),
        ({}, INVALID_REQUEST),
        ({"method": "initialize", "params": {"capabilities": {}}}, INVALID_REQUEST),
        ({"method": "exit"}, INVALID_REQUEST),
        ({"method": "textDocument/completion"}, INVALID_PARAMS),
        ({"method": "textDocument/completion", "params": [1, 2]}, INVALID_PARAMS),
        ({"method": "textDocument/completion", "params": at(-1, 0)}, INVALID_PARAMS),
        ({"method": "textDocument/completion", "params": at(0, 2**40)}, INVALID_PARAMS),
        ({"method": "textDocument/completion", "params": {"jsonrpc": "2.0"}}, INVALID_PARAMS),
        ({"method": "textDocument/didOpen", "params": {}}, INVALID_PARAMS),
        (
            {
                "method": "textDocument/didClose",
                "params": {"textDocument": {"uri": "file:///elsewhere.py"}},
            },
            INVALID_REQUEST,
        ),
        ({"method": "$/cancelRequest", "params": {"id": 1}}, METHOD_NOT_FOUND),
        ({"method": "workspace/executeCommand", "params": {"command": "rm"}}, -32803),
    ],
    ids=lambda value: ascii(value)[:60],
)
async def test_a_request_that_cannot_be_fulfilled_is_answered_under_its_id(
    client: RawClient, message: dict[str, Any], code: int
) -> None:
    client.send({"jsonrpc": "2.0", "id": "this one", **message})
    answer = await client.answer("this one")
    assert answer["error"]["code"] == code


@pytest.mark.parametrize(
    "message",
    [
        {"method": "no/such"},
        {"method": "$/no/such", "params": {}},
        {"method": "textDocument/didOpen", "params": 3},
        {"method": "textDocument/completion", "params": at(0, 0)},
        {"method": "$/cancelRequest", "params": {"id": 99}},
        {"method": "$/cancelRequest", "params": {"id": [1]}},
        {"method": "$/cancelRequest"},
        {"method": "textDocument/didClose", "params": {"textDocument": {"uri": "file:///a"}}},
        {"id": 1, "result": None},
        {"id": [], "error": {"code": 1, "message": ""}},
    ],
    ids=lambda value: ascii(value)[:60],
)
async def test_what_expects_no_answer_gets_none(client: RawClient, message: dict[str, Any]) -> None:
    client.send({"jsonrpc": "2.0", **message})
    assert await client.names(0, 4) == ["name"]
    assert not client.faults
    assert not client.notifications


async def test_before_and_after_its_life_the_server_answers_errors(connect: Connect) -> None:
    client = await connect(ScriptedCompleter())
    for method in ("textDocument/completion", "shutdown"):
        early = await client.answer(client.begin(method, None))
        assert early["error"]["code"] == NOT_INITIALIZED
    client.open("dropped: not yet initialized")
    await client.initialize()
    assert await client.names(0, 0) == []
    assert await client.ask("shutdown", None) is None
    late = await client.answer(client.begin("textDocument/completion", at(0, 0)))
    assert late["error"]["code"] == INVALID_REQUEST
    client.notify("exit")
    await client.listen_to_the_end()


async def test_a_response_of_the_client_does_not_end_its_own_request(connect: Connect) -> None:
    completer = ScriptedCompleter(is_held=True)
    client = await connect(completer)
    await client.initialize()
    client.open("name")
    asked = client.begin("textDocument/completion", at(0, 4))
    client.send({"jsonrpc": "2.0", "id": asked, "result": "forged"})
    client.cancel(asked)
    assert (await client.answer(asked))["error"]["code"] == REQUEST_CANCELLED


async def test_an_id_that_is_in_use_is_refused_and_free_again_later(connect: Connect) -> None:
    completer = ScriptedCompleter(is_held=True)
    client = await connect(completer)
    await client.initialize()
    client.open("name")
    asked = client.begin("textDocument/completion", at(0, 4))
    client.send({"jsonrpc": "2.0", "id": asked, "method": "shutdown"})
    refused = await client.answer(asked)
    assert refused["error"]["code"] == INVALID_REQUEST
    client.forget(asked)
    completer.let_go()
    assert (await client.answer(asked))["result"]["items"][0]["label"] == "name"
    client.forget(asked)
    client.send({"jsonrpc": "2.0", "id": asked, "method": "shutdown"})
    assert (await client.answer(asked))["result"] is None


async def test_an_edit_that_cannot_be_read_closes_the_document_instead_of_spoiling_it(
    client: RawClient,
) -> None:
    client.change({"range": "here", "text": "x"})
    assert await client.names(0, 4) == []
    assert "open the document again" in client.notifications[0]["params"]["message"]
    client.open("name")


@pytest.mark.parametrize(
    "header",
    ["Content-Length: 10000000000\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ids=["10 GB", "HTTP"],
)
async def test_a_stream_that_is_lost_is_answered_and_closed(connect: Connect, header: str) -> None:
    client = await connect(ScriptedCompleter())
    client.send_bytes(header.encode())
    await client.listen_to_the_end()
    assert [fault["code"] for fault in client.faults] == [INVALID_REQUEST]


async def test_ten_thousand_spoilt_messages_leave_the_server_answering(client: RawClient) -> None:
    generator = random.Random(7)
    seeds = [
        body(id="f", method="textDocument/completion", params=at(0, 4)),
        body(id="f", method="workspace/executeCommand", params={"command": "x"}),
        body(method="$/cancelRequest", params={"id": "f"}),
        body(
            method="textDocument/didChange",
            params={"textDocument": {"uri": "file:///z", "version": 1}, "contentChanges": []},
        ),
    ]
    for number in range(10_000):
        spoilt = bytearray(generator.choice(seeds))
        for _ in range(generator.randrange(1, 4)):
            at_byte = generator.randrange(len(spoilt))
            spoilt[at_byte : at_byte + generator.randrange(3)] = generator.randbytes(
                generator.randrange(3)
            )
        if b"exit" not in spoilt and b"shutdown" not in spoilt:
            client.send_body(bytes(spoilt))
        if number % 500 == 0:
            assert await client.names(0, 4) == ["name"]


@pytest.mark.parametrize(
    ("is_shut_down", "says_exit", "code"),
    [(True, True, 0), (True, False, 0), (False, True, 1), (False, False, 1)],
)
async def test_the_exit_code_says_whether_the_server_was_shut_down(
    connect: Connect, is_shut_down: bool, says_exit: bool, code: int
) -> None:
    completer = ScriptedCompleter(is_held=True)
    client = await connect(completer)
    await client.initialize()
    client.open("name")
    unanswered = client.begin("textDocument/completion", at(0, 4))
    if is_shut_down:
        await client.ask("shutdown", None)
        assert (await client.answer(unanswered))["error"]["code"] == REQUEST_CANCELLED
    if says_exit:
        client.notify("exit")
        await client.listen_to_the_end()
    await client.leave()
    assert client.server is not None
    assert await client.server == code
