"""What the service refuses, before a completer hears of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from seqmlm_domains.code.serving.completion_queue import CompletionQueue
from seqmlm_domains.code.serving.http.guard import Guard, GuardRules
from seqmlm_domains.code.serving.http.metrics import ServiceMetrics
from seqmlm_domains.code.serving.http.token_bucket import TokenBuckets
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.http.served import JSON, Served, body, served
from tests.code.serving.scripted_completer import ScriptedCompleter

TOKEN = "correct horse battery staple"
MOST_BYTES = 16_384


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """A service with a token and a small cap on bodies."""
    limits = ServerSettings(
        max_body_bytes=MOST_BYTES,
        client_burst=10_000,
        allowed_hosts=("editor.internal",),
        max_document_characters=8_000,
    )
    with served(settings=limits, token=TOKEN.encode()) as running:
        yield running


@pytest.fixture(scope="module")
def impatient_server() -> Iterator[Served]:
    """A service that waits for a request no longer than a moment."""
    with served(settings=ServerSettings(read_timeout_s=0.3)) as running:
        yield running


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as made:
        made.headers["authorization"] = f"Bearer {TOKEN}"
        yield made


def code_of(response: httpx.Response) -> str:
    code: str = response.json()["error"]["code"]
    return code


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        pytest.param({"host": "evil.example"}, 421, "foreign_host", id="foreign-host"),
        pytest.param({"host": "evil.example:8711"}, 421, "foreign_host", id="foreign-host-port"),
        pytest.param({"host": "localhost.evil.example"}, 421, "foreign_host", id="host-begins-so"),
        pytest.param({"origin": "https://evil.example"}, 403, "foreign_origin", id="origin"),
        pytest.param({"origin": "null"}, 403, "foreign_origin", id="origin-null"),
        pytest.param({"origin": "http://127.0.0.1:1"}, 403, "foreign_origin", id="other-port"),
        pytest.param({"origin": "http://[bad"}, 403, "foreign_origin", id="origin-no-address"),
        pytest.param({"origin": b"http://\xc3\xa9.com"}, 403, "foreign_origin", id="origin-bytes"),
        pytest.param({"origin": ""}, 403, "foreign_origin", id="origin-empty"),
        pytest.param({"origin": "file://localhost"}, 403, "foreign_origin", id="origin-file"),
        pytest.param({"authorization": ""}, 401, "no_token", id="no-token"),
        pytest.param({"authorization": "Bearer wrong"}, 401, "no_token", id="wrong-token"),
        pytest.param({"authorization": f"Basic {TOKEN}"}, 401, "no_token", id="no-bearer"),
        pytest.param({"authorization": b"Bearer \xff\xfe"}, 401, "no_token", id="no-text"),
        pytest.param({"content-type": "text/plain"}, 415, "no_json", id="text"),
        pytest.param(
            {"content-type": "application/x-www-form-urlencoded"}, 415, "no_json", id="form"
        ),
    ],
)
def test_a_head_that_is_not_allowed_is_refused(
    client: httpx.Client, header: dict[str, Any], status: int, code: str
) -> None:
    response = client.post("/v1/completions", json=body(), headers={**JSON, **header})

    assert (response.status_code, code_of(response)) == (status, code)
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"host": "localhost:8711"}, id="localhost"),
        pytest.param({"host": "[::1]:8711"}, id="ipv6"),
        pytest.param({"host": "EDITOR.internal"}, id="allowed-name"),
        pytest.param({"host": "localhost:1", "origin": "http://localhost:1"}, id="own-page"),
        pytest.param({"authorization": f"bearer {TOKEN}"}, id="scheme-in-lower-case"),
        pytest.param({"content-type": "application/json; charset=utf-8"}, id="charset"),
    ],
)
def test_a_head_that_is_allowed_is_answered(client: httpx.Client, header: dict[str, str]) -> None:
    assert client.post("/v1/completions", json=body(), headers=header).status_code == 200


def test_a_refused_token_tells_the_scheme_and_nothing_of_the_token(client: httpx.Client) -> None:
    response = client.post("/v1/completions", json=body(), headers={"authorization": "Bearer x"})

    assert response.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in response.text


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/admin/reload"])
def test_every_route_that_works_asks_for_the_token(server: Served, path: str) -> None:
    with server.client() as nobody:
        assert nobody.post(path, json={}).status_code == 401


def test_metrics_ask_for_the_token_and_the_page_does_not(server: Served) -> None:
    with server.client() as nobody:
        statuses = {path: nobody.get(path).status_code for path in ("/metrics", "/", "/healthz")}

    assert statuses == {"/metrics": 401, "/": 200, "/healthz": 200}


@pytest.mark.parametrize("size", [MOST_BYTES + 1, 64 * 2**20])
def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(
    server: Served, size: int
) -> None:
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    )

    assert server.exchange(head.encode()).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_unsaid_length_is_cut_at_the_cap(client: httpx.Client) -> None:
    pieces = (b"x" * 1_024 for _ in range(MOST_BYTES // 1_024 + 1))
    response = client.post("/v1/completions", content=pieces)

    assert (response.status_code, code_of(response)) == (413, "too_large")


def test_a_body_of_unsaid_length_below_the_cap_is_answered(client: httpx.Client) -> None:
    response = client.post("/v1/completions", content=iter([json.dumps(body()).encode()]))

    assert response.status_code == 200


def test_a_text_past_the_limit_of_characters_is_refused(client: httpx.Client) -> None:
    response = client.post("/v1/completions", json=body("x" * 8_001))

    assert response.status_code == 413
    assert "8,000 characters" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"\xff\xfe{}", id="no-utf-8"),
        pytest.param(b"[" * 16_000, id="16,000-brackets"),
        pytest.param(b'{"a":' * 3_000, id="3,000-objects"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"NaN", id="nan"),
        pytest.param(b'{"language":"python"}', id="no-segments"),
        pytest.param(b'{"language":"python","segments":{"prefix":5}}', id="number"),
        pytest.param(b'{"language":"python","segments":{"prefix":null}}', id="null"),
        pytest.param(b'{"language":"\\ud800","segments":{"prefix":""}}', id="surrogate"),
        pytest.param(b'{"language":"python","segments":{"prefix":""},"limit":-1}', id="limit"),
        pytest.param(b'{"language":"python","segments":{"prefix":""},"limit":1e99}', id="huge"),
        pytest.param(b'{"language":"python","segments":{"prefix":""},"limit":NaN}', id="limit-nan"),
        pytest.param(b'{"language":["python"],"segments":{"prefix":""}}', id="list-of-languages"),
        pytest.param(b'{"language":"' + b"p" * 65 + b'","segments":{"prefix":""}}', id="long"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(client: httpx.Client, content: bytes) -> None:
    response = client.post("/v1/completions", content=content)

    assert response.status_code in (400, 422)
    assert response.json()["error"]["message"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["language", "segments", "prefix", "suffix", "limit", "stream", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(
    content=st.binary(max_size=200)
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | JSON_VALUES.map(lambda value: json.dumps({"language": "python", "segments": value}).encode())
)
def test_no_body_is_an_error_of_ours(server: Served, content: bytes) -> None:
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )

    status = int(server.exchange(head.encode() + content).split(maxsplit=2)[1])
    assert status in (200, 400, 422)


def test_half_a_character_is_replaced_and_a_whole_one_is_one_code_point(
    client: httpx.Client,
) -> None:
    content = b'{"language":"python","segments":{"prefix":"\\ud83d\\ude00\\ud800"}}'
    response = client.post("/v1/completions", content=content)

    assert response.json()["candidates"][0]["text"] == "\N{GRINNING FACE}\ufffd"


def test_a_reason_never_quotes_what_was_sent(client: httpx.Client) -> None:
    wrong = {"language": "python", "segments": {"prefix": ["CANARY"]}, "limit": "CANARY"}
    response = client.post("/v1/completions", json=wrong)

    assert response.status_code == 422
    assert "CANARY" not in response.text


def test_an_unknown_language_is_met_with_the_nearest_one(client: httpx.Client) -> None:
    response = client.post("/v1/completions", json=body() | {"language": "pyhton"})

    assert (response.status_code, code_of(response)) == (422, "unknown_name")
    assert "Did you mean 'python'?" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="silence"),
        pytest.param(b"POST /v1/comp", id="part-of-a-line"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", id="headers"),
    ],
)
def test_headers_that_never_end_are_answered_with_408(
    impatient_server: Served, sent: bytes
) -> None:
    received = impatient_server.exchange(sent)

    head, _, content = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert int(head.rpartition(b"Content-Length: ")[2]) == len(content)
    assert json.loads(content)["error"]["code"] == "too_slow"


def test_a_second_request_that_never_ends_is_given_up_too(impatient_server: Served) -> None:
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    received = impatient_server.exchange(whole + b"GET /healthz HTTP/1.1\r\n")

    assert received.startswith(b"HTTP/1.1 200 ")


def test_a_body_that_never_ends_is_answered_with_408(impatient_server: Served) -> None:
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )

    assert impatient_server.exchange(head.encode()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", id="tls"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="version"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two-hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: " + b"a" * 40_000, id="long-header"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", id="negative"
        ),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", id="http-1.0-without-host"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="two-lengths",
        ),
    ],
)
def test_what_is_no_http_is_refused_and_the_next_is_answered(
    server: Served, client: httpx.Client, sent: bytes
) -> None:
    head, _, content = server.exchange(sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None
    assert int(length[1]) == len(content)
    assert set(json.loads(content)["error"]) == {"code", "message"}
    assert client.post("/v1/completions", json=body()).status_code == 200


def test_a_tunnel_is_refused(server: Served) -> None:
    received = server.exchange(b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert received.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_upgrade_that_is_offered_is_not_taken_and_nothing_is_advised(
    server: Served, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    """Java's HTTP clients offer h2c with the first request, whose body was never read."""
    content = json.dumps(body()).encode()
    asked = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nUpgrade: %s\r\nConnection: Upgrade, close\r\n"
        b"Content-Length: %d\r\n\r\n" % (TOKEN.encode(), protocol.encode(), len(content)) + content
    )
    for pieces in ([asked], [asked[:-10], asked[-10:]], [asked[:90], asked[90:]]):
        received = server.exchange(*pieces)
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b'"used_model":true' in received
    assert "uvicorn[standard]" not in caplog.text


def test_many_stalled_connections_leave_others_answered(server: Served) -> None:
    stalled = [server.connect() for _ in range(200)]
    try:
        for connection in stalled:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\n")
        with server.client() as client:
            client.headers["authorization"] = f"Bearer {TOKEN}"
            statuses = {client.post("/v1/completions", json=body()).status_code for _ in range(20)}
        assert statuses == {200}
    finally:
        for connection in stalled:
            connection.close()


def test_a_client_that_asks_too_often_is_told_when_to_come_again() -> None:
    limits = ServerSettings(client_burst=3, client_requests_per_s=0.001)
    with served(settings=limits) as server, server.client() as client:
        answers = [client.post("/v1/completions", json=body()) for _ in range(4)]
        health = client.get("/healthz")

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 999 <= int(answers[-1].headers["retry-after"]) <= 1_001
    assert health.status_code == 200, "only work is counted"


def test_a_client_is_not_another_one_by_saying_so() -> None:
    limits = ServerSettings(client_burst=1, client_requests_per_s=0.001)
    with served(settings=limits) as server, server.client() as client:
        statuses = [
            client.post(
                "/v1/completions", json=body(), headers={"x-forwarded-for": f"10.0.0.{number}"}
            ).status_code
            for number in range(2)
        ]

    assert statuses == [200, 429]


def test_an_error_of_ours_is_500_without_a_word_of_the_source(
    caplog: pytest.LogCaptureFixture,
) -> None:
    completer = ScriptedCompleter(poison={"bad)\n": ValueError("CANARY in a message")})
    with served(completer) as server, server.client() as client, caplog.at_level("DEBUG"):
        response = client.post("/v1/completions", json=body("bad"))
        after = client.post("/v1/completions", json=body())

    assert (response.status_code, code_of(response)) == (500, "internal")
    assert after.status_code == 200
    assert "CANARY" not in response.text + caplog.text
    assert "ValueError in " in caplog.text


async def _fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("CANARY")


@pytest.mark.asyncio
async def test_an_error_before_an_answer_has_begun_is_one_too_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = CompletionQueue(ScriptedCompleter(), capacity=1, max_batch=1)
    metrics = ServiceMetrics(queue.statistics)
    guard = Guard(
        _fails,
        rules=GuardRules(hosts=["localhost"], token=None, max_body_bytes=1_024, body_timeout_s=30),
        buckets=TokenBuckets(tokens_per_s=1, burst=1),
        queue=queue,
        metrics=metrics,
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(guard), base_url="http://localhost"
    ) as client:
        response = await client.get("/")
    queue.close()

    assert (response.status_code, code_of(response)) == (500, "internal")
    assert 'status="500"' in metrics.text().decode()
    assert "CANARY" not in response.text + caplog.text
