"""What 1,000 clients at once get of the HTTP service: goodput, refusals, nothing that hangs.

Rounds of phases against one service, in a process of its own on loopback. Each client has one
connection, opened before the phase, and asks again as soon as it is answered.

- capacity: 16 clients, twice the largest batch: the model never waits and nobody is refused.
- overload: 1,000 clients, which come within the first second; one that is refused comes again after
  the seconds that ``Retry-After`` says, and up to twice as long.
- impatient: the same, but one that is refused comes again after one to two seconds whatever it was
  told.
- burst: 1,000 requests written in the same instant, one of each client.

Goodput is the number of the model's answers per second that arrive while the phase lasts, without
its first two seconds; its share of capacity is taken of the sums over the rounds. A latency is the
time from the moment at which a client has written a request to that at which it has read the whole
answer. The clients are one event loop of this process and share the processors with the service,
so its own delays are in there, and are told beside it: by how much later than due that loop ran.
So is the time from the first byte that the service reads to its answer, from its histogram. One
thread reads and refuses: of a burst, the last waits for all others, which cost the service 0.075 ms
and the clients 0.03 ms of processor time each.

Every request is a place in a file of its own, so that nothing is answered from what was kept of
another. Deadlines are set high, so that every answer counted is the model's.
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
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.code_http_clients import Answers, Behaviour, be_client, watch_delays
from benchmarks.record import (
    RESULTS,
    describe_machine,
    peak_memory_mib,
    print_table,
    write_result,
)

CLIENTS = 1_000
FEW_CLIENTS = 16
QUEUE_CAPACITY = 64
DEADLINE_MS = 30_000
PREFIX_CHARACTERS, SUFFIX_CHARACTERS = 3_000, 1_000
ARRIVAL_S, WARM_UP_S = 1.0, 2.0


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


async def phase(
    port: int, process: int, bodies: Sequence[bytes], behaviour: Behaviour, *, seed: int,
    seen: Answers,
) -> None:  # fmt: skip
    """Let clients ask for some seconds, and wait for what they have asked."""
    start = asyncio.Barrier(behaviour.clients + 1)
    clients = [
        asyncio.create_task(
            be_client(port, bodies, behaviour, seed=seed + number, seen=seen, start=start)
        )
        for number in range(behaviour.clients)
    ]
    await start.wait()
    service_cpu_s, client_cpu_s = processor_s(process), time.process_time()
    watch = asyncio.create_task(watch_delays(seen))
    await asyncio.gather(*clients)
    watch.cancel()
    seen.service_cpu_s += processor_s(process) - service_cpu_s
    seen.client_cpu_s += time.process_time() - client_cpu_s
    seen.counted_s += max(behaviour.seconds - behaviour.warm_up_s, 0.0)


def processor_s(process: int) -> float:
    """Return the processor time that a process has used, seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def refused_by_service(port: int) -> Counter[float]:
    """Return how many refusals the service has answered within how many seconds, cumulative."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(
        r'^seqmlm_http_answer_seconds_bucket\{le="([^"]+)",status="429"\} (\S+)', text, re.M
    )
    return Counter({float(bound): int(float(count)) for bound, count in found})


def bound_ms(counts: Mapping[float, float], percent: float) -> float:
    """Return the bound of a histogram that so many percent did not exceed, ms; NaN of none."""
    total = max(counts.values(), default=0.0)
    if not total:
        return float("nan")
    return 1000 * min(at for at, count in counts.items() if count >= total * percent / 100)


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


def percentiles_ms(latencies_s: Sequence[float]) -> dict[str, float]:
    """Return what is told of latencies, ms."""
    found = {f"p{at}": percentile_ms(latencies_s, at) for at in (50, 95, 99)}
    return {**found, "max": percentile_ms(latencies_s, 100)}


def summarise(seen: Answers) -> dict[str, Any]:
    """Return what is told of a phase."""
    return {
        "goodput_per_s": seen.goodput_per_s,
        "statuses": dict(seen.statuses),
        "lexical": seen.lexical,
        "hung": seen.hung,
        "broken": seen.broken,
        "served_ms": percentiles_ms(seen.served_s),
        "refused_ms": percentiles_ms(seen.refused_s),
        "client_delay_ms": percentiles_ms(seen.delays_s),
        "service_cpu_s": seen.service_cpu_s,
        "client_cpu_s": seen.client_cpu_s,
    }


def measure(run: Path, *, clients: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Run all phases, interleaved, and return what is told of them and of the memory."""
    bodies = request_bodies(2_000, seed=0)
    many = Behaviour(clients=clients, arrival_s=ARRIVAL_S, seconds=seconds, warm_up_s=WARM_UP_S)
    behaviours = {
        "capacity": replace(many, clients=FEW_CLIENTS),
        "overload": many,
        "impatient": replace(many, keeps_to_retry_after=False),
        "burst": replace(many, arrival_s=0.0, seconds=0.0),
    }
    seen = {name: Answers() for name in behaviours}
    inside: dict[str, Counter[float]] = {name: Counter() for name in behaviours}
    with service(run) as (port, process):
        warm_up = replace(behaviours["capacity"], seconds=3.0)
        asyncio.run(phase(port, process, bodies, warm_up, seed=0, seen=Answers()))
        idle_mib = peak_memory_mib(process)
        for turn in range(rounds):
            for name, behaviour in behaviours.items():
                before = refused_by_service(port)
                asyncio.run(
                    phase(port, process, bodies, behaviour, seed=turn * clients, seen=seen[name])
                )
                inside[name].update(refused_by_service(port))
                inside[name].subtract(before)
        peak_mib = peak_memory_mib(process)
    told = {name: summarise(answers) for name, answers in seen.items()}
    for name, row in told.items():
        row["refused_in_service_ms_at_most"] = {
            f"p{at}": bound_ms(inside[name], at) for at in (50, 95, 99, 100)
        }
    return {**told, "idle_mib": idle_mib, "peak_mib": peak_mib}


def print_measured(told: dict[str, Any], *, title: str) -> None:
    """Print one line per phase."""
    names = [name for name, row in told.items() if isinstance(row, dict)]
    print_table(
        title,
        (
            "phase", "answers/s", "of capacity", "served", "refused", "hung", "broken",
            "served p99 ms", "refused p50 ms", "p99 ms", "max ms", "in the service, p99 <= ms",
            "client late p99 ms",
        ),
        [
            (
                name,
                f"{told[name]['goodput_per_s']:.1f}",
                f"{told[name]['goodput_per_s'] / told['capacity']['goodput_per_s']:.1%}",
                str(told[name]["statuses"].get(200, 0)),
                str(told[name]["statuses"].get(429, 0)),
                str(told[name]["hung"]),
                str(told[name]["broken"]),
                f"{told[name]['served_ms']['p99']:.0f}",
                f"{told[name]['refused_ms']['p50']:.1f}",
                f"{told[name]['refused_ms']['p99']:.1f}",
                f"{told[name]['refused_ms']['max']:.1f}",
                f"{told[name]['refused_in_service_ms_at_most']['p99']:.0f}",
                f"{told[name]['client_delay_ms']['p99']:.1f}",
            )
            for name in names
        ],
    )  # fmt: skip
    print(f"memory {told['idle_mib']:.0f} -> {told['peak_mib']:.0f} MiB")


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run of domain code")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each phase")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    machine = describe_machine()
    asked = {"clients": arguments.clients, "seconds": arguments.seconds, "rounds": arguments.rounds}
    told = measure(arguments.run, **asked)
    print_measured(told, title=f"{arguments.clients} clients, queue of {QUEUE_CAPACITY}")
    write_result(
        "code_http_load",
        arguments.results,
        machine=machine,
        settings={**asked, "queue_capacity": QUEUE_CAPACITY, "deadline_ms": DEADLINE_MS},
        rounds=[],
        summary=told,
    )


if __name__ == "__main__":
    main()
