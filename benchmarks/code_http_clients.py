"""Clients of the HTTP completion service that do as little as there can be beside asking."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

LONGEST_WAIT_S = 60.0
WATCH_EVERY_S = 0.005
NEVER_S = 3_600
BACKLOG = 2_048
_USED_MODEL = b'"used_model":true'


@dataclass(slots=True)
class Answers:
    """What the rounds of one phase have seen.

    Args:
        statuses: of HTTP, counted.
        served_s: seconds until each answer of the model.
        refused_s: seconds until each refusal.
        told_s: seconds after which each that was refused was told to come again.
        good: answers of the model that came while goodput was counted.
        counted_s: for how long goodput was counted, seconds.
        lexical: answers without the model.
        hung: requests without an answer after a minute.
        broken: requests whose connection ended before the answer.
        delays_s: by how much later than due the clients' own event loop ran, seconds.
        service_cpu_s: processor time of the service, seconds.
        client_cpu_s: of all clients.
        others_cpu_s: of all else on this machine.
        machine_cpu_s: of all processors, used or not.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    served_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    told_s: list[int] = field(default_factory=list)
    good: int = 0
    counted_s: float = 0.0
    lexical: int = 0
    hung: int = 0
    broken: int = 0
    delays_s: list[float] = field(default_factory=list)
    service_cpu_s: float = 0.0
    client_cpu_s: float = 0.0
    others_cpu_s: float = 0.0
    machine_cpu_s: float = 0.0

    @property
    def goodput_per_s(self) -> float:
        """Answers of the model per second; NaN where it was not counted."""
        return self.good / self.counted_s if self.counted_s else float("nan")


async def watch_delays(seen: Answers) -> None:
    """Note, until cancelled, how late this event loop is: that part of a latency is not served."""
    while True:
        due_at = time.perf_counter() + WATCH_EVERY_S
        await asyncio.sleep(WATCH_EVERY_S)
        seen.delays_s.append(time.perf_counter() - due_at)


class _Connection(asyncio.Protocol):
    """One request at a time, with as little work as there can be."""

    def __init__(self) -> None:
        self.received = b""
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[tuple[float, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not is_whole(self.received):
            return
        if self.answer is not None and not self.answer.done():
            self.answer.set_result((time.perf_counter(), self.received))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(EOFError())

    async def ask(self, body: bytes) -> tuple[float, bytes]:
        """Return the seconds until the answer, and the answer."""
        assert self.transport is not None
        self.received, self.answer = b"", asyncio.get_running_loop().create_future()
        began_at = time.perf_counter()
        self.transport.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        async with asyncio.timeout(LONGEST_WAIT_S):
            ended_at, answer = await self.answer
        return ended_at - began_at, answer


def header(head: bytes, name: bytes) -> bytes:
    """Return the value of a header; 0 if it is not there."""
    found = re.search(rb"(?i)\r\n%s: *([^\r]+)" % name, head)
    return found.group(1) if found else b"0"


def is_whole(message: bytes) -> bool:
    """Whether a message of HTTP has come to its end."""
    head, end, content = message.partition(b"\r\n\r\n")
    return bool(end) and len(content) >= int(header(head, b"content-length"))


class _Refuser(asyncio.Protocol):
    """Refuses one request after the other."""

    def __init__(self, waits_s: Iterator[int]) -> None:
        self.waits_s, self.received = waits_s, b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.transport is not None and is_whole(self.received):
            self.received = b""
            self.transport.write(
                b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n"
                % next(self.waits_s, NEVER_S)
            )


@asynccontextmanager
async def refusing_server(waits_s: Iterable[int]) -> AsyncGenerator[int]:
    """A server of this event loop that refuses everything; the block gets its port.

    Args:
        waits_s: seconds after which those refused are told to come again, one after the other;
            never behind the last.
    """
    waits = iter(waits_s)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Refuser(waits), "127.0.0.1", 0, backlog=BACKLOG)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def connect(port: int) -> _Connection:
    """Return a connection that is open."""
    made = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return made[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What the clients of a phase do.

    Args:
        clients: their number.
        arrival_s: within how many seconds they come.
        seconds: for how long they ask; 0: once.
        warm_up_s: seconds of these whose answers are no goodput.
        keeps_to_retry_after: whether one that is refused comes when it was told, or sooner.
    """

    clients: int
    arrival_s: float
    seconds: float
    warm_up_s: float
    keeps_to_retry_after: bool = True


async def answered_by_model(port: int, bodies: Sequence[bytes], *, clients: int) -> list[bool]:
    """Ask each request once, and return which the model has answered."""
    found = [False] * len(bodies)
    numbers = iter(range(len(bodies)))

    async def ask_some() -> None:
        connection = await connect(port)
        for number in numbers:
            _, answer = await connection.ask(bodies[number])
            found[number] = _USED_MODEL in answer
        if connection.transport is not None:
            connection.transport.close()

    await asyncio.gather(*(ask_some() for _ in range(clients)))
    return found


async def be_client(
    port: int, bodies: Sequence[bytes], behaviour: Behaviour, *, seed: int, seen: Answers,
    start: asyncio.Barrier,
) -> None:  # fmt: skip
    """Ask again and again until the phase ends."""
    chance = random.Random(seed)
    connection = await connect(port)
    await start.wait()  # until all are connected
    began_at = time.perf_counter()
    until = began_at + behaviour.seconds
    if behaviour.arrival_s:
        await asyncio.sleep(chance.uniform(0, behaviour.arrival_s))
    while True:
        if connection.transport is None:  # closed while nothing was asked, as HTTP allows
            connection = await connect(port)
        try:
            elapsed_s, answer = await connection.ask(chance.choice(bodies))
        except TimeoutError:
            seen.hung += 1
            break
        except (OSError, EOFError):
            seen.broken += 1
            break
        status = int(answer[9:12])
        seen.statuses[status] += 1
        now = time.perf_counter()
        if status == 429:
            seen.refused_s.append(elapsed_s)
            seen.told_s.append(int(header(answer, b"retry-after")))
            least_s = seen.told_s[-1] if behaviour.keeps_to_retry_after else 1
            wait_s = least_s * chance.uniform(1, 2)
        elif _USED_MODEL in answer:
            wait_s = 0.0
            seen.served_s.append(elapsed_s)
            seen.good += began_at + behaviour.warm_up_s <= now < until
        else:
            wait_s = 0.0
            seen.lexical += 1
        if now + wait_s >= until:
            break
        await asyncio.sleep(wait_s)
    if connection.transport is not None:
        connection.transport.close()
