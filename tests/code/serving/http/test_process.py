"""Addresses and tokens."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from seqmlm.errors import ConfigError
from seqmlm_domains.code.serving.http.process import check_address, read_token, run_service
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.http.served import body


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_this_machine_needs_no_token(host: str) -> None:
    check_address(host, has_token=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="SEQMLM_CODE_TOKEN or a token_file"):
        check_address(host, has_token=False)
    check_address(host, has_token=True)


def test_no_token_is_none() -> None:
    assert read_token("", {}) is None
    assert read_token("", {"SEQMLM_CODE_TOKEN": " "}) is None


def test_a_token_comes_from_the_environment() -> None:
    assert read_token("", {"SEQMLM_CODE_TOKEN": "sécret\n"}) == "sécret".encode()


def test_a_token_file_comes_before_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("of the file\n")
    file.chmod(0o600)

    assert read_token(str(file), {"SEQMLM_CODE_TOKEN": "other"}) == b"of the file"


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        pytest.param("secret", 0o644, "others than its owner may open it", id="readable"),
        pytest.param("secret", 0o620, "others than its owner may open it", id="writable"),
        pytest.param(" \n", 0o600, "the file is empty", id="empty"),
    ],
)
def test_a_token_file_that_protects_nothing_is_refused(
    tmp_path: Path, content: str, mode: int, message: str
) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)

    with pytest.raises(ConfigError, match=message):
        read_token(str(file), {})


def test_a_token_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_token(str(tmp_path / "token"), {})


def test_a_port_in_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQMLM_CODE_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port = {port}: .*; 0 takes any free port"):
            run_service(tmp_path, ServerSettings(port=port))


def test_a_public_address_without_a_token_is_refused_before_the_model_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEQMLM_CODE_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="other machines could read"):
        run_service(tmp_path / "no run", ServerSettings(host="0.0.0.0"))


BUSY_AT_THE_END = """
import atexit, sys
from pathlib import Path
from seqmlm_domains.code.serving import completion_queue
from seqmlm_domains.code.serving.http import process
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.http.served import body
from tests.code.serving.scripted_completer import ScriptedCompleter

completion_queue._LAST_BATCH_S = 0.01
process.load_completer = lambda run, settings: ScriptedCompleter(is_held=True)
atexit.register(print, "torn down", file=sys.stderr)
# Until the deadline, the pass has begun.
process.run_service(Path(), ServerSettings(port=0, deadline_ms=1_000))
"""


@pytest.mark.slow
def test_a_model_that_is_still_at_work_at_the_end_is_left_at_it() -> None:
    """Python tore torch down under a forward pass: the service ended with a segmentation fault."""
    root = Path(__file__).parents[4]
    paths = os.pathsep.join(str(root / name) for name in ("", "domains", "kernels"))
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY_AT_THE_END],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        answer = httpx.post(f"{found[0]}/v1/completions", json=body(), trust_env=False, timeout=60)
        process.terminate()
        written = process.stderr.read()
    assert answer.json()["used_model"] is False
    assert process.returncode == 0
    assert "torn down" not in written
