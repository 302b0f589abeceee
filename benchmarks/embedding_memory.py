"""Memory of inference: of one very long protein, and of embedding more and more records.

Each measurement runs in a process of its own and gives MiB of the resident peak above the loaded
model. Models have random weights: ESM-2 8M's shape for the long protein, one narrow layer for the
many records, where nothing but their number should matter.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.record import (
    RESULTS,
    Stopwatch,
    describe_machine,
    peak_memory_mib,
    print_table,
    reset_peak_memory,
    write_result,
)
from seqmlm.domain import build_domain
from seqmlm.inference.embedding_job import EmbeddingOptions, write_embeddings
from seqmlm.inference.likelihood import score_encoding
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.rows import TrainedObjective
from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES, VOCABULARY
from seqmlm_domains.protein.variants.scorer import VariantScorer

NAME = "embedding_memory"
ESM2_8M = {"layers": 6, "hidden_size": 320, "heads": 20}
NARROW = {"layers": 1, "hidden_size": 32, "heads": 2}
SCORED_RESIDUES = 2
"""Of the long protein: each is one pass, and memory does not depend on how many there are."""


def build_model(*, layers: int, hidden_size: int, heads: int) -> Model:
    """Return an untrained model with the options of ESM-2."""
    torch.manual_seed(0)
    config = EncoderConfig(
        vocabulary_size=len(VOCABULARY),
        mask_token=VOCABULARY.special.mask,
        layers=layers,
        hidden_size=hidden_size,
        heads=heads,
        activation="gelu",
        normalisation="layer",
        biases=True,
        token_dropout=True,
        mask_token_rate=0.12,
    )
    domain = build_domain({"name": "protein"})
    objectives = [TrainedObjective("mlm", None, None)]
    return Model(domain, config, head_transform=True, trained_objectives=objectives).eval()


def random_protein(length: int) -> str:
    """Return letters of the 20 standard residues."""
    return "".join(random.choices(STANDARD_RESIDUES, k=length))


def embed_long(model: Model, residues: int) -> None:
    """Embed one protein."""
    model.embed([random_protein(residues)])


def score_long(model: Model, residues: int) -> None:
    """Score a few of its residues by pseudo-likelihood, each given all others."""
    encoding = model.domain.parse(random_protein(residues))
    unit_ids = np.full_like(encoding.unit_ids, -1)
    unit_ids[1 : 1 + SCORED_RESIDUES] = range(SCORED_RESIDUES)
    score_encoding(model, replace(encoding, unit_ids=unit_ids), tokens_per_batch=8192)


def score_variants_long(model: Model, residues: int) -> None:
    """Score variants of it by masked marginals, the whole protein in one window."""
    protein = random_protein(residues)
    changed = [letter for letter in "AG" if letter != protein[0]]
    variants = [f"{protein[0]}1{letter}" for letter in changed]
    VariantScorer(model, max_length=residues + 2).score(protein, variants)


def embed_many(model: Model, records: int) -> None:
    """Embed a file of short proteins into shards."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "proteins.fasta"
        with source.open("w") as file:
            for number in range(records):
                file.write(f">protein {number}\n{random_protein(random.randint(8, 24))}\n")
        write_embeddings(
            model,
            [str(source)],
            Path(folder) / "embeddings",
            options=EmbeddingOptions(),
            tokens_per_batch=8192,
        )


TASKS: dict[str, Callable[[Model, int], None]] = {
    "embed one": embed_long,
    "pseudo-likelihood": score_long,
    "variants, one window": score_variants_long,
    "embed many": embed_many,
}


def report(task: str, size: int) -> None:
    """Do one task and print what it took as JSON; runs in the child."""
    random.seed(0)
    model = build_model(**(NARROW if task == "embed many" else ESM2_8M))
    TASKS[task](model, 8)  # libraries set themselves up
    reset_peak_memory()
    before_mib, watch = peak_memory_mib(), Stopwatch()
    TASKS[task](model, size)
    elapsed = watch.elapsed()
    print(json.dumps({
        "before_mib": before_mib,
        "above_mib": peak_memory_mib() - before_mib,
        "cpu_s": elapsed.cpu_s,
    }))  # fmt: skip


def measure(task: str, size: int) -> dict[str, Any]:
    """Do one task in a child process."""
    command = [sys.executable, __file__, "--task", task, "--size", str(size)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return {"task": task, "size": size, **json.loads(finished.stdout)}


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--residues", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--records", type=int, nargs="*", default=[50_000, 200_000])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        report(arguments.task, arguments.size)
        return
    machine = describe_machine()
    long = [task for task in TASKS if task != "embed many"]
    found = [measure(task, size) for task in long for size in arguments.residues]
    found += [measure("embed many", size) for size in arguments.records]
    print_table(
        "resident memory, MiB",
        ["", "residues or records", "model loaded", "peak above it", "CPU seconds"],
        [
            [
                row["task"],
                f"{row['size']:,}",
                *(f"{row[key]:,.0f}" for key in ("before_mib", "above_mib", "cpu_s")),
            ]
            for row in found
        ],
    )
    write_result(
        NAME,
        arguments.results,
        machine=machine,
        settings={"residues": arguments.residues, "records": arguments.records},
        rounds=found,
        summary={f"{row['task']} {row['size']}": row["above_mib"] for row in found},
    )


if __name__ == "__main__":
    main()
