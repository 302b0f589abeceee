"""What 1,000 clients at once get of the HTTP service: goodput, refusals, nothing that hangs.

Rounds of phases against one service, in a process of its own on loopback. Each client has one
connection, opened before the phase, and asks again as soon as it is answered.

- capacity: 16 clients, twice the largest batch: the model never waits and nobody is refused.
- overload: 1,000 clients, which come within the first second; one that is refused comes again after
  the seconds that ``Retry-After`` says, and up to twice as long.
- capacity beside refusals: capacity, while a server of the clients' own process refuses 1,000
  other clients, each told to come again when one of overload was.
- impatient: overload, but one that is refused comes again after one to two seconds whatever it was
  told.
- burst: 1,000 requests written in the same instant, one of each client.

Requests are drawn from 500 names, ten of a file at most, so that hardly one is answered from what
was kept of another. Each is asked once before anything is measured: those that the service answers
without the model, because no name that it knows can stand there, are left out and counted.
Deadlines are set high, so that from then on every answer is the model's; one that is not is counted
apart.

Goodput is the number of the model's answers per second that arrive while the phase lasts, without
its first two seconds, in every phase alike; its share of capacity is taken of the sums over the
rounds. Beside it stand the model's answers per second of the service's processor time, in all of a
phase: others who share the machine change these less. How much of all processors these others have
used is told too: beyond a few percent, no figure of this record is the service's alone.

Two processors that share caches slow one another, and in overload the clients use more of the
second than at capacity. Goodput is therefore told as a share of both: of capacity, and of capacity
beside refusals, where they are as busy with refusals, which there cost the service nothing.

A latency is the time from the moment at which a client has written a request to that at which it
has read the whole answer. The clients are one event loop of this process and share the processors
with the service, so its own delays are in there, and are told beside it: by how much later than due
that loop ran. So is the time from the first byte that the service reads to its answer, from its
histogram. One thread reads and refuses: of a burst, the last waits for all others. A refusal costs
the service 0.07 ms of processor time, where nothing else is in its caches, and the clients 0.03; an
application that refuses everything costs 0.05 under uvicorn, a bare server of asyncio 0.014.

No round begins that would not end within ``--cpu-minutes`` of both processes, as far as those
before it tell; the record says how many there were.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.code_http_clients import (
    Answers,
    Behaviour,
    answered_by_model,
    be_client,
    refusing_server,
    watch_delays,
)
from benchmarks.code_http_places import request_bodies
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
PLACES = 500
ARRIVAL_S, WARM_UP_S = 1.0, 2.0
BESIDE = "capacity beside refusals"


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
    before_s = processor_times_s(process)
    watch = asyncio.create_task(watch_delays(seen))
    await asyncio.gather(*clients)
    watch.cancel()
    service_s, clients_s, busy_s, idle_s = (processor_times_s(process) - before_s).tolist()
    seen.service_cpu_s += service_s
    seen.client_cpu_s += clients_s
    seen.others_cpu_s += max(busy_s - service_s - clients_s, 0.0)
    seen.machine_cpu_s += busy_s + idle_s
    seen.counted_s += max(behaviour.seconds - behaviour.warm_up_s, 0.0)


async def beside_refusals(
    running: Coroutine[Any, Any, None], waits_s: Sequence[int], process: int,
    bodies: Sequence[bytes], behaviour: Behaviour, *, seen: Answers,
) -> None:  # fmt: skip
    """Run a phase while other clients are refused by a server of this process, for some seconds."""
    async with refusing_server(waits_s) as port:
        await asyncio.gather(running, phase(port, process, bodies, behaviour, seed=0, seen=seen))


def processor_times_s(process: int) -> np.ndarray:
    """Return the processor time of the service, of this process, of all, and that none has used."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    fields = [int(field) / os.sysconf("SC_CLK_TCK") for field in line.split()[1:9]]
    idle_s = fields[3] + fields[4]
    return np.array([processor_s(process), time.process_time(), sum(fields) - idle_s, idle_s])


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
        "of_model": len(seen.served_s),
        "of_model_per_service_cpu_s": len(seen.served_s) / seen.service_cpu_s,
        "lexical": seen.lexical,
        "hung": seen.hung,
        "broken": seen.broken,
        "served_ms": percentiles_ms(seen.served_s),
        "refused_ms": percentiles_ms(seen.refused_s),
        "client_delay_ms": percentiles_ms(seen.delays_s),
        "service_cpu_s": seen.service_cpu_s,
        "client_cpu_s": seen.client_cpu_s,
        "others_share_of_processors": seen.others_cpu_s / seen.machine_cpu_s,
    }


@contextmanager
def no_collections() -> Iterator[None]:
    """Without garbage collections, which would hold all clients up at once."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def measure(
    run: Path, drawn: Sequence[bytes], *, clients: int, seconds: float, rounds: int,
    cpu_minutes: float,
) -> dict[str, Any]:  # fmt: skip
    """Run all phases, interleaved, and return what is told of them, the places and the memory."""
    many = Behaviour(clients=clients, arrival_s=ARRIVAL_S, seconds=seconds, warm_up_s=WARM_UP_S)
    behaviours = {
        "capacity": replace(many, clients=FEW_CLIENTS),
        "overload": many,
        BESIDE: replace(many, clients=FEW_CLIENTS),
        "impatient": replace(many, keeps_to_retry_after=False),
        "burst": replace(many, arrival_s=0.0, seconds=0.0),
    }
    seen, refused_beside = {name: Answers() for name in behaviours}, Answers()
    inside: dict[str, Counter[float]] = {name: Counter() for name in behaviours}
    with service(run) as (port, process), no_collections():
        is_of_model = asyncio.run(answered_by_model(port, drawn, clients=FEW_CLIENTS))
        bodies = [body for body, is_its in zip(drawn, is_of_model, strict=True) if is_its]
        idle_mib = peak_memory_mib(process)
        used_s = [processor_s(process) + time.process_time()]
        for turn in range(rounds):
            longest_s = max(np.diff(used_s), default=0.0)
            if used_s[-1] + longest_s > 60 * cpu_minutes:
                break
            told_before = len(seen["overload"].told_s)
            for name, behaviour in behaviours.items():
                before = refused_by_service(port)
                running = phase(
                    port, process, bodies, behaviour, seed=turn * clients, seen=seen[name]
                )
                if name == BESIDE:
                    waits_s = seen["overload"].told_s[told_before:]
                    running = beside_refusals(
                        running, waits_s, process, bodies, many, seen=refused_beside
                    )
                asyncio.run(running)
                inside[name].update(refused_by_service(port))
                inside[name].subtract(before)
            used_s.append(processor_s(process) + time.process_time())
        peak_mib = peak_memory_mib(process)
    told = {name: summarise(answers) for name, answers in seen.items()}
    for name, row in told.items():
        row["refused_in_service_ms_at_most"] = {
            f"p{at}": bound_ms(inside[name], at) for at in (50, 95, 99, 100)
        }
    places = {"drawn": len(drawn), "answered_by_model": len(bodies)}
    told[BESIDE]["refused_by_other_server"] = refused_beside.statuses[429]
    memory = {"idle_mib": idle_mib, "peak_mib": peak_mib}
    return {
        "phases": told, "places": places, **memory, "rounds": len(used_s) - 1, "cpu_s": used_s[-1],
    }  # fmt: skip


def print_measured(told: dict[str, Any], *, title: str) -> None:
    """Print one line per phase."""
    phases = told["phases"]
    capacity_per_s, beside_per_s = (phases[name]["goodput_per_s"] for name in ("capacity", BESIDE))
    print_table(
        title,
        (
            "phase", "model's answers/s", "of capacity", f"of {BESIDE}",
            "per CPU-s of the service", "model's", "lexical", "refused", "hung", "broken",
            "served p99 ms", "refused p50 ms", "p99 ms", "max ms", "in the service, p99 <= ms",
            "client late p99 ms", "others on the processors",
        ),
        [
            (
                name,
                f"{row['goodput_per_s']:.1f}",
                f"{row['goodput_per_s'] / capacity_per_s:.1%}",
                f"{row['goodput_per_s'] / beside_per_s:.1%}",
                f"{row['of_model_per_service_cpu_s']:.1f}",
                str(row["of_model"]),
                str(row["lexical"]),
                str(row["statuses"].get(429, 0)),
                str(row["hung"]),
                str(row["broken"]),
                f"{row['served_ms']['p99']:.0f}",
                f"{row['refused_ms']['p50']:.1f}",
                f"{row['refused_ms']['p99']:.1f}",
                f"{row['refused_ms']['max']:.1f}",
                f"{row['refused_in_service_ms_at_most']['p99']:.0f}",
                f"{row['client_delay_ms']['p99']:.1f}",
                f"{row['others_share_of_processors']:.0%}",
            )
            for name, row in phases.items()
        ],
    )  # fmt: skip
    beside = phases[BESIDE]["refused_by_other_server"]
    print(f"{beside} refusals of another server in {BESIDE}")
    places = told["places"]
    print(f"{places['answered_by_model']} of {places['drawn']} places are asked of the model")
    print(f"{told['rounds']} rounds, {told['cpu_s'] / 60:.1f} minutes of processor time")
    print(f"memory {told['idle_mib']:.0f} -> {told['peak_mib']:.0f} MiB")


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run of domain code")
    parser.add_argument(
        "--data",
        nargs="+",
        default=(),
        help="files of a language of the run; else Python's library",
    )
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each phase")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cpu-minutes", type=float, default=3.0, help="of both processes")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    machine = describe_machine()
    asked = {
        name: getattr(arguments, name) for name in ("clients", "seconds", "rounds", "cpu_minutes")
    }
    language, drawn = request_bodies(arguments.data, PLACES, seed=0)
    told = measure(arguments.run, drawn, **asked)
    print_measured(told, title=f"{arguments.clients} clients, queue of {QUEUE_CAPACITY}")
    write_result(
        "code_http_load",
        arguments.results,
        machine=machine,
        settings={
            **asked,
            "queue_capacity": QUEUE_CAPACITY,
            "deadline_ms": DEADLINE_MS,
            "language": language,
        },
        rounds=[],
        summary=told,
    )


if __name__ == "__main__":
    main()
