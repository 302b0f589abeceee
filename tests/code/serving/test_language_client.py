"""The whole protocol with pytest-lsp: a server process on standard streams, a trained model."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities

from tests.code.serving.reference_document import Edit, ReferenceDocument, random_edit
from tests.code.serving.server_process import PATIENT, command
from tests.code.sources import SOURCE

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

URI = "file:///repository/module.py"
REQUEST_CANCELLED = -32800
WORDS = (
    *("zq_a", "zq_bc", "zq_d ", " ", "é", "\N{GRINNING FACE}", "\N{GOTHIC LETTER AHSA} "),
    *("\n", "\r\n", "\r", " zq_e\n"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(code_run: Path) -> AsyncIterator[LanguageClient]:
    config = ClientServerConfig(server_command=command(code_run, *PATIENT))
    client = await config.start()
    assert isinstance(client, LanguageClient)
    await client.initialize_session(
        types.InitializeParams(
            capabilities=client_capabilities("visual-studio-code"),
            root_uri="file:///repository",
            initialization_options={"limit": 200},
        )
    )
    while not any("ready" in message.message for message in client.log_messages):
        await client.wait_for_notification(types.WINDOW_LOG_MESSAGE)
    yield client
    await client.shutdown_session()
    await client.stop()  # type: ignore[no-untyped-call]


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def document(client: LanguageClient) -> AsyncIterator[None]:
    """The sample is open, with a half-typed call on its line 9."""
    open_text(client, f"{SOURCE}print(resu")
    yield
    client.text_document_did_close(
        types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(URI))
    )


def open_text(client: LanguageClient, text: str, uri: str = URI) -> None:
    item = types.TextDocumentItem(uri, "python", 1, text)
    client.text_document_did_open(types.DidOpenTextDocumentParams(item))


def edit(client: LanguageClient, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
    span = types.Range(types.Position(*start), types.Position(*end))
    client.text_document_did_change(
        types.DidChangeTextDocumentParams(
            types.VersionedTextDocumentIdentifier(2, URI),
            [types.TextDocumentContentChangePartial(range=span, text=text)],
        )
    )


def at(line: int, character: int, uri: str = URI) -> types.CompletionParams:
    return types.CompletionParams(
        types.TextDocumentIdentifier(uri), types.Position(line, character)
    )


async def completions(client: LanguageClient, line: int, character: int) -> types.CompletionList:
    answer = await client.text_document_completion_async(at(line, character))
    assert isinstance(answer, types.CompletionList)
    return answer


async def names(client: LanguageClient, line: int, character: int) -> list[str]:
    return [item.label for item in (await completions(client, line, character)).items]


class HeldWriter:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.held = bytearray()

    def write(self, data: bytes) -> None:
        self.held += data

    def close(self) -> None:
        raise AssertionError("nothing closes it")


@contextmanager
def sent_together(client: LanguageClient) -> Iterator[None]:
    """Send the block's messages in one write: the server cannot answer one before the next."""
    writer, together = client.protocol.writer, HeldWriter()
    assert writer is not None
    client.protocol.set_writer(together)
    yield
    client.protocol.set_writer(writer)
    writer.write(bytes(together.held))


async def test_a_half_typed_name_is_completed_in_its_place(client: LanguageClient) -> None:
    answer = await completions(client, 9, 10)
    first = answer.items[0]
    assert answer.is_incomplete
    assert first.label == first.filter_text == "result"
    span = types.Range(types.Position(9, 6), types.Position(9, 10))
    assert first.text_edit == types.TextEdit(span, "result")
    assert first.preselect


async def test_a_name_before_which_nothing_is_typed_is_completed_too(
    client: LanguageClient,
) -> None:
    edit(client, (9, 6), (9, 10), "")
    assert "result" in await names(client, 9, 6)


async def test_details_come_with_resolve(client: LanguageClient) -> None:
    first = (await completions(client, 9, 6)).items[0]  # one of several
    assert first.detail is None
    resolved = await client.completion_item_resolve_async(first)
    assert resolved.detail is not None
    assert re.fullmatch(r"\d+\.\d%, [\w-]+", resolved.detail)
    assert "nats" in str(resolved.documentation)


async def test_an_edit_before_an_emoji_moves_the_name_behind_it(client: LanguageClient) -> None:
    edit(client, (9, 0), (9, 0), "a = '\N{GRINNING FACE}'; ")
    edit(client, (9, 5), (9, 7), "\N{PILE OF POO}" * 2)
    first = (await completions(client, 9, 22)).items[0]
    span = types.Range(types.Position(9, 18), types.Position(9, 22))
    assert first.text_edit == types.TextEdit(span, "result")


@pytest.mark.parametrize("line_end", ["\r\n", "\r"], ids=ascii)
async def test_line_ends_of_other_systems_are_lines_too(
    client: LanguageClient, line_end: str
) -> None:
    open_text(client, f"{SOURCE}print(resu".replace("\n", line_end))
    assert (await names(client, 9, 10))[0] == "result"


async def test_within_a_comment_nothing_is_completed(client: LanguageClient) -> None:
    open_text(client, f"{SOURCE}# resu")
    answer = await completions(client, 9, 6)
    assert not answer.items
    assert not answer.is_incomplete


@pytest.mark.parametrize(
    ("typed", "sign", "is_due"),
    [("values.", ".", True), ("@", "@", True), ("f = total @", "@", False), ("f:", ":", False)],
)
async def test_at_a_sign_a_list_opens_only_where_a_name_follows(
    client: LanguageClient, typed: str, sign: str, is_due: bool
) -> None:
    open_text(client, f"{SOURCE}{typed}")
    place = at(9, len(typed))
    place.context = types.CompletionContext(types.CompletionTriggerKind.TriggerCharacter, sign)
    answer = await client.text_document_completion_async(place)
    assert isinstance(answer, types.CompletionList)
    assert bool(answer.items) == answer.is_incomplete == is_due
    place.context = types.CompletionContext(types.CompletionTriggerKind.Invoked)
    assert (await client.text_document_completion_async(place)).items  # type: ignore[union-attr]


async def test_random_edits_leave_the_names_of_the_reference(client: LanguageClient) -> None:
    """Names that survive in the reference are completed, and no other that begin so."""
    generator = random.Random(11)
    reference = ReferenceDocument("")
    open_text(client, "")
    for _ in range(1_000):
        change = random_edit(reference, generator, pieces=WORDS)
        reference.apply(change)
        edit(client, change.start, change.end, change.text)
    expected = {word for word in re.findall(r"\w+", reference.text) if word.startswith("zq_")}
    last = len(reference.bounds) - 1
    end = (last, reference.length(last))
    edit(client, end, end, "\nzq_")
    reference.apply(Edit(start=end, end=end, text="\nzq_"))
    found = await names(client, len(reference.bounds) - 1, 3)
    assert len(expected) > 5
    assert expected <= {*found, "zq_"}


async def test_an_inline_completion_is_the_best_name_or_nothing(client: LanguageClient) -> None:
    params = types.InlineCompletionParams(
        context=types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
        text_document=types.TextDocumentIdentifier(URI),
        position=types.Position(9, 10),
    )
    answer = await client.text_document_inline_completion_async(params)
    assert isinstance(answer, types.InlineCompletionList)
    assert [item.insert_text for item in answer.items] in ([], ["result"])


async def test_a_cancelled_request_is_answered_as_such(client: LanguageClient) -> None:
    with sent_together(client):
        client.protocol.send_request(types.TEXT_DOCUMENT_COMPLETION, at(9, 10), msg_id="cancel me")
        client.cancel_request(types.CancelParams("cancel me"))
    answer = client.protocol._request_futures["cancel me"]
    with pytest.raises(JsonRpcException) as raised:
        await asyncio.wrap_future(answer)
    assert raised.value.code == REQUEST_CANCELLED


async def test_the_model_is_loaded_again_on_command(client: LanguageClient) -> None:
    command = types.ExecuteCommandParams("seqmlm.reloadModel")
    assert await client.workspace_execute_command_async(command) is None
    assert (await names(client, 9, 10))[0] == "result"


async def test_a_wrong_setting_is_told_and_changes_nothing(client: LanguageClient) -> None:
    settings = {"seqmlm": {"limit": 0}}
    client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings))
    assert await names(client, 9, 10)
    assert "limit" in client.messages[-1].message


async def test_documents_that_are_not_open_have_no_completions(client: LanguageClient) -> None:
    answer = await client.text_document_completion_async(at(0, 0, Path(__file__).as_uri()))
    assert isinstance(answer, types.CompletionList)
    assert not answer.items
