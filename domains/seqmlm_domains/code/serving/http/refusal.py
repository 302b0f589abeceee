"""Answers in the place of the application's, with or without it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse

from seqmlm_domains.code.serving.completion_queue import QueueFull, QueueRefusal

CLOSE: Final = {"connection": "close"}
"""Header of an answer after which the connection is closed."""


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
        """Return it as the application sends it."""
        return JSONResponse(self._content(), self.status, headers=dict(self.headers))

    def encoded(
        self,
        *,
        is_last: bool,
        method: str = "POST",
        server_headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> bytes:
        """Return it as a connection sends it by itself.

        Args:
            is_last: whether the connection is closed after it.
            method: of the request; the answer to HEAD is its headers alone.
            server_headers: that the server adds to every answer.
        """
        content = json.dumps(self._content()).encode()
        headers = {
            **self.headers,
            **(CLOSE if is_last else {}),
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
        }
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}".encode(),
            *(b"%s: %s" % header for header in server_headers),
            *(f"{name}: {value}".encode("latin-1") for name, value in headers.items()),
        ]
        return b"\r\n".join([*lines, b"", b"" if method == "HEAD" else content])

    @property
    def is_last(self) -> bool:
        """Whether it asks that the connection be closed after it."""
        return self.headers.get("connection") == "close"

    def _content(self) -> dict[str, dict[str, str]]:
        return {"error": {"code": self.code, "message": self.message}}


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
    return Refusal(status=500, code="internal", message="An error of the service.", headers=CLOSE)
