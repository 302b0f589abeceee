"""Tokens per second of whole training steps: seqmlm against Hugging Face's ESM, same architecture.

Each round takes the same random proteins through all contenders, one after the other in one
process, so that a busy machine slows all of them alike; the ratios are those of one round. A step
is: build the batch, forward, backward, clip, AdamW. Padding does not count as tokens.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.peer import Peer, length_grouped_batches, random_batches
from benchmarks.record import (
    RESULTS,
    Spread,
    Stopwatch,
    describe_machine,
    peak_memory_mib,
    print_table,
    reset_peak_memory,
    write_result,
)
from seqmlm.config import RunConfig, configure
from seqmlm.data.order import EpochOrder
from seqmlm.data.prepare import open_store
from seqmlm.data.samples import SampleBuilder
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain, build_domain
from seqmlm.training.building import build_model, build_objectives
from seqmlm.training.distributed import Processes
from seqmlm.training.optimizer import build_optimizer
from seqmlm.training.step import LossModule, Stepper

NAME = "training_throughput"
LEARNING_RATE = 1e-3

ESM_ARCHITECTURE = (
    "model.layers=4",
    "model.hidden_size=128",
    "model.heads=4",
    "model.feed_forward_size=512",
    "model.activation=gelu",
    "model.normalisation=layer",
    "model.biases=true",
    "model.head_transform=true",
    "model.token_dropout=true",
)
"""Settings that make our model the peer's, weight for weight, but for its 17 of contacts."""

Records = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What one contender did in one round.

    Args:
        tokens: without padding.
        padded_share: of all positions computed.
        steps: optimizer steps.
        cpu_s: CPU seconds.
        wall_s: seconds.
    """

    tokens: int
    padded_share: float
    steps: int
    cpu_s: float
    wall_s: float

    @property
    def tokens_per_cpu_s(self) -> float:
        """Non-padding tokens per CPU second."""
        return self.tokens / self.cpu_s

    @property
    def tokens_per_wall_s(self) -> float:
        """Non-padding tokens per second."""
        return self.tokens / self.wall_s


Contender = Callable[[Records, int], Work]
"""Trains on records, given the number of the round."""


class Ours:
    """seqmlm's own steps, driven by hand so that a round is a fixed set of proteins."""

    def __init__(self, config: RunConfig, domain: Domain, store: TokenStore) -> None:
        seed, self._max_length = config.training.seed, config.data.max_length
        torch.manual_seed(seed)
        objectives = build_objectives(config, domain)
        self.model = build_model(config, domain, objectives)
        module = LossModule(self.model, objectives)
        if config.training.compile:
            self.model.encoder.compile(dynamic=True)
        self._lengths = store.lengths + domain.special_tokens_per_sequence
        self._builder = SampleBuilder(domain, store, objectives, self._max_length, seed)
        self._stepper = Stepper(
            module=module,
            objectives=objectives,
            weights=torch.tensor([item.weight for item in config.objectives]),
            optimizer=build_optimizer(self.model, config.optimizer),
            processes=Processes(0, 1, torch.device("cpu")),
            clip_norm=config.optimizer.clip_norm,
            autocast=config.training.precision == "bfloat16",
        )

    def train(self, records: Records, round_number: int, *, tokens_per_batch: int) -> Work:
        """Do one epoch over the records in packed batches."""
        order = EpochOrder(
            records=records,
            lengths=np.minimum(self._lengths[records], self._max_length),
            groups=records,
            sampling="record",
            tokens_per_batch=tokens_per_batch,
            seed=round_number,
        )
        watch, tokens, steps = Stopwatch(), 0, 0
        for chosen in order.batches(epoch=round_number):
            batch = self._builder.batch(round_number, chosen)
            self._stepper.step([batch], learning_rate=LEARNING_RATE)
            tokens += batch.num_tokens
            steps += 1
        elapsed = watch.elapsed()
        return Work(tokens, 0.0, steps, elapsed.cpu_s, elapsed.wall_s)


class Theirs:
    """The peer's steps over ids that were cut and tokenised before the clock started."""

    def __init__(self, config: RunConfig, domain: Domain, store: TokenStore) -> None:
        self._max_length, self._domain, self._store = config.data.max_length, domain, store
        self.peer = Peer(
            max_length=self._max_length, optimizer=config.optimizer, seed=config.training.seed
        )

    def train(
        self,
        records: Records,
        round_number: int,
        *,
        rows_per_batch: int,
        batches: Callable[..., Iterator[list[Tensor]]],
    ) -> Work:
        """Do one epoch over the records in padded batches."""
        rows = encoded_rows(self._domain, self._store, records, max_length=self._max_length)
        generator = torch.Generator().manual_seed(round_number)
        watch, tokens, positions, steps = Stopwatch(), 0, 0, 0
        for chosen in batches(rows, rows_per_batch=rows_per_batch, generator=generator):
            batch = self.peer.batch(chosen)
            self.peer.step(batch, learning_rate=LEARNING_RATE)
            tokens += batch.num_tokens
            positions += batch.ids.numel()
            steps += 1
        elapsed = watch.elapsed()
        return Work(tokens, 1 - tokens / positions, steps, elapsed.cpu_s, elapsed.wall_s)


def encoded_rows(
    domain: Domain, store: TokenStore, records: Records, *, max_length: int
) -> list[Tensor]:
    """Return int64 ids of records, special tokens included, each cut to its first window."""
    return [
        torch.from_numpy(domain.assemble(store[record], max_length=max_length).ids).long()
        for record in records.tolist()
    ]


def contenders(
    arguments: argparse.Namespace, crop: int
) -> tuple[dict[str, Contender], TokenStore, dict[str, int]]:
    """Build all contenders of one crop; also returns the store and the sizes of the models."""
    config = configure(
        domain="protein",
        sources=[arguments.data],
        overrides=[*ESM_ARCHITECTURE, f"data.max_length={crop}", *arguments.setting],
    )
    domain = build_domain(config.domain.model_dump())
    store = open_store(domain, config.data.sources)
    ours, theirs = Ours(config, domain, store), Theirs(config, domain, store)
    made: dict[str, Contender] = {}
    for tokens_per_batch in arguments.tokens_per_batch:
        made[f"seqmlm {tokens_per_batch}"] = lambda records, number, size=tokens_per_batch: (
            ours.train(  # type: ignore[misc]
                records, number, tokens_per_batch=size
            )
        )
    for name, batches in (("random", random_batches), ("by length", length_grouped_batches)):
        made[f"HF {name}"] = lambda records, number, kind=batches: theirs.train(  # type: ignore[misc]
            records, number, rows_per_batch=arguments.rows, batches=kind
        )
    sizes = {
        "seqmlm": sum(parameter.numel() for parameter in ours.model.parameters()),
        "HF": theirs.peer.num_parameters,
    }
    return made, store, sizes


def sample_records(store: TokenStore, *, count: int, seed: int) -> Records:
    """Draw distinct records that hold at least one residue."""
    usable = np.flatnonzero(store.lengths > 0)
    generator = np.random.default_rng(seed)
    return generator.choice(usable, min(count, len(usable)), replace=False)


def run_rounds(arguments: argparse.Namespace, crop: int) -> list[dict[str, Work]]:
    """Interleave the contenders, after one round of a few proteins that is not counted."""
    made, store, sizes = contenders(arguments, crop)
    print(f"crop {crop}: {sizes['seqmlm']:,} parameters (HF: {sizes['HF']:,})", file=sys.stderr)
    rounds = []
    for number in range(arguments.rounds + 1):
        count = arguments.proteins if number else min(32, arguments.proteins)
        records = sample_records(store, count=count, seed=number)
        results = {name: contender(records, number) for name, contender in made.items()}
        line = ", ".join(f"{name} {work.tokens_per_cpu_s:,.0f}" for name, work in results.items())
        print(f"round {number}, tokens per CPU-second: {line}", file=sys.stderr)
        if number:
            rounds.append(results)
    return rounds


def summarise(rounds: Sequence[dict[str, Work]]) -> dict[str, dict[str, Any]]:
    """Return speed, padding and ratios of every contender."""
    summary = {}
    for name in rounds[0]:
        ratios = {
            peer: Spread.of(
                [done[name].tokens_per_cpu_s / done[peer].tokens_per_cpu_s for done in rounds]
            )
            for peer in rounds[0]
            if peer.startswith("HF")
        }
        summary[name] = {
            "tokens_per_cpu_s": Spread.of([done[name].tokens_per_cpu_s for done in rounds]),
            "tokens_per_wall_s": Spread.of([done[name].tokens_per_wall_s for done in rounds]),
            "padded_share": statistics.mean(done[name].padded_share for done in rounds),
            "ratio_to": ratios,
        }
    return summary


def measure_memory(arguments: argparse.Namespace, crop: int, name: str) -> dict[str, float]:
    """Return resident MiB of one contender before training and at its peak, in a child process."""
    command = [
        *(sys.executable, __file__, "--data", arguments.data, "--crops", str(crop)),
        *("--rows", str(arguments.rows), "--proteins", str(arguments.proteins)),
        *("--threads", str(arguments.threads)),
        *("--tokens-per-batch", *map(str, arguments.tokens_per_batch), "--memory-of", name),
        *(option for setting in arguments.setting for option in ("--set", setting)),
    ]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(finished.stdout)
    return measured


def report_memory(arguments: argparse.Namespace) -> None:
    """Train one contender for a round and print what it took as JSON; runs in the child."""
    made, store, _ = contenders(arguments, arguments.crops[0])
    records = sample_records(store, count=arguments.proteins, seed=1)
    # The first step allocates the optimizer's state and lets libraries set themselves up.
    made[arguments.memory_of](records[:1], 0)
    reset_peak_memory()
    before_mib = peak_memory_mib()
    made[arguments.memory_of](records, 1)
    print(json.dumps({"before_mib": before_mib, "peak_mib": peak_memory_mib()}))


def print_summary(crop: int, summary: dict[str, dict[str, Any]]) -> None:
    """Print one crop's table."""
    rows = [
        [
            name,
            f"{found['tokens_per_cpu_s'].median:,.0f}",
            f"{found['tokens_per_wall_s'].median:,.0f}",
            f"{found['padded_share']:.1%}",
            *(str(spread) for spread in found["ratio_to"].values()),
            *(f"{found['memory'][key]:,.0f}" for key in ("before_mib", "peak_mib")),
        ]
        for name, found in summary.items()
    ]
    ratios = [f"x {peer}" for peer in next(iter(summary.values()))["ratio_to"]]
    print_table(
        f"crop {crop}: non-padding tokens a second, whole training steps",
        ["", "CPU-second", "second", "padded", *ratios, "MiB before", "MiB peak"],
        rows,
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="FASTA file, may be gzip-compressed")
    parser.add_argument("--crops", type=int, nargs="+", default=[512, 1024], metavar="TOKENS")
    parser.add_argument(
        "--tokens-per-batch", type=int, nargs="+", default=[4096, 6144, 8192], metavar="TOKENS",
        help="of our steps; each value is a contender",
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=16, help="of the peer's batches")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--proteins", type=int, default=256, help="per round, the same for all")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--set", dest="setting", action="append", default=[], metavar="KEY=VALUE",
        help="any setting of our runs; repeatable",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run all crops and write the result."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        report_memory(arguments)
        return
    machine = describe_machine()
    summaries, raw = {}, {}
    for crop in arguments.crops:
        rounds = run_rounds(arguments, crop)
        summary = summarise(rounds)
        for name, found in summary.items():
            found["memory"] = measure_memory(arguments, crop, name)
        print_summary(crop, summary)
        summaries[crop] = summary
        raw[crop] = [
            {name: dataclasses.asdict(work) for name, work in done.items()} for done in rounds
        ]
    settings = vars(arguments) | {
        "data": Path(arguments.data).name,
        "architecture": ESM_ARCHITECTURE,
    }
    write_result(
        NAME, arguments.results,
        machine=machine, settings=settings, rounds=raw, summary=summaries,
    )  # fmt: skip


if __name__ == "__main__":
    main()
