"""The language server within one process: what reaches the model, and what the client hears."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from seqmlm.errors import CheckpointError, DataError
from seqmlm_domains.code.completion.completion import (
    Completion,
    CompletionRequest,
    CompletionResult,
)
from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.mixture import Mixture
from seqmlm_domains.code.completion.project import Project
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.connection import Connect
from tests.code.serving.raw_client import URI, RawClient, at
from tests.code.serving.scripted_completer import ScriptedCompleter

pytestmark = pytest.mark.asyncio

COMPLETION, INLINE = "textDocument/completion", "textDocument/inlineCompletion"
REQUEST_CANCELLED, REQUEST_FAILED = -32800, -32803


class RankedCompleter(ScriptedCompleter):
    """Answers with names and probabilities that a test gives, for the prefix ``pre``.

    The word there goes on with the letters behind the cursor.
    """

    def __init__(self, ranked: dict[str, float], *, roles: Sequence[Role | None] = ()) -> None:
        super().__init__()
        self._ranked = ranked
        self._roles = roles or [None] * len(ranked)

    def complete_batch(self, requests: Sequence[CompletionRequest]) -> list[CompletionResult]:
        return [
            CompletionResult(
                completions=tuple(
                    Completion(
                        text=name,
                        start=asked.offset - 3,
                        end=asked.offset,
                        word_end=_end_of_word(asked),
                        score=math.log(probability),
                        source="model",
                        parts={"model": 1.25, "file": -1.5},
                        role=role,
                    )
                    for (name, probability), role in zip(
                        self._ranked.items(), self._roles, strict=True
                    )
                ),
                used_model=True,
            )
            for asked in requests
        ]


def _end_of_word(asked: CompletionRequest) -> int:
    rest = re.match(r"\w*", asked.source[asked.offset :])
    return asked.offset + (rest.end() if rest else 0)


async def opened(client: RawClient, text: str, **initialization: Any) -> RawClient:
    await client.initialize(**initialization)
    client.open(text)
    return client


async def wait_for_pass(completer: ScriptedCompleter) -> None:
    assert await asyncio.to_thread(completer.pass_began.wait, 30)


async def test_of_a_thousand_cancelled_requests_none_reaches_the_model(connect: Connect) -> None:
    completer = ScriptedCompleter(is_held=True)
    client = await opened(await connect(completer), "name")
    asked = []
    for _ in range(1_000):
        asked.append(client.begin(COMPLETION, at(0, 4)))
        client.cancel(asked[-1])
    asked.append(client.begin(COMPLETION, at(0, 4)))
    await wait_for_pass(completer)
    completer.let_go()
    answers = [await client.answer(identifier) for identifier in asked]
    assert [answer["error"]["code"] for answer in answers[:-1]] == [REQUEST_CANCELLED] * 1_000
    assert answers[-1]["result"]["items"][0]["label"] == "name"
    assert set(client.answered.values()) == {1}
    assert len(completer.passes) <= 2


async def test_a_cancelled_request_is_answered_while_the_model_is_busy(connect: Connect) -> None:
    completer = ScriptedCompleter(is_held=True)
    client = await opened(await connect(completer), "busy")
    busy = client.begin(COMPLETION, at(0, 4))
    await wait_for_pass(completer)
    client.open("waiting", uri="file:///b.py")
    waiting = client.begin(COMPLETION, at(0, 7, uri="file:///b.py"))
    client.cancel(waiting)
    assert (await client.answer(waiting))["error"]["code"] == REQUEST_CANCELLED
    completer.let_go()
    assert "result" in await client.answer(busy)
    assert completer.passes == [["busy"]]


async def test_the_newest_request_of_a_document_wins_and_the_older_is_no_error(
    connect: Connect,
) -> None:
    completer = ScriptedCompleter(is_held=True)
    client = await opened(await connect(completer), "busy", initializationOptions={})
    client.open("text", uri="file:///b.py")
    busy = client.begin(COMPLETION, at(0, 4))
    await wait_for_pass(completer)
    older = client.begin(COMPLETION, at(0, 1, uri="file:///b.py"))
    inline = client.begin(INLINE, at(0, 1, uri="file:///b.py") | {"context": {"triggerKind": 2}})
    newer = client.begin(COMPLETION, at(0, 2, uri="file:///b.py"))
    assert (await client.answer(older))["result"] == {"isIncomplete": True, "items": []}
    completer.let_go()
    for identifier in (busy, inline, newer):
        assert (await client.answer(identifier))["result"]["items"]
    assert completer.passes == [["busy"], ["text", "text"]]


async def test_a_late_model_is_replaced_by_a_lexical_answer(connect: Connect) -> None:
    completer = ScriptedCompleter(is_held=True)
    settings = ServerSettings(deadline_ms=25)
    client = await opened(await connect(completer, settings=settings), "name")
    assert await client.names(0, 4) == ["name"]
    statistics = await client.ask("workspace/executeCommand", {"command": "seqmlm.statistics"})
    assert statistics["ended"]["lexical"] == 1


async def test_more_requests_than_places_are_answered_at_once_with_nothing(
    connect: Connect,
) -> None:
    completer = ScriptedCompleter(is_held=True)
    client = await opened(await connect(completer, capacity=1), "name")
    first = client.begin(COMPLETION, at(0, 4))
    await wait_for_pass(completer)
    second = await client.ask(COMPLETION, at(0, 4))
    assert second == {"isIncomplete": True, "items": []}
    completer.let_go()
    assert (await client.answer(first))["result"]["items"]


async def test_of_each_language_that_the_run_does_not_know_that_is_said_once(
    connect: Connect,
) -> None:
    project = Project({"java": ContextTable.of([])}, {"java": Mixture.typical()}, {})
    client = await opened(await connect(ScriptedCompleter(project=project)), "name")
    client.open("name", uri="file:///A.java", language="java")
    for uri in (URI, "file:///A.java", URI):
        await client.names(0, 4, uri=uri)
    (told,) = [
        message["params"]
        for message in client.notifications
        if message["method"] == "window/showMessage"
    ]
    assert told["type"] == 2  # a warning
    assert "fitted to no file in python, only to java" in told["message"]


async def test_an_item_replaces_the_typed_word_and_sorts_by_rank(connect: Connect) -> None:
    ranked = {f"predict{number}": 0.5 / (number + 1) for number in range(12)}
    emoji = "\N{GRINNING FACE}"
    client = await opened(await connect(RankedCompleter(ranked)), f"a\r\nx = '{emoji}' + pre\r\n")
    result = await client.ask(COMPLETION, at(1, 14))
    assert result["isIncomplete"]
    first, second = result["items"][:2]
    assert first["textEdit"] == {
        "newText": "predict0",
        "range": {"start": {"line": 1, "character": 11}, "end": {"line": 1, "character": 14}},
    }
    assert first["filterText"] == first["label"] == "predict0"
    assert first["preselect"]
    assert "preselect" not in second
    sort_texts = [item["sortText"] for item in result["items"]]
    assert sort_texts == sorted(sort_texts)
    assert len(set(sort_texts)) == 12
    assert "detail" not in first
    assert "documentation" not in first


def word(start: int, end: int) -> dict[str, Any]:
    """The range of a word on the first line."""
    return {"start": {"line": 0, "character": start}, "end": {"line": 0, "character": end}}


INSERT_REPLACE = {
    "textDocument": {"completion": {"completionItem": {"insertReplaceSupport": True}}}
}


@pytest.mark.parametrize(
    ("capabilities", "text", "edit"),
    [
        pytest.param({}, "predate(1)", {"range": word(0, 7)}, id="replaced"),
        pytest.param(
            INSERT_REPLACE,
            "predate(1)",
            {"insert": word(0, 3), "replace": word(0, 7)},
            id="as the client chooses",
        ),
        # Two units of UTF-16 for the letter.
        pytest.param(
            INSERT_REPLACE,
            "pre\N{GOTHIC LETTER AHSA}(1)",
            {"insert": word(0, 3), "replace": word(0, 5)},
            id="a letter of two units",
        ),
        pytest.param(INSERT_REPLACE, "pre(1)", {"range": word(0, 3)}, id="no rest"),
    ],
)
async def test_the_rest_of_a_word_is_not_left_behind_the_name(
    connect: Connect, capabilities: dict[str, Any], text: str, edit: dict[str, Any]
) -> None:
    client = await connect(RankedCompleter({"predict": 0.9}))
    await client.initialize(capabilities=capabilities)
    client.open(text)
    (item,) = (await client.ask(COMPLETION, at(0, 3)))["items"]
    assert item["textEdit"] == {"newText": "predict", **edit}
    resolved = await client.ask("completionItem/resolve", item)
    assert resolved["textEdit"] == item["textEdit"]


async def test_an_inline_completion_replaces_the_whole_word(connect: Connect) -> None:
    client = await opened(await connect(RankedCompleter({"predict": 0.9})), "predate(1)")
    shown = await client.ask(INLINE, at(0, 3) | {"context": {"triggerKind": 2}})
    assert [item["range"] for item in shown["items"]] == [word(0, 7)]


async def test_the_sign_of_an_item_tells_what_the_name_mostly_is(connect: Connect) -> None:
    roles = [Role.FUNCTION, Role.CLASS, Role.IMPORT, Role.ATTRIBUTE, Role.PARAMETER, None]
    ranked = {f"predict{number}": 0.1 for number in range(len(roles))}
    client = await opened(await connect(RankedCompleter(ranked, roles=roles)), "pre")
    items = (await client.ask(COMPLETION, at(0, 3)))["items"]
    function, class_, module, field, variable = 3, 7, 9, 5, 6  # as LSP numbers them
    assert [item["kind"] for item in items] == [
        *(function, class_, module, field, variable, variable)
    ]


@pytest.mark.parametrize(("encoding", "character"), [("utf-8", 16), ("utf-32", 13)])
async def test_a_client_may_count_in_bytes_or_in_characters(
    connect: Connect, encoding: str, character: int
) -> None:
    client = await connect(RankedCompleter({"predict": 0.9}))
    capabilities = {"general": {"positionEncodings": [encoding, "utf-16"]}}
    told = (await client.initialize(capabilities=capabilities))["capabilities"]
    assert told["positionEncoding"] == encoding
    client.open("x = '\N{GRINNING FACE}' + pre")
    (item,) = (await client.ask(COMPLETION, at(0, character)))["items"]
    assert item["textEdit"]["range"]["start"]["character"] == character - 3
    assert item["textEdit"]["range"]["end"]["character"] == character


async def test_details_come_when_an_item_is_resolved(connect: Connect) -> None:
    client = await opened(await connect(RankedCompleter({"predict": 0.25})), "pre")
    (item,) = (await client.ask(COMPLETION, at(0, 3)))["items"]
    resolved = await client.ask("completionItem/resolve", item)
    assert resolved["detail"] == "25.0%, model"
    assert resolved["documentation"] == "model +1.25 nats\nfile -1.50 nats"
    assert {key: resolved[key] for key in item} == item


@pytest.mark.parametrize(
    "data", [None, 5, {"answer": 0}, {"answer": 99, "rank": 0}, {"answer": 0, "rank": -1}], ids=str
)
async def test_an_item_that_is_not_ours_comes_back_as_it_is(connect: Connect, data: Any) -> None:
    client = await opened(await connect(RankedCompleter({"predict": 0.25})), "pre")
    await client.names(0, 3)
    item = {"label": "x"} if data is None else {"label": "x", "data": data}
    assert await client.ask("completionItem/resolve", item) == item


@pytest.mark.parametrize(
    ("probability", "threshold", "is_shown"),
    [(0.6, 0.5, True), (0.5, 0.5, False), (1.0, 1.0, False)],
)
async def test_an_inline_completion_needs_a_probable_name(
    connect: Connect, probability: float, threshold: float, is_shown: bool
) -> None:
    client = await connect(RankedCompleter({"predict": probability}))
    told = await client.initialize(initializationOptions={"inline_probability": threshold})
    assert told["capabilities"]["inlineCompletionProvider"] == {}
    client.open("pre")
    shown = await client.ask(INLINE, at(0, 3) | {"context": {"triggerKind": 2}})
    ends = {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 3}}
    expected = [{"insertText": "predict", "filterText": "predict", "range": ends}]
    assert shown["items"] == (expected if is_shown else [])


async def test_where_no_name_can_stand_a_client_need_not_ask_again_at_every_key(
    connect: Connect,
) -> None:
    client = await opened(await connect(RankedCompleter({})), "# prose")
    assert await client.ask(COMPLETION, at(0, 7)) == {"isIncomplete": False, "items": []}


async def test_a_name_that_is_typed_out_is_not_shown_inline(connect: Connect) -> None:
    client = await opened(await connect(RankedCompleter({"pre": 0.9})), "pre")
    assert (await client.ask(INLINE, at(0, 3) | {"context": {"triggerKind": 2}}))["items"] == []


async def test_documents_that_are_unknown_closed_too_long_or_no_source_have_no_completions(
    connect: Connect,
) -> None:
    client = await connect(ScriptedCompleter(), settings=ServerSettings(max_document_characters=4))
    await client.initialize()
    assert await client.names(0, 0, uri="file:///etc/passwd") == []
    client.open("12345", uri="file:///long.py")
    assert await client.names(0, 0, uri="file:///long.py") == []
    client.open("text", uri="file:///a.txt", language="plaintext")
    assert await client.names(0, 0, uri="file:///a.txt") == []
    client.open("abcd")
    assert await client.names(0, 0) == ["abcd"]
    client.notify("textDocument/didClose", textDocument={"uri": URI})
    assert await client.names(0, 0) == []


async def test_an_editor_changes_settings_of_its_own_connection(connect: Connect) -> None:
    client = await opened(await connect(ScriptedCompleter()), "abcd")
    client.notify(
        "workspace/didChangeConfiguration", settings={"seqmlm": {"max_document_characters": 3}}
    )
    assert await client.names(0, 0) == []
    sent = {"max_document_characters": 3, "deadline": 3}
    client.notify("workspace/didChangeConfiguration", settings={"seqmlm": sent})
    assert await client.names(0, 0) == []
    ready, warning = client.notifications
    assert ready["method"] == "window/logMessage"
    assert warning["method"] == "window/showMessage"
    assert "deadline" in warning["params"]["message"]


@pytest.mark.parametrize("later", [{}, {"seqmlm": {}}], ids=repr)
async def test_a_setting_that_an_editor_sends_no_more_is_as_at_the_beginning(
    connect: Connect, later: dict[str, Any]
) -> None:
    client = await connect(ScriptedCompleter())
    await client.initialize(initializationOptions={"max_document_characters": 4})
    client.open("abcd")
    assert await client.names(0, 0) == ["abcd"]
    change = "workspace/didChangeConfiguration"
    client.notify(change, settings={"seqmlm": {"max_document_characters": 3}})
    client.notify(change, settings=None)
    assert await client.names(0, 0) == []
    client.notify(change, settings=later)
    assert await client.names(0, 0) == ["abcd"]
    client.open("abcde", uri="file:///b.py")
    assert await client.names(0, 0, uri="file:///b.py") == []


async def test_a_model_is_reloaded_on_command(connect: Connect) -> None:
    newer = ScriptedCompleter(label="newer ")
    client = await opened(await connect(ScriptedCompleter(), reload=lambda: newer), "abcd")
    assert await client.ask("workspace/executeCommand", {"command": "seqmlm.reloadModel"}) is None
    assert await client.names(0, 0) == ["newer abcd"]


async def test_a_model_that_cannot_be_reloaded_stays(connect: Connect) -> None:
    def fail() -> ScriptedCompleter:
        raise CheckpointError("model.safetensors: damaged.")

    client = await opened(await connect(ScriptedCompleter(), reload=fail), "abcd")
    asked = client.begin("workspace/executeCommand", {"command": "seqmlm.reloadModel"})
    error = (await client.answer(asked))["error"]
    assert error["code"] == REQUEST_FAILED
    assert "damaged" in error["message"]
    assert await client.names(0, 0) == ["abcd"]


async def test_a_model_is_read_once_at_a_time(connect: Connect) -> None:
    may_end, reads = threading.Event(), []

    def read() -> ScriptedCompleter:
        reads.append(may_end.wait(60))
        return ScriptedCompleter(label="newer ")

    client = await opened(await connect(ScriptedCompleter(), reload=read), "abcd")
    command = {"command": "seqmlm.reloadModel"}
    first, second = (client.begin("workspace/executeCommand", command) for _ in range(2))
    error = (await client.answer(second))["error"]
    assert (error["code"], error["message"]) == (
        REQUEST_FAILED,
        "The model is being reloaded already.",
    )
    may_end.set()
    assert "error" not in await client.answer(first)
    assert reads == [True]
    assert await client.names(0, 0) == ["newer abcd"]
    assert await client.ask("workspace/executeCommand", command) is None


async def test_nothing_of_a_text_is_ever_logged(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "AKIA5ECRETKEY"
    caplog.set_level(logging.CRITICAL + 1, logger="pygls")  # as the process does
    caplog.set_level(logging.DEBUG)
    poison: dict[str, BaseException] = {
        f"{secret} refused": DataError(f"text {secret}"),
        f"{secret} bug": ValueError(f"text {secret}"),
    }
    client = await connect(ScriptedCompleter(poison=poison))
    await client.initialize(initializationOptions={secret: secret})
    replies = []
    for text in (secret, *poison):
        client.open(text, uri=f"file:///{secret}.py")
        client.change({"range": secret, "text": secret}, uri="file:///other.py")
        for method in (COMPLETION, secret, "workspace/executeCommand"):
            params = at(0, 3, uri=f"file:///{secret}.py") | {"command": secret}
            replies.append(await client.answer(client.begin(method, params)))
    client.send_body(f'{{"{secret}'.encode())
    client.send({"jsonrpc": "2.0", "method": secret, "params": {secret: secret}})
    client.send({"jsonrpc": "2.0", "method": "textDocument/didOpen", "params": secret})
    await client.ask("shutdown", None)
    assert secret not in caplog.text
    assert "DataError" in caplog.text
    assert "ValueError" in caplog.text
    assert not [reply for reply in replies if secret in str(reply.get("error"))]
