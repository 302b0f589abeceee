"""The language server: completion of identifiers, for any editor that speaks LSP."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.protocol import default_converter

from seqmlm import __version__
from seqmlm.errors import SeqmlmError
from seqmlm_domains.code.completion.completion import (
    CompletionRequest,
    CompletionResult,
    roles_named,
)
from seqmlm_domains.code.serving.completion_items import (
    AnswerMemory,
    completion_list,
    inline_completion_list,
    with_details,
)
from seqmlm_domains.code.serving.completion_queue import (
    CompletionQueue,
    QueueFull,
    QueueRefusal,
    Superseded,
)
from seqmlm_domains.code.serving.documents import Documents, Place
from seqmlm_domains.code.serving.positions import PositionEncoding
from seqmlm_domains.code.serving.protocol import CompletionProtocol, RequestFailed, log_bug
from seqmlm_domains.code.serving.served_model import AlreadyReading, ServedModel
from seqmlm_domains.code.serving.settings import ServerSettings
from seqmlm_domains.code.serving.trigger_characters import TRIGGER_CHARACTERS, is_name_due

if TYPE_CHECKING:
    from seqmlm_domains.code.completion.project import Project

logger = logging.getLogger(__name__)

RELOAD_COMMAND: Final = "seqmlm.reloadModel"
STATISTICS_COMMAND: Final = "seqmlm.statistics"

_LEXICAL_RESERVE_S: Final = 0.02
"""Kept of the deadline for the lexical answer."""


class CompletionServer(LanguageServer):
    """The server of one client; several share one model.

    Args:
        model: answers completions; until it is loaded there are none.
        settings: of the process; the client may change some for itself.
        name: tells this client from others in the queue of the model.
    """

    protocol: CompletionProtocol

    def __init__(self, model: ServedModel, *, settings: ServerSettings, name: str) -> None:
        super().__init__(
            "seqmlm",
            __version__,
            protocol_cls=CompletionProtocol,
            converter_factory=default_converter,
        )
        self.model = model
        self.settings = settings
        self._first_settings = settings
        self.is_initialized = False
        self.documents = Documents()
        self.answers = AnswerMemory()
        self._client_name = name
        self._told_languages: set[str] = set()
        _register(self)

    @property
    def client_chooses_edit(self) -> bool:
        """Whether the client takes ``InsertReplaceEdit``."""
        abilities = self.client_capabilities.text_document
        completion = abilities and abilities.completion
        item = completion and completion.completion_item
        return bool(item and item.insert_replace_support)

    def begin_with_client_settings(self, sent: Any) -> None:
        """Take the settings with which the editor begins; see :meth:`use_client_settings`."""
        self.use_client_settings(sent)
        self._first_settings = self.settings

    def use_client_settings(self, sent: Any) -> None:
        """Take the settings of the editor in place of those it sent before, but the first ones.

        Those that are not allowed are told there, and left out. None changes nothing.
        """
        if sent is None:
            return
        self.settings, complaints = self._first_settings.with_client_settings(sent)
        if complaints:
            self.show(types.MessageType.Warning, " ".join(complaints))

    def show(self, kind: types.MessageType, message: str) -> None:
        """Show the user of the editor a message."""
        self.window_show_message(types.ShowMessageParams(kind, f"seqmlm: {message}"))

    def tell_of_model(self) -> None:
        """Write into the editor's log whether completions can be had yet."""
        state = "being loaded; until then there are no completions"
        if self.model.queue is not None:
            state = "ready"
        self.window_log_message(
            types.LogMessageParams(types.MessageType.Info, f"seqmlm: the model is {state}.")
        )

    def tell_of_language(self, language: str, project: Project) -> None:
        """Show once for each language that the run knows none of its names."""
        missing = project.missing(language)
        if missing is not None and language not in self._told_languages:
            self._told_languages.add(language)
            self.show(types.MessageType.Warning, missing)

    def place(self, uri: str, position: types.Position) -> Place | None:
        """Return where to complete; None if the document is not open, too long or no source."""
        document = self.documents.get(uri)
        if document is None or document.characters > self.settings.max_document_characters:
            return None
        return document.place(position)

    async def ask(
        self, place: Place, *, method: str, uri: str, limit: int
    ) -> CompletionResult | None:
        """Return the answer of the model, or of the lexical parts if it is late.

        None while the model is loaded, if a newer request has come, or there are too many.

        Raises:
            RequestFailed: the model does not answer any more, or refuses this request.
        """
        queue = self.model.queue
        if queue is None:
            return None
        self.tell_of_language(place.language, queue.completer.project)
        began_at = time.monotonic()
        request = CompletionRequest(
            source=place.source,
            offset=place.offset,
            language=place.language,
            limit=limit,
            roles=roles_named(self.settings.roles) if self.settings.roles else None,
            types=frozenset(self.settings.types) if self.settings.types else None,
        )
        try:
            result = await queue.complete(
                request,
                deadline_s=max(self.settings.deadline_s - _LEXICAL_RESERVE_S, 0.0),
                document=f"{self._client_name} {method} {uri}",
            )
        except (Superseded, QueueFull) as refusal:
            # Not an error to the client: editors show errors to their users.
            logger.debug("%s: %s", method, type(refusal).__name__)
            return None
        except QueueRefusal as refusal:
            raise RequestFailed(str(refusal)) from refusal
        except SeqmlmError as refusal:
            logger.warning("%s: refused (%s)", method, type(refusal).__name__)
            raise RequestFailed("The completer refuses this text.") from refusal
        logger.debug(
            "%s: %d characters, %d names, %s, %.1f ms",
            method,
            len(place.source),
            len(result.completions),
            "model" if result.used_model else "lexical",
            1000 * (time.monotonic() - began_at),
        )
        return result

    def notification_was_unreadable(self, message: dict[str, Any]) -> None:
        """Forget a document whose edits are lost: a wrong text would be completed wrongly."""
        match message:
            case {
                "method": types.TEXT_DOCUMENT_DID_CHANGE,
                "params": {"textDocument": {"uri": str(uri)}},
            } if self.documents.get(uri) is not None:
                self.documents.close(uri)
                self.show(
                    types.MessageType.Warning,
                    "an edit could not be read; open the document again.",
                )

    def report_server_error(self, error: Exception, source: type[Exception]) -> None:
        """Log where an error arose; its message may hold source text."""
        log_bug(error)


def _register(server: CompletionServer) -> None:
    # pygls recognises handlers by the type of their first parameter, and cannot mark methods.
    for method, handler, options in (
        (types.INITIALIZE, _initialize, None),
        (types.INITIALIZED, _be_initialized, None),
        (types.WORKSPACE_DID_CHANGE_CONFIGURATION, _configure, None),
        (
            types.TEXT_DOCUMENT_COMPLETION,
            _complete,
            types.CompletionOptions(
                trigger_characters=list(TRIGGER_CHARACTERS), resolve_provider=True
            ),
        ),
        (types.COMPLETION_ITEM_RESOLVE, _resolve, None),
        # Without options pygls would not tell the client of it.
        (
            types.TEXT_DOCUMENT_INLINE_COMPLETION,
            _complete_inline,
            types.InlineCompletionOptions(),
        ),
    ):
        server.feature(method, options)(handler)
    server.command(RELOAD_COMMAND)(_reload_model)
    server.command(STATISTICS_COMMAND)(_statistics)


def _initialize(server: CompletionServer, params: types.InitializeParams) -> None:
    chosen = server.workspace.position_encoding
    encoding = chosen.value if isinstance(chosen, types.PositionEncodingKind) else chosen
    if encoding not in get_args(PositionEncoding):
        raise RequestFailed(f"positionEncodings: {encoding} is none of LSP's.")
    server.documents = Documents(cast(PositionEncoding, encoding))
    server.begin_with_client_settings(params.initialization_options)


def _be_initialized(server: CompletionServer, params: types.InitializedParams) -> None:
    server.is_initialized = True
    server.tell_of_model()


def _configure(server: CompletionServer, params: types.DidChangeConfigurationParams) -> None:
    server.use_client_settings(params.settings)


async def _complete(
    server: CompletionServer, params: types.CompletionParams
) -> types.CompletionList:
    uri = params.text_document.uri
    place = server.place(uri, params.position)
    if place is None or not _is_wanted(params, place):
        return types.CompletionList(is_incomplete=False, items=[])
    result = await server.ask(
        place, method=types.TEXT_DOCUMENT_COMPLETION, uri=uri, limit=server.settings.limit
    )
    if result is None:
        return types.CompletionList(is_incomplete=True, items=[])
    return completion_list(
        result, place, memory=server.answers, client_chooses_edit=server.client_chooses_edit
    )


def _is_wanted(params: types.CompletionParams, place: Place) -> bool:
    """Whether a list may open: if only a sign was typed, where a name follows it."""
    asked_by = params.context and params.context.trigger_kind
    if asked_by != types.CompletionTriggerKind.TriggerCharacter:
        return True
    return is_name_due(place.source, place.offset, place.language)


def _resolve(server: CompletionServer, item: types.CompletionItem) -> types.CompletionItem:
    completion = server.answers.find(item.data)
    return item if completion is None else with_details(item, completion)


async def _complete_inline(
    server: CompletionServer, params: types.InlineCompletionParams
) -> types.InlineCompletionList:
    uri = params.text_document.uri
    place = server.place(uri, params.position)
    if place is None:
        return types.InlineCompletionList(items=[])
    result = await server.ask(place, method=types.TEXT_DOCUMENT_INLINE_COMPLETION, uri=uri, limit=1)
    if result is None:
        return types.InlineCompletionList(items=[])
    return inline_completion_list(result, place, probability=server.settings.inline_probability)


async def _reload_model(server: CompletionServer) -> None:
    _require_model(server)
    try:
        await server.model.load()
    except AlreadyReading as error:
        raise RequestFailed("The model is being reloaded already.") from error
    except SeqmlmError as error:
        raise RequestFailed(f"The model stays as it is: {error}") from error
    logger.info("model reloaded")


async def _statistics(server: CompletionServer) -> dict[str, Any]:
    return asdict(_require_model(server).statistics())


def _require_model(server: CompletionServer) -> CompletionQueue:
    if server.model.queue is None:
        raise RequestFailed("The model is still being loaded.")
    return server.model.queue
