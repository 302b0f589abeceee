"""What every HTTP request passes before the application sees it, and what is logged of it."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from seqmlm_domains.code.serving.completion_queue import (
    CompletionQueue,
    QueueFull,
    QueueRefusal,
)
from seqmlm_domains.code.serving.http.connection import BEGAN_AT
from seqmlm_domains.code.serving.http.metrics import ServiceMetrics
from seqmlm_domains.code.serving.http.token_bucket import TokenBuckets

logger = logging.getLogger(__name__)

COMPLETIONS_PATH: Final = "/v1/completions"
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")

_CLOSE: Final = {"connection": "close"}
_GUARDED: Final = ("/v1/", "/metrics")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer in the place of the application's.

    Args:
        status: of HTTP.
        code: for programs.
        message: for people; holds nothing that was sent.
        headers: besides the usual ones.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """Return it as it is sent."""
        content = {"error": {"code": self.code, "message": self.message}}
        return JSONResponse(content, self.status, headers=dict(self.headers))


class _ClientLeft(Exception):
    """Nobody waits for an answer."""


class _Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)


def too_many(*, retry_after_s: float) -> Refusal:
    """Return the refusal of a request that should come again later."""
    seconds = max(1, round(retry_after_s + 0.5))
    return Refusal(
        status=429,
        code="too_many_requests",
        message=f"Too many requests; try again in {seconds} s.",
        headers={"retry-after": str(seconds)},
    )


def refusal_of_queue(error: QueueRefusal) -> Refusal:
    """Return the refusal of a request that the queue does not answer."""
    if isinstance(error, QueueFull):
        return too_many(retry_after_s=error.retry_after_s)
    return Refusal(status=503, code="not_ready", message="The service does not answer now.")


def internal_error() -> Refusal:
    """Return the answer where an error of ours has kept the request from one."""
    return Refusal(status=500, code="internal", message="An error of the service.", headers=_CLOSE)


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
            return Refusal(status=400, code="no_host", message=message, headers=_CLOSE)
        if _without_port(host) in self.hosts:
            return None
        message = f"This is {' or '.join(self.hosts)}; the setting allowed_hosts adds names."
        return Refusal(status=421, code="foreign_host", message=message, headers=_CLOSE)

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
            headers={"www-authenticate": "Bearer", **_CLOSE},
        )

    def _wrong_body(self, method: str, headers: Mapping[bytes, bytes]) -> Refusal | None:
        size = int(headers.get(b"content-length", b"0"))
        if method == "POST" and (size or b"transfer-encoding" in headers):
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind != b"application/json":
                # What a form of a foreign page can send without asking is never JSON.
                message = "Content-Type must be application/json."
                return Refusal(status=415, code="no_json", message=message, headers=_CLOSE)
        if size > self.max_body_bytes:
            return self.too_large()
        return None

    def too_large(self) -> Refusal:
        """Return the refusal of a body that is."""
        message = f"The body is larger than {self.max_body_bytes:,} bytes."
        return Refusal(status=413, code="too_large", message=message, headers=_CLOSE)


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
        self._buckets, self._queue, self._metrics = buckets, queue, metrics
        self._completing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        began_at = scope.get("state", {}).get(BEGAN_AT) or time.monotonic()
        status = 0

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        body = b""
        try:
            self._check_head(scope)
            body = await self._read_in_time(receive)
            with self._place(scope, send_noting_status) as send_answer:
                await self._answer(scope, body, receive, send_answer)
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
            self._note(scope, status=status, size=len(body), since=began_at)

    def _check_head(self, scope: Scope) -> None:
        """Refuse what need not be read: what is not allowed, and what has no place."""
        refusal = self._rules.refusal(scope)
        if refusal is not None:
            raise _Refused(refusal)
        if scope["path"].startswith("/v1/"):
            client = scope["client"][0] if scope.get("client") else ""
            wait_s = self._buckets.take(client, now_s=time.monotonic())
            if wait_s:
                raise _Refused(too_many(retry_after_s=wait_s))
        if scope["path"] == COMPLETIONS_PATH:
            self._require_place()

    def _require_place(self) -> None:
        try:
            self._queue.require_place(on_their_way=self._completing)
        except QueueRefusal as error:
            raise _Refused(refusal_of_queue(error)) from None

    @contextmanager
    def _place(self, scope: Scope, send: Send) -> Iterator[Send]:
        """A place for a completion whose body is read; gives how to send its answer.

        Of very many that come together, all find room in the queue until the first gets there:
        those let through are counted here. Bodies that are still to come take no place from others.
        The place is free before the end of the answer is sent: who has read it may ask again.
        """
        if scope["path"] != COMPLETIONS_PATH:
            yield send
            return
        self._require_place()
        self._completing += 1
        is_taken = True

        def leave() -> None:
            nonlocal is_taken
            self._completing -= is_taken
            is_taken = False

        async def send_and_leave(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                leave()
            await send(message)

        try:
            yield send_and_leave
        finally:
            leave()

    async def _read_in_time(self, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._rules.body_timeout_s):
                return await self._read(receive)
        except TimeoutError:
            message = "The body took too long."
            refusal = Refusal(status=408, code="too_slow", message=message, headers=_CLOSE)
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

    def _note(self, scope: Scope, *, status: int, size: int, since: float) -> None:
        """Count and log an answer; the path is that of a route, for others may hold anything."""
        route = getattr(scope.get("route"), "path", "-")
        elapsed_s = time.monotonic() - since
        self._metrics.count(method=scope["method"], route=route, status=status, elapsed_s=elapsed_s)
        outcome = status or "left"
        logger.info(
            "%s %s %s %.1f ms %d bytes", scope["method"], route, outcome, 1000 * elapsed_s, size
        )


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
    return Refusal(status=403, code="foreign_origin", message=message, headers=_CLOSE)


def _log_without_values(error: Exception) -> None:
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    logger.error("%s in %s", type(error).__name__, where)
