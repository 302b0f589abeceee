"""JSON-RPC for one client: every request is answered once, whatever it looks like."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Final, NoReturn

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.protocol import LanguageServerProtocol, lsp_method

if TYPE_CHECKING:
    from seqmlm_domains.code.serving.language_server import CompletionServer

logger = logging.getLogger(__name__)

_VERSION: Final = "2.0"
_Id = int | str | None


class RequestFailed(JsonRpcException):
    """A request was understood and could not be fulfilled; editors may show the message."""

    CODE = types.LSPErrorCodes.RequestFailed.value


class CompletionProtocol(LanguageServerProtocol):
    """What pygls leaves unanswered or lets end the server, done as JSON-RPC and LSP say.

    pygls 2.1 drops requests whose JSON or parameters it cannot read and those that come at the
    wrong time; a notification that carries an id is run and never answered; a response to a
    request that was never made ends the client's own request of that id; errors carry tracebacks
    and are logged with their parameters. Here nothing of a message is ever logged but its method,
    its id and its length. The server makes no requests, so that every response is dropped.
    """

    _is_initialized = False
    has_ended = False
    """Whether the client has sent ``exit``."""

    @property
    def exit_code(self) -> int:
        """0 if the client has shut the server down in order, else 1, as LSP has it."""
        return 0 if self._shutdown else 1

    def receive(self, body: bytes) -> None:
        """Act on one message, and answer at once what is none."""
        try:
            message = json.loads(body.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            logger.warning("message of %d bytes: no JSON (%s)", len(body), type(error).__name__)
            self.refuse(None, types.ErrorCodes.ParseError, "The message is not JSON in UTF-8.")
            return
        identifier = message.get("id") if isinstance(message, dict) else None
        is_identified = isinstance(identifier, int | str) and not isinstance(identifier, bool)
        if not isinstance(message, dict) or message.get("jsonrpc") != _VERSION:
            self.refuse(
                identifier if is_identified else None,
                types.ErrorCodes.InvalidRequest,
                f'The message is not an object with "jsonrpc": "{_VERSION}".',
            )
        elif "method" not in message and ("result" in message or "error" in message):
            logger.debug("response to no request of ours dropped")
        elif not isinstance(message.get("method"), str) or ("id" in message and not is_identified):
            self.refuse(
                identifier if is_identified else None,
                types.ErrorCodes.InvalidRequest,
                "A request has a method, a string, and an id, an integer or a string.",
            )
        elif "id" in message:
            self._receive_request(identifier, message)
        else:
            self._receive_notification(message)

    def refuse(self, identifier: _Id, code: int, message: str) -> None:
        """Send an error as the answer to a request; None stands for one of unknown id."""
        error = {"code": int(code), "message": message}
        self._send_data({"jsonrpc": _VERSION, "id": identifier, "error": error})

    async def abandon(self) -> None:
        """Cancel every request that is not answered yet, and wait until they have ended."""
        unanswered: list[Any] = list(self._request_futures.values())
        self._cancel_all()
        tasks = [future for future in unanswered if asyncio.isfuture(future)]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cancel_all(self) -> None:
        for future in list(self._request_futures.values()):
            future.cancel()

    def _receive_request(self, identifier: Any, message: dict[str, Any]) -> None:
        method = message["method"]
        if fault := self._untimely(identifier, method):
            self.refuse(identifier, *fault)
            return
        if method not in self.fm.builtin_features and method not in self.fm.features:
            logger.debug("request of unknown method")
            self.refuse(
                identifier, types.ErrorCodes.MethodNotFound, "The server has no such method."
            )
            return
        try:
            request = self.structure_message(message)
        except JsonRpcException:
            logger.warning("%s: unreadable parameters", method)
            self.refuse(
                identifier,
                types.ErrorCodes.InvalidParams,
                f"The parameters are not those that LSP has for {method}.",
            )
            return
        if not hasattr(request, "id"):
            self.refuse(
                identifier,
                types.ErrorCodes.InvalidRequest,
                f"{method} is a notification: it has no id.",
            )
            return
        self._is_initialized |= method == types.INITIALIZE
        self.handle_message(request)

    def _untimely(self, identifier: Any, method: str) -> tuple[int, str] | None:
        """Why a request cannot be taken now."""
        if self._shutdown:
            return types.ErrorCodes.InvalidRequest, "The server has been shut down."
        if identifier in self._request_futures:
            return types.ErrorCodes.InvalidRequest, "An unanswered request has the same id."
        if self._is_initialized == (method == types.INITIALIZE):
            if self._is_initialized:
                return types.ErrorCodes.InvalidRequest, "The server is initialized already."
            return types.ErrorCodes.ServerNotInitialized, "The server is not initialized yet."
        return None

    def _receive_notification(self, message: dict[str, Any]) -> None:
        method = message["method"]
        if method == types.EXIT:
            self.has_ended = True
        if not self._is_initialized or self._shutdown or self.has_ended:
            return
        if method == types.CANCEL_REQUEST:
            self._cancel(message.get("params"))
            return
        try:
            notification = self.structure_message(message)
        except JsonRpcException:
            # The method is named only if it is ours: anything may stand there.
            logger.warning(
                "%s: unreadable parameters",
                method if method in self.fm.builtin_features else "unknown notification",
            )
            self._server.notification_was_unreadable(message)
            return
        if not hasattr(notification, "id"):
            self.handle_message(notification)

    def _cancel(self, params: Any) -> None:
        """Cancel a request; one that is answered already, or was never made, is none of ours."""
        match params:
            case {"id": int() | str() as identifier} if identifier in self._request_futures:
                self._request_futures[identifier].cancel()

    # -- what pygls calls

    _server: CompletionServer

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams) -> None:
        """Keep a text in place of pygls, whose edits are wrong at line ends and past the end."""
        self._server.documents.open(params.text_document)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams) -> None:
        """Edit a text; one that is not open has no use for edits."""
        self._server.documents.change(params.text_document.uri, params.content_changes)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams) -> None:
        """Forget a text."""
        self._server.documents.close(params.text_document.uri)

    @lsp_method(types.SHUTDOWN)
    def lsp_shutdown(self, *args: object) -> None:  # type: ignore[override]
        """Cancel what is unanswered, and take nothing but ``exit`` from now on."""
        self._cancel_all()
        self._shutdown = True

    @lsp_method(types.WORKSPACE_EXECUTE_COMMAND)
    async def lsp_workspace__execute_command(  # type: ignore[override]
        self, params: types.ExecuteCommandParams
    ) -> Any:
        """Run a command; a coroutine, so that cancelling the request cancels it."""
        command = self.fm.commands.get(params.command)
        if command is None:
            raise RequestFailed(f"There is no such command; {', '.join(self.fm.commands)} are.")
        return await command()

    def _send_handler_result(self, future: Any, *, msg_id: int | str) -> None:
        if self._request_futures.get(msg_id) is future:
            del self._request_futures[msg_id]
        if future.cancelled():
            self.refuse(msg_id, types.LSPErrorCodes.RequestCancelled, "The request was cancelled.")
        elif (error := future.exception()) is None:
            self._send_response(msg_id, result=future.result())
        elif isinstance(error, JsonRpcException):
            self.refuse(msg_id, error.code, error.message)
        else:
            log_bug(error)
            self.refuse(
                msg_id, types.ErrorCodes.InternalError, f"Internal error: {type(error).__name__}."
            )

    def _check_handler_result(self, future: Any) -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            log_bug(error)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def log_bug(error: BaseException) -> None:
    """Log where an error of ours was raised, without its message: it may hold source text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
    logger.error("internal error: %s%s", type(error).__name__, place)
