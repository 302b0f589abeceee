"""Linear probes of frozen protein embeddings, beside the same encoder untrained and plain counts.

TAPE's secondary structure (Q3 on CB513) and remote homology (top-1 fold), SCOP class, and signal
peptides, from files as ProteinBERT distributes them: ``TASK.train.csv.gz``, ``TASK.valid.csv.gz``
and ``TASK.test.csv.gz``. Every predictor sees the same training proteins, drawn with a fixed seed;
the test files are used whole. Numbers of one subsample do not compare with those of another.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.record import (
    RESULTS,
    Stopwatch,
    describe_machine,
    print_table,
    write_result,
)
from seqmlm.analysis.pictures.style import to_png
from seqmlm_domains.protein.probes.picture import draw_probes
from seqmlm_domains.protein.probes.probe import ProbeResult, ProbeSettings, probe
from seqmlm_domains.protein.probes.task import read_task
from seqmlm_domains.protein.probes.task_files import find_tasks
from seqmlm_domains.protein.protein_model import load_protein_model

NAME = "protein_probes"
TASKS = ("secondary_structure", "remote_homology", "scop", "signalP_binary")


def rows_of(results: list[ProbeResult]) -> list[tuple[str, ...]]:
    """Return the printed table: one line a task and predictor."""
    rows: list[tuple[str, ...]] = []
    for result in results:
        for name, found in result.measures.items():
            behind = "" if found.behind is None else f"{found.behind.value:+.3f}"
            accuracy = found.accuracy
            rows.append(
                (f"{result.task}: {name}", f"{accuracy.value:.3f}",
                 f"{accuracy.low:.3f}-{accuracy.high:.3f}", behind,
                 f"{found.macro_f1.value:.3f}", f"{found.matthews.value:.3f}")
            )  # fmt: skip
    return rows


def main() -> int:
    """Probe, print, draw and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run or model folder of proteins")
    parser.add_argument("data", type=Path, help="folder with the tasks' files")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--max-train", type=int, default=20_000, help="training labels of a task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    machine = describe_machine()
    model = load_protein_model(arguments.run, device="cpu")
    settings = ProbeSettings(max_train=arguments.max_train, seed=arguments.seed)
    results, seconds = [], {}
    for name in arguments.tasks:
        watch = Stopwatch()
        (files,) = find_tasks(arguments.data / name)
        task = read_task(files, model.domain, seed=arguments.seed)
        results.append(probe(model, task, settings, on_progress=print))
        seconds[name] = watch.elapsed()
    print_table(
        f"linear probes, at most {settings.max_train:,} training labels a task",
        ("task: predictor", "accuracy", "95 % interval", "embeddings ahead by", "macro F1", "MCC"),
        rows_of(results),
    )
    encoder = model.encoder.config
    path = write_result(
        NAME,
        arguments.results,
        machine=machine,
        settings={
            "tasks": arguments.tasks, "max_train": settings.max_train, "seed": settings.seed,
            "kmer": settings.k, "layers": encoder.layers, "hidden_size": encoder.hidden_size,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "model_fingerprint": model.fingerprint(),
        },
        rounds={name: {"cpu_s": each.cpu_s, "wall_s": each.wall_s}
                for name, each in seconds.items()},
        summary=[result.to_json() for result in results],
    )  # fmt: skip
    path.with_suffix(".png").write_bytes(to_png(draw_probes(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
