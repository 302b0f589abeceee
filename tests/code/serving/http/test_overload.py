"""More requests than the model can take, clients that leave, and the end of the service."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from seqmlm.errors import CheckpointError
from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.serving.queue_statistics import Outcome
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.http.served import PATIENCE_S, Served, body, served
from tests.code.serving.scripted_completer import ScriptedCompleter

SMALL = ServerSettings(queue_capacity=4, max_batch=2, deadline_ms=60_000, client_burst=10_000)


def until(condition: Callable[[], bool]) -> None:
    """Look again and again, for what has no event of its own."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("never")


def unanswered(server: Served) -> int:
    return server.service.queue.statistics().unanswered


def post(server: Served, prefix: str, **fields: object) -> tuple[int, str]:
    with server.client() as client:
        response = client.post("/v1/completions", json=body(prefix, **fields))
        return response.status_code, response.text


@contextmanager
def full_server(*, settings: ServerSettings) -> Iterator[Served]:
    """A server all of whose places are taken."""
    completer, number = ScriptedCompleter(is_held=True), settings.queue_capacity
    with served(completer, settings=settings) as server, ThreadPoolExecutor(number) as pool:
        for place in range(number):
            pool.submit(post, server, str(place))
        until(lambda: unanswered(server) == number)
        yield server
        completer.let_go()


def test_what_does_not_fit_into_the_queue_is_refused_at_once_and_the_rest_answered() -> None:
    completer = ScriptedCompleter(is_held=True)
    with (
        served(completer, settings=SMALL) as server,
        ThreadPoolExecutor(4) as pool,
        server.client() as client,
    ):
        accepted = [pool.submit(post, server, f"accepted {number}") for number in range(4)]
        until(lambda: unanswered(server) == 4)
        refused = [client.post("/v1/completions", json=body()) for _ in range(20)]
        streams = client.post("/v1/completions", json=body(stream=True))
        completer.let_go()
        statuses = [answer.result(PATIENCE_S)[0] for answer in accepted]
        after = client.post("/v1/completions", json=body())

    assert {answer.status_code for answer in refused} == {429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert streams.status_code == 429, "a stream is refused before it begins"
    assert statuses == [200] * 4
    assert after.status_code == 200


def head_of(content: bytes) -> bytes:
    return (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(content)
    )


def read_answer(connection: socket.socket) -> bytes:
    """One answer on a connection that stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1)
    length = int(received.lower().rpartition(b"content-length: ")[2].split()[0])
    while length > 0:
        piece = connection.recv(length)
        length -= len(piece)
        received += piece
    return received


def test_all_that_come_together_are_answered_and_only_the_refused_with_429() -> None:
    completer = ScriptedCompleter(is_held=True)
    content = json.dumps(body()).encode()
    with served(completer, settings=SMALL) as server, ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(40)]
        for connection in connections:
            connection.sendall(head_of(content) + content)
        until(lambda: server.service.queue.statistics().rejected == 36)
        completer.let_go()
        statuses = Counter(read_answer(connection)[9:12] for connection in connections)
        accepted = server.service.queue.statistics().accepted

    assert statuses == {b"200": 4, b"429": 36}
    assert accepted == 4


def test_a_full_queue_refuses_before_the_body_comes_and_the_connection_goes_on() -> None:
    completer = ScriptedCompleter(is_held=True)
    content = json.dumps(body()).encode()
    with served(completer, settings=SMALL) as server, ThreadPoolExecutor(4) as pool:
        accepted = [pool.submit(post, server, str(number)) for number in range(4)]
        until(lambda: unanswered(server) == 4)
        with server.connect() as connection:
            connection.sendall(head_of(content))
            refused = read_answer(connection)
            completer.let_go()
            statuses = [answer.result(PATIENCE_S)[0] for answer in accepted]
            connection.sendall(content + head_of(content) + content)
            answered = read_answer(connection)

    assert refused.startswith(b"HTTP/1.1 429 ")
    assert statuses == [200] * 4
    assert answered.startswith(b"HTTP/1.1 200 ")


def test_very_many_refused_requests_in_one_piece_are_answered_one_by_one() -> None:
    content = json.dumps(body()).encode()
    number = 1_500  # more than Python's frames may be nested
    with full_server(settings=SMALL) as server, server.connect() as connection:
        connection.sendall((head_of(content) + content) * number)
        statuses = Counter(read_answer(connection)[9:12] for _ in range(number))
        with server.client() as client:
            counted = client.get("/metrics").text

    assert statuses == {b"429": number}
    answers = 'seqmlm_http_answers_total{method="POST",route="-",status="429"}'
    assert f"{answers} {number}.0" in counted.splitlines()


def test_a_refusal_of_a_question_for_headers_has_no_content() -> None:
    with served() as server:
        refused = server.exchange(b"HEAD / HTTP/1.1\r\nHost: evil.example\r\n\r\n")

    head, _, content = refused.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 421 ")
    assert content == b""


def test_a_refused_connection_that_is_to_close_is_closed() -> None:
    content = json.dumps(body()).encode()
    closing = head_of(content).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with full_server(settings=SMALL) as server:
        refused = server.exchange(closing + content)

    head, _, answer = refused.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nconnection: close" in head
    assert json.loads(answer)["error"]["code"] == "too_many_requests"


def test_a_refused_connection_that_stays_idle_is_closed_without_another_answer() -> None:
    content = json.dumps(body()).encode()
    impatient = ServerSettings(queue_capacity=1, deadline_ms=60_000, read_timeout_s=0.3)
    with full_server(settings=impatient) as server:
        received = server.exchange(head_of(content) + content)

    assert received.count(b"HTTP/1.1 ") == 1
    assert received.startswith(b"HTTP/1.1 429 ")


def test_bodies_that_are_still_to_come_take_no_place() -> None:
    with served(settings=SMALL) as server, ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(server.connect())
            connection.sendall(head_of(b"{}"))
        status, _ = post(server, "after them")

    assert status == 200


def test_requests_sent_in_one_piece_are_answered_in_their_order() -> None:
    first, second = (json.dumps(body(prefix)).encode() for prefix in ("first", "second"))
    with served() as server, server.connect() as connection:
        connection.sendall(head_of(first) + first + head_of(second) + second)
        answers = [read_answer(connection) for _ in range(2)]

    assert [b"first" in answer for answer in answers] == [True, False]
    assert b"second" in answers[1]


def test_a_client_that_leaves_costs_no_forward_pass() -> None:
    completer = ScriptedCompleter(is_held=True)
    with served(completer, settings=SMALL) as server, ThreadPoolExecutor(1) as pool:
        held = pool.submit(post, server, "held")
        assert completer.pass_began.wait(PATIENCE_S)
        with server.client() as client:
            request = client.build_request("POST", "/v1/completions", json=body("leaves"))
        with server.connect() as connection:
            head = f"POST {request.url.path} HTTP/1.1\r\nHost: localhost\r\n"
            fields = "".join(
                f"{name}: {request.headers[name]}\r\n"
                for name in ("content-type", "content-length")
            )
            connection.sendall(f"{head}{fields}\r\n".encode() + request.read())
            until(lambda: unanswered(server) == 2)
        until(lambda: unanswered(server) == 1)
        completer.let_go()
        assert held.result(PATIENCE_S)[0] == 200
        ended = server.service.queue.statistics().ended

    assert completer.passes == [["held)\n"]]
    assert ended[Outcome.CANCELLED] == 1


def test_a_stream_that_the_client_leaves_gives_its_place_back() -> None:
    completer = ScriptedCompleter(is_held=True)
    with (
        served(completer, settings=SMALL) as server,
        ThreadPoolExecutor(1) as pool,
        server.client() as client,
    ):
        held = pool.submit(post, server, "held")
        assert completer.pass_began.wait(PATIENCE_S)
        with client.stream("POST", "/v1/completions", json=body("s", stream=True)) as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: lexical"
            assert unanswered(server) == 2
        until(lambda: unanswered(server) == 1)
        completer.let_go()
        assert held.result(PATIENCE_S)[0] == 200

    assert completer.passes == [["held)\n"]]


def test_past_the_deadline_the_answer_is_lexical() -> None:
    completer = ScriptedCompleter(is_held=True)
    settings = ServerSettings(deadline_ms=1, client_burst=10_000)
    with served(completer, settings=settings) as server, server.client() as client:
        answer = client.post("/v1/completions", json=body()).json()
        ready = client.get("/readyz").json()

    assert answer["used_model"] is False
    assert ready == {"status": "ready"}


def test_a_stopping_service_answers_what_is_under_way_and_refuses_what_comes() -> None:
    completer = ScriptedCompleter(is_held=True)
    with served(completer, settings=SMALL) as server, ThreadPoolExecutor(3) as pool:
        under_way = [pool.submit(post, server, str(number)) for number in range(3)]
        until(lambda: unanswered(server) == 3)
        server.server.should_exit = True
        until(lambda: not server.server.servers[0].is_serving())
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        completer.let_go()
        statuses = [answer.result(PATIENCE_S)[0] for answer in under_way]
        server.thread.join(PATIENCE_S)

    assert statuses == [200] * 3
    assert not server.thread.is_alive()


@pytest.mark.filterwarnings("ignore:Exception in thread seqmlm-inference")
def test_a_service_whose_thread_has_died_says_so() -> None:
    completer = ScriptedCompleter(poison={"fatal)\n": SystemExit()})
    with served(completer) as server, server.client() as client:
        fatal = client.post("/v1/completions", json=body("fatal"))
        next_one = client.post("/v1/completions", json=body())
        ready, health = client.get("/readyz"), client.get("/healthz")

    assert (fatal.status_code, next_one.status_code) == (503, 503)
    assert (ready.status_code, ready.json()) == (503, {"status": "stopped"})
    assert health.status_code == 200


def test_a_model_is_exchanged_while_requests_run() -> None:
    models = iter([ScriptedCompleter(is_held=True, label="old "), ScriptedCompleter(label="new ")])
    loaded: list[ScriptedCompleter] = []

    def load() -> Completer:
        loaded.append(next(models))
        return loaded[-1]

    with served(load=load, settings=SMALL) as server, ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(post, server, "a")
        assert loaded[0].pass_began.wait(PATIENCE_S)
        with server.client() as client:
            reloaded = client.post("/v1/admin/reload")
            loaded[0].let_go()
            after = client.post("/v1/completions", json=body("b")).json()

    assert reloaded.json() == {"status": "reloaded"}
    assert '"old a)' in under_way.result(PATIENCE_S)[1]
    assert after["candidates"][0]["text"] == "new b)\n"


def test_a_model_that_cannot_be_read_leaves_the_old_one_answering(
    caplog: pytest.LogCaptureFixture,
) -> None:
    completers = iter([ScriptedCompleter()])

    def load() -> Completer:
        for completer in completers:
            return completer
        raise CheckpointError("runs/code/model: model.safetensors is damaged.")

    with served(load=load) as server, server.client() as client:
        reloaded = client.post("/v1/admin/reload")
        after = client.post("/v1/completions", json=body())

    assert (reloaded.status_code, reloaded.json()["error"]["code"]) == (409, "not_reloaded")
    assert "runs/code" not in reloaded.text
    assert "model.safetensors is damaged" in caplog.text
    assert after.status_code == 200


def test_metrics_count_what_happened() -> None:
    with served() as server, server.client() as client:
        client.post("/v1/completions", json=body())
        client.post("/v1/completions", json=body(stream=True))
        client.post("/v1/completions", json={})
        client.get("/no/such/CANARY")
        text = client.get("/metrics").text

    lines = text.splitlines()
    answers = 'seqmlm_http_answers_total{method="POST",route="/v1/completions",status='
    assert f'{answers}"200"}} 2.0' in lines
    assert f'{answers}"422"}} 1.0' in lines
    assert 'seqmlm_completions_total{outcome="by_model"} 2.0' in lines
    assert 'seqmlm_http_answer_seconds_count{status="200"} 2.0' in lines
    assert "seqmlm_completions_unanswered 0.0" in lines
    assert "seqmlm_completion_seconds_count 2.0" in lines
    assert 'seqmlm_completion_seconds_bucket{le="+Inf"} 2.0' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
    assert "CANARY" not in text
