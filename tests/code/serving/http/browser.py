"""A headless Chromium, driven over the W3C WebDriver protocol."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

PROGRAMS = ("chromium", "chromedriver")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_PATIENCE_S = 60.0
# Nothing but this machine resolves: a page that asks elsewhere shows it.
_ARGUMENTS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--window-size=1200,800",
)


def missing_programs() -> list[str]:
    """What is not installed of what :func:`open_browser` needs."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


class Browser:
    """One window.

    Args:
        session: address of the WebDriver session.
    """

    def __init__(self, session: httpx.Client) -> None:
        self._session = session

    def open(self, address: str) -> None:
        """Load a page and wait for its load event."""
        self._post("/url", {"url": address})

    def run(self, script: str, *arguments: object) -> Any:
        """Run the body of a function in the page; a promise that it returns is awaited."""
        return self._post("/execute/sync", {"script": script, "args": list(arguments)})

    def wait_until(self, condition: str) -> Any:
        """Wait, by the page's own frames, until an expression is true, and return it."""
        return self.run(
            f"""
            const end = performance.now() + 20000;
            return new Promise((resolve, reject) => {{
              const look = () => {{
                const found = {condition};
                if (found) resolve(found);
                else if (performance.now() > end) reject(new Error("never: " + document.body.innerText));
                else setTimeout(look, 10);
              }};
              look();
            }});
            """  # noqa: E501
        )

    def type_keys(self, selector: str, text: str) -> None:
        """Type as a person does, key by key, into an element."""
        found = self._post("/element", {"using": "css selector", "value": selector})
        self._post(f"/element/{found[_ELEMENT]}/value", {"text": text})

    def emulate_colours(self, scheme: str) -> None:
        """Let the system prefer ``dark`` or ``light``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._post(
            "/goog/cdp/execute",
            {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}},
        )

    def screenshot(self, path: Path) -> None:
        """Write what is seen as PNG."""
        path.write_bytes(base64.b64decode(self._value(self._session.get("/screenshot"))))

    def console_errors(self) -> list[str]:
        """What the console has said since the last call that is worse than a warning."""
        entries = self._post("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def _post(self, path: str, content: object) -> Any:
        return self._value(self._session.post(path, json=content))

    @staticmethod
    def _value(response: httpx.Response) -> Any:
        value = response.json()["value"]
        if response.is_error:
            raise RuntimeError(f"{value['error']}: {value['message']}")
        return value


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A window of a fresh profile, closed at the end of the block."""
    # Chromium's helpers may still write when its window has closed.
    profiles = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with profiles as profile, _driver() as address:
        arguments = [*_ARGUMENTS, f"--user-data-dir={profile}"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")  # Chromium refuses to run as root otherwise
        capabilities = {
            "goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        with httpx.Client(timeout=_PATIENCE_S, trust_env=False) as client:
            created = client.post(
                f"{address}/session", json={"capabilities": {"alwaysMatch": capabilities}}
            ).json()["value"]
            session = f"{address}/session/{created['sessionId']}"
            client.base_url = session
            try:
                yield Browser(client)
            finally:
                client.delete(session).raise_for_status()  # not "": that ends in a slash


@contextmanager
def _driver() -> Iterator[str]:
    process = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "on port " in line and "successfully" in line:
                port = line.rsplit("on port ", 1)[1].strip().rstrip(".")
                yield f"http://127.0.0.1:{port}"
                return
        raise RuntimeError(f"chromedriver ended with {process.wait()}")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
