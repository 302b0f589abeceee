"""What every HTTP request passes before the application sees it, and what is logged of it."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqmlm_domains.code.serving.completion_queue import CompletionQueue
from seqmlm_domains.code.serving.http.connection import BEGAN_AT
from seqmlm_domains.code.serving.http.metrics import ServiceMetrics
from seqmlm_domains.code.serving.http.refusal import (
    CLOSE,
    Refusal,
    internal_error,
    refusal_of_queue,
    too_many,
)
from seqmlm_domains.code.serving.http.token_bucket import TokenBuckets

logger = logging.getLogger(__name__)

COMPLETIONS_PATH: Final = "/v1/completions"
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")

_GUARDED: Final = ("/v1/", "/metrics")
# Keys in the state of a request.
_IS_ADMITTED: Final = "seqmlm.is_admitted"
_HAS_PLACE: Final = "seqmlm.has_place"


class _ClientLeft(Exception):
    """Nobody waits for an answer."""


class _Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRules:
    """What a request must be like.

    Args:
        hosts: names that the Host header may have, lower-case, without port.
        token: bearer token of ``/v1`` and ``/metrics``; None: none is asked for.
        max_body_bytes: of a body.
        body_timeout_s: until all of a body has come.
    """

    hosts: Sequence[str]
    token: bytes | None
    max_body_bytes: int
    body_timeout_s: float

    def refusal(self, scope: Scope) -> Refusal | None:
        """Return what is wrong with the head of a request; None if nothing is."""
        headers = dict(scope["headers"])
        hosts = sum(name == b"host" for name, _ in scope["headers"])
        return (
            self._wrong_host(headers, is_doubtful=hosts > 1)
            or _foreign_origin(headers)
            or self._wrong_token(scope["path"], headers)
            or self._wrong_body(scope["method"], headers)
        )

    def _wrong_host(self, headers: Mapping[bytes, bytes], *, is_doubtful: bool) -> Refusal | None:
        """A page of another name that resolves to this machine must not read our answers."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not host or is_doubtful:
            message = "One Host header is due."
            return Refusal(status=400, code="no_host", message=message, headers=CLOSE)
        if _without_port(host) in self.hosts:
            return None
        message = f"This is {' or '.join(self.hosts)}; the setting allowed_hosts adds names."
        return Refusal(status=421, code="foreign_host", message=message, headers=CLOSE)

    def _wrong_token(self, path: str, headers: Mapping[bytes, bytes]) -> Refusal | None:
        if self.token is None or not path.startswith(_GUARDED):
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.token):
            return None
        return Refusal(
            status=401,
            code="no_token",
            message="A valid bearer token is due.",
            headers={"www-authenticate": "Bearer", **CLOSE},
        )

    def _wrong_body(self, method: str, headers: Mapping[bytes, bytes]) -> Refusal | None:
        size = int(headers.get(b"content-length", b"0"))
        if method == "POST" and (size or b"transfer-encoding" in headers):
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind != b"application/json":
                # What a form of a foreign page can send without asking is never JSON.
                message = "Content-Type must be application/json."
                return Refusal(status=415, code="no_json", message=message, headers=CLOSE)
        if size > self.max_body_bytes:
            return self.too_large()
        return None

    def too_large(self) -> Refusal:
        """Return the refusal of a body that is."""
        message = f"The body is larger than {self.max_body_bytes:,} bytes."
        return Refusal(status=413, code="too_large", message=message, headers=CLOSE)


class Places:
    """How many completions are on their way to the queue, or in it.

    Of very many that come together, all would find room in the queue until the first gets there:
    those let through are counted here. Bodies that are still to come take no place from others.

    Args:
        queue: of completions.
    """

    def __init__(self, queue: CompletionQueue) -> None:
        self._queue, self._taken = queue, 0

    def refusal(self) -> Refusal | None:
        """Return the refusal of a completion that comes now; None if there is a place for it."""
        error = self._queue.refusal(on_their_way=self._taken)
        return None if error is None else refusal_of_queue(error)

    def take(self, scope: Scope) -> Refusal | None:
        """Give a completion a place, or return its refusal."""
        refusal = self.refusal()
        if refusal is None:
            self._taken += 1
            scope["state"][_HAS_PLACE] = True
        return refusal

    def leave(self, scope: Scope) -> None:
        """Give the place back, if there is one."""
        self._taken -= scope["state"].pop(_HAS_PLACE, False)


class Guard:
    """ASGI application that lets through what the rules allow, with its body complete.

    An answer that nobody waits for is cancelled: uvicorn alone tells the application of a client
    that has gone, but lets it work on. Errors of ours end as 500 and as one log line without
    values, since these may be source.

    Args:
        application: answers what is let through.
        rules: for the head and the body.
        buckets: how often each address may ask for ``/v1``.
        queue: completions that it has no place for are refused before they are parsed.
        metrics: told of every answer.
    """

    def __init__(
        self,
        application: ASGIApp,
        *,
        rules: GuardRules,
        buckets: TokenBuckets,
        queue: CompletionQueue,
        metrics: ServiceMetrics,
    ) -> None:
        self._application, self._rules = application, rules
        self._buckets, self._metrics = buckets, metrics
        self._places = Places(queue)

    def admit(self, scope: Scope, *, is_whole: bool) -> Refusal | None:
        """Refuse what its head alone forbids, and completions that find no place.

        A connection asks this before it calls the guard, which does not ask again: to call it costs
        a task, and half as much again as a refusal does without.

        Args:
            scope: of the request, as ASGI has it.
            is_whole: whether its body has come: a completion then has its place from now on.

        Returns:
            What is to be sent, counted already; None: the guard must be called.
        """
        refusal = self._refusal_of_head(scope, is_whole=is_whole)
        if refusal is None:
            scope["state"][_IS_ADMITTED] = True
        else:
            self._note(scope, status=refusal.status, size=0)
        return refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        scope.setdefault("state", {}).setdefault(BEGAN_AT, time.monotonic())
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._places.leave(scope)  # who has read the end of the answer may ask again
            await send(message)

        body = b""
        try:
            if _IS_ADMITTED not in scope["state"]:
                _raise_if_refused(self._refusal_of_head(scope, is_whole=False))
            body = await self._read_in_time(receive)
            if scope["path"] == COMPLETIONS_PATH and _HAS_PLACE not in scope["state"]:
                _raise_if_refused(self._places.take(scope))
            await self._answer(scope, body, receive, send_noting_status)
        except _Refused as refused:
            await refused.refusal.response()(scope, receive, send_noting_status)
        except _ClientLeft:
            pass
        except Exception as error:
            # The last line of defence: uvicorn would log the message, which may hold source.
            _log_without_values(error)
            if not status:
                await internal_error().response()(scope, receive, send_noting_status)
        finally:
            self._places.leave(scope)
            self._note(scope, status=status, size=len(body))

    def _refusal_of_head(self, scope: Scope, *, is_whole: bool) -> Refusal | None:
        """Refuse what need not be read: what is not allowed, and what has no place."""
        refusal = self._rules.refusal(scope)
        if refusal is not None:
            return refusal
        if scope["path"].startswith("/v1/"):
            client = scope["client"][0] if scope.get("client") else ""
            wait_s = self._buckets.take(client, now_s=time.monotonic())
            if wait_s:
                return too_many(retry_after_s=wait_s)
        if scope["path"] == COMPLETIONS_PATH:
            return self._places.take(scope) if is_whole else self._places.refusal()
        return None

    async def _read_in_time(self, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._rules.body_timeout_s):
                return await self._read(receive)
        except TimeoutError:
            message = "The body took too long."
            refusal = Refusal(status=408, code="too_slow", message=message, headers=CLOSE)
            raise _Refused(refusal) from None

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientLeft
            body += message.get("body", b"")
            if len(body) > self._rules.max_body_bytes:
                raise _Refused(self._rules.too_large())
            if not message.get("more_body", False):
                return bytes(body)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Run the application until it has answered or its client has gone."""
        gone = asyncio.ensure_future(receive())
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return unread.pop() if unread else await asyncio.shield(gone)

        answer = asyncio.ensure_future(self._application(scope, receive_again, send))
        try:
            await asyncio.wait((gone, answer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            answer.cancel()
            await asyncio.wait((gone, answer))
        if not answer.cancelled() and (error := answer.exception()) is not None:
            raise error

    def _note(self, scope: Scope, *, status: int, size: int) -> None:
        """Count and log an answer; the path is that of a route, for others may hold anything."""
        route = getattr(scope.get("route"), "path", "-")
        elapsed_s = time.monotonic() - scope["state"][BEGAN_AT]
        self._metrics.count(method=scope["method"], route=route, status=status, elapsed_s=elapsed_s)
        outcome = status or "left"
        logger.info(
            "%s %s %s %.1f ms %d bytes", scope["method"], route, outcome, 1000 * elapsed_s, size
        )


def _raise_if_refused(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise _Refused(refusal)


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _foreign_origin(headers: Mapping[bytes, bytes]) -> Refusal | None:
    """Browsers name the page that asks: only ours may."""
    if b"origin" not in headers:
        return None
    # Compared as bytes, for anything may stand there.
    scheme, _, host = headers[b"origin"].lower().partition(b"://")
    if scheme in (b"http", b"https") and host == headers[b"host"].lower():
        return None
    message = "Only the page of this service may ask from within a browser."
    return Refusal(status=403, code="foreign_origin", message=message, headers=CLOSE)


def _log_without_values(error: Exception) -> None:
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    logger.error("%s in %s", type(error).__name__, where)
