"""``seqmlm code serve --http`` in a process of its own, with a model that was really trained."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

import seqmlm
from tests.code.serving.http.served import PATIENCE_S, ServiceProcess, body, service_process

PREFIX = "def total_price(products):\n    total_amount = 0\n    return tot"
# The first forward pass of a busy machine may take longer than an editor would wait.
PATIENT = ("deadline_ms=30000", "client_burst=10000", "client_requests_per_s=10000")


@pytest.fixture(scope="module")
def service(code_run: Path) -> Iterator[ServiceProcess]:
    with service_process(code_run, *PATIENT) as running:
        yield running


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with service.client() as made:
        yield made


def complete(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    response = client.post("/v1/completions", json=body(PREFIX, **fields))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_an_answer_has_tabbys_shape_and_the_candidates_besides(client: httpx.Client) -> None:
    answer = complete(client)

    assert answer["id"].startswith("cmpl-")
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(answer["choices"])))
    texts = [candidate["text"] for candidate in answer["candidates"]]
    assert "total_amount" in texts
    assert [choice["text"] for choice in answer["choices"]] == [text[3:] for text in texts]
    assert answer["used_model"] is True


def test_a_candidate_says_what_it_replaces_and_why_it_stands_there(client: httpx.Client) -> None:
    candidates = complete(client)["candidates"]

    for candidate in candidates:
        assert PREFIX[candidate["start"] : candidate["end"]] == "tot"
        assert candidate["word_end"] == candidate["end"]
        assert candidate["source"] in candidate["parts"]
        assert all(math.isfinite(score) for score in candidate["parts"].values())
    scores = [candidate["score"] for candidate in candidates]
    assert scores == sorted(scores, reverse=True)
    assert all(score <= 1e-6 for score in scores)


def test_names_of_some_roles_or_types_may_be_asked_for(client: httpx.Client) -> None:
    everything = complete(client)["candidates"]
    assert {"variable", "parameter"} & {candidate["role"] for candidate in everything}
    assert {candidate["type"] for candidate in everything} == {None}
    assert complete(client, roles=[], types=[])["candidates"] == everything
    assert complete(client, roles=["class"])["candidates"] == []
    found = [each["text"] for each in complete(client, roles=["Variable"])["candidates"]]
    assert "total_amount" in found
    assert complete(client, types=["int"])["candidates"] == []
    typed = PREFIX.replace("total_amount =", "total_amount: int =")
    answer = client.post("/v1/completions", json=body(typed, types=["int"])).json()
    assert [(each["text"], each["type"]) for each in answer["candidates"]] == [
        ("total_amount", "int")
    ]
    refused = client.post("/v1/completions", json=body(PREFIX, roles=["klass"]))
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "unknown_name"
    assert "'klass'. Did you mean 'class'?" in refused.json()["error"]["message"]


def test_a_name_in_another_case_is_a_candidate_and_no_choice(client: httpx.Client) -> None:
    response = client.post("/v1/completions", json=body(PREFIX.removesuffix("tot") + "TOT"))
    answer = response.json()

    assert "total_amount" in [candidate["text"] for candidate in answer["candidates"]]
    assert answer["choices"] == []


@pytest.mark.parametrize(
    ("rest", "choice"),
    [
        pytest.param("amount + 1", "al_", id="the end of the name"),
        pytest.param("xyz + 1", None, id="no end of it"),
        pytest.param("otal_amount + 1", None, id="more than the name leaves"),
    ],
)
def test_of_a_word_that_goes_on_the_rest_is_told_and_not_doubled(
    client: httpx.Client, rest: str, choice: str | None
) -> None:
    segments = {"prefix": PREFIX, "suffix": rest}
    sent = {"language": "python", "segments": segments, "limit": 200}
    answer = client.post("/v1/completions", json=sent).json()
    (found,) = [each for each in answer["candidates"] if each["text"] == "total_amount"]
    assert found["end"] == len(PREFIX)
    assert (PREFIX + rest)[found["start"] : found["word_end"]] == "tot" + rest.split()[0]
    made = [each["text"] for each in answer["choices"]]
    assert ("tot" + (choice or "") + rest.split()[0] == "total_amount") == (choice in made)


def test_the_limit_bounds_the_candidates(client: httpx.Client) -> None:
    assert len(complete(client, limit=1)["candidates"]) == 1


def test_a_tabby_client_may_send_fields_of_its_own(client: httpx.Client) -> None:
    segments: dict[str, Any] = {"prefix": PREFIX, "suffix": None, "filepath": "a.py"}
    sent = {"language": "python", "segments": segments, "user": "a", "temperature": 0.1}

    assert client.post("/v1/completions", json=sent).status_code == 200


@pytest.mark.parametrize(
    ("language", "filepath"),
    [
        pytest.param("JS", None, id="a suffix"),
        pytest.param("JavaScriptReact", None, id="an editor's name"),
        pytest.param(None, "src/a.mjs", id="the name of the file"),
        pytest.param("js", "src/a.py", id="what is said goes before the file"),
    ],
)
def test_the_language_may_be_told_in_other_ways(
    client: httpx.Client, language: str | None, filepath: str | None
) -> None:
    segments = {"prefix": "let productCount = 1 // '\nprod", "suffix": ";", "filepath": filepath}
    answer = client.post("/v1/completions", json={"language": language, "segments": segments})

    assert [each["text"] for each in answer.json()["candidates"]][:1] == ["productCount"]


@pytest.mark.parametrize("filepath", [None, "notes.txt", "Makefile"])
def test_a_language_that_nothing_tells_is_asked_for(
    client: httpx.Client, filepath: str | None
) -> None:
    segments = {"prefix": PREFIX, "filepath": filepath}
    refused = client.post("/v1/completions", json={"segments": segments})

    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "no_language"
    assert "segments.filepath" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("language", "prefix"),
    [
        ("java", "class A { int productCount; int f() { return prod"),
        ("typescriptreact", "const productCount = 1; const a = <b>{prod"),
        ("javascript", "let productCount = 1; prod"),
    ],
)
def test_other_languages_are_completed_too(
    client: httpx.Client, language: str, prefix: str
) -> None:
    sent = {"language": language, "segments": {"prefix": prefix, "suffix": "}"}}
    answer = client.post("/v1/completions", json=sent).json()

    assert "productCount" in [candidate["text"] for candidate in answer["candidates"]]


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        pytest.param("", "", id="empty"),
        pytest.param("x", None, id="no-suffix"),
        pytest.param("(" * 100_000, "", id="100,000-brackets"),
        pytest.param("a = 1\r\nb = \r", "\nc", id="mixed-line-ends"),
        pytest.param("\x00\x01\x02 = ", "\x7f", id="control-characters"),
        pytest.param("'\N{GRINNING FACE}' + gr", "", id="astral"),
        pytest.param("x" * 200_000, "", id="one-long-name"),
        pytest.param("# comment tot", "", id="comment"),
        pytest.param("def f(:\n  ][ tot", "}}}", id="broken"),
    ],
)
def test_odd_text_is_answered_and_ends_nothing(
    client: httpx.Client, prefix: str, suffix: str | None
) -> None:
    sent = {"language": "python", "segments": {"prefix": prefix, "suffix": suffix}}

    assert client.post("/v1/completions", json=sent).status_code == 200
    assert complete(client)["candidates"]


def test_a_stream_gives_the_lexical_answer_and_then_the_models(client: httpx.Client) -> None:
    response = client.post("/v1/completions", json=body(PREFIX, stream=True))
    events = [
        dict(line.split(": ", 1) for line in block.split("\n"))
        for block in response.text.removesuffix("\n\n").split("\n\n")
    ]
    answers = [json.loads(event["data"]) for event in events]

    assert response.headers["content-type"].startswith("text/event-stream")
    assert [event["event"] for event in events] == ["lexical", "model", "done"]
    assert [answer["used_model"] for answer in answers] == [False, True, True]
    assert answers[2] == {"id": answers[0]["id"], "used_model": True}
    assert answers[0]["id"] == answers[1]["id"]


def test_many_at_once_are_all_answered(service: ServiceProcess, client: httpx.Client) -> None:
    def one(number: int) -> str:
        sent = {"language": "python", "segments": {"prefix": f"unique_{number} = 1\nuniq"}}
        answer = client.post("/v1/completions", json=sent).json()
        return str(answer["candidates"][0]["text"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(40))) == [f"unique_{number}" for number in range(40)]


def test_a_model_is_reloaded_under_load(client: httpx.Client) -> None:
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(complete, client) for _ in range(12)]
        reloaded = client.post("/v1/admin/reload")
        texts = [answer.result(PATIENCE_S)["candidates"][0]["text"] for answer in answers]

    assert reloaded.json() == {"status": "reloaded"}
    assert len(set(texts)) == 1, "the same model was loaded again"


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/page/page.js", "/openapi.json", "/healthz", "/readyz", "/metrics",
     "/v1/health"],
)  # fmt: skip
def test_what_can_be_got_has_a_head(client: httpx.Client, path: str) -> None:
    head, got = client.head(path), client.get(path)

    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"content-type": "application/x-www-form-urlencoded"}, id="curl -d ''"),
        pytest.param({"content-type": "text/plain"}, id="text"),
    ],
)
def test_reloading_needs_no_body_and_then_no_kind_of_one(
    service: ServiceProcess, headers: dict[str, str]
) -> None:
    with httpx.Client(base_url=service.address, timeout=PATIENCE_S, trust_env=False) as plain:
        assert plain.post("/v1/admin/reload", headers=headers).json() == {"status": "reloaded"}


def test_the_service_is_alive_and_ready(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_what_clients_of_tabby_ask_first_is_answered(client: httpx.Client) -> None:
    health = client.get("/v1/health").json()

    assert set(health) == {"model", "device", "arch", "cpu_count", "version", "languages"}
    assert health["device"] in ("cpu", "cuda")
    assert health["version"] == {"git_describe": f"v{seqmlm.__version__}"}


def test_the_interface_is_described_and_no_page_loads_from_another_machine(
    client: httpx.Client,
) -> None:
    described = client.get("/openapi.json").json()
    pages = [client.get(path) for path in ("/", "/docs", "/page/page.css", "/page/docs.js")]

    assert set(described["paths"]) == {
        *("/v1/completions", "/v1/health", "/v1/admin/reload"),
        *("/healthz", "/readyz", "/metrics"),
    }
    for page in pages:
        assert page.status_code == 200
        assert not re.search(r"(src|href|url|import|fetch)\W+(https?:)?//", page.text)
        assert "default-src 'none'" in page.headers["content-security-policy"]


def test_every_refusal_is_described(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()["paths"]["/v1/completions"]["post"]["responses"]

    assert set(described) == {
        "200", "400", "401", "403", "408", "413", "415", "421", "422", "429", "503",
    }  # fmt: skip
    assert described["429"]["headers"]["Retry-After"]["schema"] == {"type": "integer"}


def test_the_bundle_is_small_and_comes_with_its_licences(client: httpx.Client) -> None:
    assert len(client.get("/page/page.js").content) < 500_000
    licences = client.get("/page/LICENSES.txt").text

    assert "@codemirror/view" in licences
    assert licences.count("MIT") >= 10


def test_a_public_service_asks_for_its_token_logs_no_source_and_ends_in_order(
    code_run: Path,
) -> None:
    """One process for three things, since starting one is slow."""
    with (
        service_process(
            code_run,
            *PATIENT,
            "host=0.0.0.0",
            "log_level=debug",
            environment={"SEQMLM_CODE_TOKEN": "SECRET"},
        ) as service,
        service.client() as client,
        ThreadPoolExecutor(1) as pool,
    ):
        without_token = client.post("/v1/completions", json=body("CANARY"))
        client.headers["authorization"] = "Bearer SECRET"
        metrics = send_canaries(client)
        with client.stream("POST", "/v1/completions", json=body(PREFIX, stream=True)) as stream:
            lines = stream.iter_lines()
            first = next(lines)  # the service has got it once this is there
            ended = pool.submit(service.end)
            rest = list(lines)
        exit_code = ended.result(PATIENCE_S)
    log = "".join(service.log)

    assert without_token.status_code == 401
    assert first == "event: lexical"
    assert "event: model" in rest, "what was under way at SIGTERM is answered"
    assert exit_code == 0
    assert service.log[-1] == "stopped\n"
    assert "POST /v1/completions 200" in log
    assert not re.search("CANARY|SECRET", log + metrics)


def send_canaries(client: httpx.Client) -> str:
    """Send a word in every place that could come to be logged, and return the metrics."""
    for prefix in ("CANARY", "x = CANARY", "(" * 5_000 + "CANARY"):
        client.post("/v1/completions", json=body(prefix))
        client.post("/v1/completions", json=body(prefix, stream=True))
        client.post("/v1/completions", json=body(prefix) | {"language": "CANARY"})
        client.post("/v1/completions", content=f'{{"CANARY: {prefix}'.encode())
        client.get("/CANARY", params={"CANARY": prefix})
    return client.get("/metrics").text
