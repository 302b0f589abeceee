"""Proteins embedded per CPU second: seqmlm against Hugging Face's ``EsmModel``, same weights.

The model has the settings of ESM-2 8M and random weights. Each round takes all contenders through
the same proteins, one after the other in one process, so that a busy machine slows all of them
alike; the ratios are those of one round. Every contender gives the mean over the residues.

- seqmlm: ``Model.embed`` of the letters, packed without padding;
- HF in order: padded batches of proteins as they come in the file, the usual loop;
- HF by length: the same, sorted by length before; both from ids tokenised before the clock starts.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import EsmForMaskedLM

from benchmarks.esm2 import build_peer, import_peer
from benchmarks.record import (
    RESULTS,
    Elapsed,
    Spread,
    Stopwatch,
    describe_machine,
    print_table,
    write_result,
)
from seqmlm.data.report import ReadReport
from seqmlm.domain import build_domain
from seqmlm.model.model import Model
from seqmlm_domains.protein.domain import SAMPLES
from seqmlm_domains.protein.tokenizer import VOCABULARY

NAME = "embedding_throughput"
BUNDLED = SAMPLES / "swissprot_archaea_600.fasta.gz"
PADDING = VOCABULARY.special.padding


@dataclasses.dataclass(frozen=True, slots=True)
class Proteins:
    """What is embedded in one round.

    Args:
        letters: of each.
        ids: int64 ``[n]`` each, special tokens included.
    """

    letters: Sequence[str]
    ids: Sequence[Tensor]


Contender = Callable[[Proteins], Tensor]
"""Returns float32 ``[proteins, hidden_size]``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What one contender did in one round.

    Args:
        residues: of all proteins.
        elapsed: time taken.
    """

    residues: int
    elapsed: Elapsed

    @property
    def residues_per_cpu_s(self) -> float:
        """Residues embedded per CPU second."""
        return self.residues / self.elapsed.cpu_s

    @property
    def residues_per_wall_s(self) -> float:
        """Residues embedded per second."""
        return self.residues / self.elapsed.wall_s


class PaddedLoop:
    """The usual loop over an ``EsmModel``.

    Args:
        peer: the encoder.
        rows_per_batch: proteins of one batch.
        sorts: whether proteins of similar length share a batch.
    """

    def __init__(self, peer: Any, *, rows_per_batch: int, sorts: bool) -> None:
        self._peer, self._rows_per_batch, self._sorts = peer, rows_per_batch, sorts

    @torch.inference_mode()
    def embed(self, rows: Sequence[Tensor]) -> Tensor:
        """Return the mean states of int64 ``[n]`` ids each, float32 ``[rows, hidden_size]``."""
        order = list(range(len(rows)))
        if self._sorts:
            order.sort(key=lambda index: len(rows[index]))
        means: list[Tensor] = []
        for start in range(0, len(order), self._rows_per_batch):
            chosen = [rows[index] for index in order[start : start + self._rows_per_batch]]
            ids = pad_sequence(chosen, batch_first=True, padding_value=PADDING)
            attention_mask = (ids != PADDING).long()
            states = self._peer(input_ids=ids, attention_mask=attention_mask).last_hidden_state
            means += [
                row[1 : len(own) - 1].mean(0) for row, own in zip(states, chosen, strict=True)
            ]
        return torch.stack(means)[np.argsort(order)]


def read_letters(source: str, *, longest: int) -> list[str]:
    """Return the letters of the proteins of a FASTA file, but for longer ones."""
    records = build_domain({"name": "protein"}).read([source], ReadReport())
    return [record.content for record in records if len(record.content) <= longest]


def sample_proteins(model: Model, letters: Sequence[str], *, count: int, seed: int) -> Proteins:
    """Draw proteins, in the order of the file."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(letters), min(count, len(letters)), replace=False)
    texts = [letters[index] for index in sorted(chosen.tolist())]
    return Proteins(
        texts, [torch.from_numpy(model.domain.parse(text).ids).long() for text in texts]
    )


def contenders(
    model: Model, peer: EsmForMaskedLM, arguments: argparse.Namespace
) -> dict[str, Contender]:
    """Return what each one does in a round."""

    def ours(tokens_per_batch: int) -> Contender:
        return lambda proteins: model.embed(proteins.letters, tokens_per_batch=tokens_per_batch)

    def theirs(*, sorts: bool) -> Contender:
        loop = PaddedLoop(peer.esm, rows_per_batch=arguments.rows, sorts=sorts)
        return lambda proteins: loop.embed(proteins.ids)

    made = {f"seqmlm {tokens}": ours(tokens) for tokens in arguments.tokens_per_batch}
    return made | {"HF in order": theirs(sorts=False), "HF by length": theirs(sorts=True)}


def run_rounds(arguments: argparse.Namespace) -> tuple[list[dict[str, Work]], float]:
    """Interleave the contenders; returns their work and the largest difference of any vector.

    One round of a few proteins comes first and is not counted.
    """
    peer = build_peer()
    model = import_peer(peer)
    named = contenders(model, peer, arguments)
    letters = read_letters(arguments.data, longest=arguments.longest)
    rounds, difference = [], 0.0
    for number in range(arguments.rounds + 1):
        count = arguments.proteins if number else min(32, arguments.proteins)
        proteins = sample_proteins(model, letters, count=count, seed=number)
        done, vectors = {}, []
        for name, contender in named.items():
            watch = Stopwatch()
            vectors.append(contender(proteins))
            done[name] = Work(sum(map(len, proteins.letters)), watch.elapsed())
        difference = max(difference, *(float((x - vectors[0]).abs().max()) for x in vectors))
        line = ", ".join(f"{name} {work.residues_per_cpu_s:,.0f}" for name, work in done.items())
        print(f"round {number}, residues per CPU-second: {line}", file=sys.stderr)
        if number:
            rounds.append(done)
    return rounds, difference


def summarise(rounds: Sequence[dict[str, Work]]) -> dict[str, dict[str, Any]]:
    """Return speed and ratios of every contender."""
    return {
        name: {
            "residues_per_cpu_s": Spread.of([done[name].residues_per_cpu_s for done in rounds]),
            "residues_per_wall_s": Spread.of([done[name].residues_per_wall_s for done in rounds]),
            "ratio_to": {
                peer: Spread.of(
                    [
                        done[name].residues_per_cpu_s / done[peer].residues_per_cpu_s
                        for done in rounds
                    ]
                )
                for peer in rounds[0]
                if peer.startswith("HF")
            },
        }
        for name in rounds[0]
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(BUNDLED), help="FASTA file, may be gzip-compressed")
    parser.add_argument("--tokens-per-batch", type=int, nargs="+", default=[8192])
    parser.add_argument("--rows", type=int, default=16, help="of the peer's batches")
    parser.add_argument(
        "--longest", type=int, default=1022,
        help="residues; a single longer protein would make a whole batch of the peer as long",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--proteins", type=int, default=128, help="per round, the same for all")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    return parser.parse_args()


def main() -> None:
    """Measure, print and write the result."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    machine = describe_machine()
    rounds, difference = run_rounds(arguments)
    summary = summarise(rounds)
    peers = list(next(iter(summary.values()))["ratio_to"])
    print_table(
        f"residues embedded a second, {len(rounds)} rounds of {arguments.proteins} proteins",
        ["", "CPU-second", "second", *(f"x {peer}" for peer in peers)],
        [
            [
                name,
                f"{found['residues_per_cpu_s'].median:,.0f}",
                f"{found['residues_per_wall_s'].median:,.0f}",
                *(str(found["ratio_to"][peer]) for peer in peers),
            ]
            for name, found in summary.items()
        ],
    )
    print(f"largest difference between any two contenders: {difference:.1e}")
    write_result(
        NAME,
        arguments.results,
        machine=machine,
        settings=vars(arguments) | {"data": Path(arguments.data).name},
        rounds=[{name: dataclasses.asdict(work) for name, work in done.items()} for done in rounds],
        summary=summary | {"largest_difference": difference},
    )


if __name__ == "__main__":
    main()
