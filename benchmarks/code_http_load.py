"""What 1,000 clients at once get of the HTTP service: goodput, refusals, nothing that hangs.

Two phases against one service, in a process of its own on loopback. Capacity: as many clients as
the queue has places, each asking again as soon as it is answered. Overload: 1,000 clients, of which
each one that is refused comes again after the seconds that ``Retry-After`` says. Every request is
a place in a file of its own, so that nothing is answered from what was kept of another.

The clients share the processors with the service, and the time until a client has read its answer
counts. Deadlines are set high, so that every answer counted is the model's.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import keyword
import os
import random
import re
import subprocess
import sys
import sysconfig
import time
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.record import (
    RESULTS,
    describe_machine,
    peak_memory_mib,
    print_table,
    write_result,
)

CLIENTS = 1_000
QUEUE_CAPACITY = 64
DEADLINE_MS = 30_000
PREFIX_CHARACTERS, SUFFIX_CHARACTERS = 3_000, 1_000
LONGEST_WAIT_S = 60.0


@dataclass(slots=True)
class Answers:
    """What one phase has seen.

    Args:
        statuses: of HTTP, counted.
        served_s: seconds until each answer of the model.
        refused_s: seconds until each refusal.
        lexical: answers without the model.
        hung: requests without an answer after a minute.
        broken: requests whose connection ended before the answer.
        wall_s: length of the phase, seconds.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    served_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    lexical: int = 0
    hung: int = 0
    broken: int = 0
    wall_s: float = 0.0

    @property
    def goodput_per_s(self) -> float:
        """Answers of the model per second."""
        return len(self.served_s) / self.wall_s


def request_bodies(number: int, *, seed: int) -> list[bytes]:
    """Return requests at random names of the standard library's own files, strings left out."""
    chance = random.Random(seed)
    folder = Path(sysconfig.get_path("stdlib"))
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))]
    long_enough = [text for text in texts if len(text) > PREFIX_CHARACTERS + SUFFIX_CHARACTERS]
    places: list[tuple[str, int]] = []
    while len(places) < number:
        text = chance.choice(long_enough)
        found = [at for at in name_starts(text) if at >= PREFIX_CHARACTERS]
        places += [(text, at + 1) for at in chance.sample(found, min(len(found), 20))]
    return [
        json.dumps(
            {
                "language": "python",
                "segments": {
                    "prefix": text[at - PREFIX_CHARACTERS : at],
                    "suffix": text[at : at + SUFFIX_CHARACTERS],
                },
            }
        ).encode()
        for text, at in chance.sample(places, number)
    ]


def name_starts(text: str) -> list[int]:
    """Return where the names of a Python file begin, in characters."""
    line_starts = [0, *accumulate(map(len, io.StringIO(text)))]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [
        line_starts[token.start[0] - 1] + token.start[1]
        for token in tokens
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    ]


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> tuple[int, float, bytes]:
    """Send one request on a connection that stays; status, Retry-After (s) and content."""
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(re.findall(rb"content-length: (\d+)", head)[0])
    wait = re.findall(rb"retry-after: (\d+)", head)
    content = await reader.readexactly(length)
    return int(head.split(maxsplit=2)[1]), float(wait[0]) if wait else 0.0, content


async def be_client(
    port: int, bodies: Sequence[bytes], *, seed: int, until: float, seen: Answers
) -> None:
    """Ask again and again until a moment, as a client that keeps to ``Retry-After``."""
    chance = random.Random(seed)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.perf_counter() < until:
            if reader.at_eof():  # closed while nothing was asked, as HTTP allows
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            began_at = time.perf_counter()
            async with asyncio.timeout(LONGEST_WAIT_S):
                status, wait_s, content = await exchange(reader, writer, chance.choice(bodies))
            elapsed_s = time.perf_counter() - began_at
            seen.statuses[status] += 1
            if status == 200:
                if b'"used_model":true' in content:
                    seen.served_s.append(elapsed_s)
                else:
                    seen.lexical += 1
            elif status == 429:
                seen.refused_s.append(elapsed_s)
                # Clients that come back at the same moment would be refused at the same moment.
                await asyncio.sleep(wait_s * chance.uniform(1, 2))
    except TimeoutError:
        seen.hung += 1
    except (OSError, EOFError):
        seen.broken += 1
    finally:
        writer.close()


async def phase(port: int, bodies: Sequence[bytes], *, clients: int, seconds: float) -> Answers:
    """Let many clients ask for some seconds, and wait for what they have asked."""
    seen = Answers()
    began_at = time.perf_counter()
    until = began_at + seconds
    await asyncio.gather(
        *(be_client(port, bodies, seed=seed, until=until, seen=seen) for seed in range(clients))
    )
    seen.wall_s = time.perf_counter() - began_at
    return seen


@contextmanager
def service(run: Path) -> Iterator[tuple[int, int]]:
    """The service's port and process number, for the length of the block."""
    settings = {
        "port": 0,
        "queue_capacity": QUEUE_CAPACITY,
        "deadline_ms": DEADLINE_MS,
        "client_requests_per_s": 1e6,
        "client_burst": 10**6,
        "log_level": "warning",
    }
    options = [text for name, value in settings.items() for text in ("--set", f"{name}={value}")]
    process = subprocess.Popen(
        [sys.executable, "-m", "seqmlm", "code", "serve", str(run), "--http", *options],
        stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                yield int(found.group(1)), process.pid
                return
        raise RuntimeError(f"the service ended with {process.wait()}")
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def percentile_ms(latencies_s: Sequence[float], percent: float) -> float:
    """Return the latency that so many percent do not exceed, ms; NaN of none."""
    ordered = sorted(latencies_s)
    if not ordered:
        return float("nan")
    return 1000 * ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def summarise(seen: Answers) -> dict[str, Any]:
    """Return what is told of a phase."""
    return {
        "goodput_per_s": seen.goodput_per_s,
        "statuses": dict(seen.statuses),
        "lexical": seen.lexical,
        "hung": seen.hung,
        "broken": seen.broken,
        "served_ms": {f"p{at}": percentile_ms(seen.served_s, at) for at in (50, 95, 99)},
        "refused_ms": {f"p{at}": percentile_ms(seen.refused_s, at) for at in (50, 95, 99)},
        "wall_s": seen.wall_s,
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run of domain code")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each phase")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    machine = describe_machine()
    bodies = request_bodies(2_000, seed=0)
    with service(arguments.run) as (port, process):
        asyncio.run(phase(port, bodies, clients=4, seconds=2))  # warm-up
        idle_mib = peak_memory_mib(process)
        phases = {
            name: asyncio.run(phase(port, bodies, clients=clients, seconds=arguments.seconds))
            for name, clients in (("capacity", QUEUE_CAPACITY), ("overload", arguments.clients))
        }
        peak_mib = peak_memory_mib(process)
    told = {name: summarise(seen) for name, seen in phases.items()}
    ratio = told["overload"]["goodput_per_s"] / told["capacity"]["goodput_per_s"]
    print_table(
        f"{arguments.clients} clients, queue of {QUEUE_CAPACITY}",
        ("phase", "answers/s", "refused", "hung", "broken", "served p99 ms", "refused p99 ms"),
        [
            (
                name,
                f"{row['goodput_per_s']:.1f}",
                str(row["statuses"].get(429, 0)),
                str(row["hung"]),
                str(row["broken"]),
                f"{row['served_ms']['p99']:.0f}",
                f"{row['refused_ms']['p99']:.1f}",
            )
            for name, row in told.items()
        ],
    )
    print(f"goodput / capacity: {ratio:.1%}; memory {idle_mib:.0f} -> {peak_mib:.0f} MiB")
    write_result(
        "code_http_load",
        arguments.results,
        machine=machine,
        settings={"clients": arguments.clients, "seconds": arguments.seconds,
                  "queue_capacity": QUEUE_CAPACITY, "deadline_ms": DEADLINE_MS},
        rounds=[],
        summary={**told, "goodput_ratio": ratio, "idle_mib": idle_mib, "peak_mib": peak_mib},
    )  # fmt: skip


if __name__ == "__main__":
    main()
