"""The page that the service shows: files beside this module, nothing from another machine."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from starlette.responses import Response

PAGE_FILES: Final[Mapping[str, tuple[str, str]]] = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/page/LICENSES.txt": ("LICENSES.txt", "text/plain; charset=utf-8"),
}
"""Path -> name of the file and media type."""

# CodeMirror puts its styles into the page itself; scripts come from here alone.
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def page_response(path: str) -> Response:
    """Return a file of :data:`PAGE_FILES`."""
    name, media_type = PAGE_FILES[path]
    content = files(__package__).joinpath("page", name).read_bytes()
    return Response(content, media_type=media_type, headers=_HEADERS)
