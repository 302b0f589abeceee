"""TEM-1's Spearman correlation over a training run on its family, against the bars.

Trains ``configs/tem1_family.toml`` on the bundled beta-lactamases below 95 % identity to TEM-1,
keeps every checkpoint, scores the 4,996 single mutants with each, and draws the curve. Scores of
ESM-2 are those published for this assay; the other bars are computed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from safetensors.torch import load_file

from benchmarks.record import RESULTS, describe_machine, print_table, write_result
from seqmlm.analysis.pictures.style import BLUE, GREEN, GREY, RED, new_figure, plain, to_png
from seqmlm.config import configure
from seqmlm.finetuning.statistics import correlation, ranks
from seqmlm.model.model import Model
from seqmlm.training.loop import train
from seqmlm_domains.protein.domain import SAMPLES
from seqmlm_domains.protein.homologs import write_remote_homologs
from seqmlm_domains.protein.variants.comparison import (
    MUTATION_COUNT,
    SITE_INDEPENDENT,
    predictions,
)
from seqmlm_domains.protein.variants.mutation_table import MutationTable, read_mutations
from seqmlm_domains.protein.variants.scorer import Method, VariantScorer
from seqmlm_domains.protein.variants.site_independent import (
    SiteIndependentModel,
    fit_site_independent,
)
from seqmlm_domains.protein.variants.wild_type import read_wild_type

NAME = "family_training"
CONFIG = Path(__file__).parents[1] / "configs" / "tem1_family.toml"
PUBLISHED = {"ESM-2 8M": 0.399, "ESM-2 35M": 0.557, "ESM-2 650M": 0.731}
"""Of ProteinGym's zero-shot table for BLAT_ECOLX_Stiffler_2015."""

METHODS: tuple[Method, ...] = ("random-mask", "masked-marginal")


@dataclass(frozen=True)
class Assay:
    """What models are compared on.

    Args:
        wild_type: one-letter codes.
        table: variants with measured values.
        family: the site-independent model of the training data.
    """

    wild_type: str
    table: MutationTable
    family: SiteIndependentModel

    def spearman(self, model: Model) -> dict[str, float]:
        """Return the correlation of each method, alone and with the site-independent model."""
        assert self.table.measured is not None
        measured = ranks(np.array(self.table.measured))
        found: dict[str, float] = {}
        for method in METHODS:
            scores = VariantScorer(model).score(self.wild_type, self.table.variants, method=method)
            for name, values in predictions(scores, scores.items, self.family).items():
                found[name] = correlation(measured, ranks(values))
        del found[MUTATION_COUNT]  # all are single mutants
        return found


def prepare_assay(homologs: Path, max_identity: float) -> Assay:
    """Write the homologs to train on, and fit the bar on the same."""
    wild_type = read_wild_type(SAMPLES / "BLAT_ECOLX.fasta").content
    family = SAMPLES / "blactamase_family.fasta.gz"
    write_remote_homologs(wild_type, [str(family)], homologs, max_identity=max_identity)
    table = read_mutations(SAMPLES / "BLAT_ECOLX_Stiffler2015_singles.csv.gz", measured="DMS_score")
    return Assay(wild_type, table, fit_site_independent(wild_type, [str(homologs)]))


def measure(run: Path, assay: Assay) -> list[dict[str, Any]]:
    """Return step, training seconds, validation loss and correlations of every checkpoint."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validation = {line["step"]: line for line in lines if line["split"] == "validation"}
    model = Model.load(run)
    found = []
    for checkpoint in sorted((run / "checkpoints").glob("step-*")):
        step = int(checkpoint.name.removeprefix("step-"))
        model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        line = validation[step]
        found.append(
            {"step": step, "seconds": line["seconds"], "loss": line["loss"],
             "spearman": assay.spearman(model)}
        )  # fmt: skip
        print(f"step {step}: {line['loss']:.3f} nats, {found[-1]['spearman']}", flush=True)
    return found


def draw(points: list[dict[str, Any]]) -> Figure:
    """Draw the curves over the steps of training, bars as lines."""
    figure = new_figure(8, 4.8)
    axes = plain(figure.add_subplot())
    steps = [point["step"] for point in points]
    mixed = f"random-mask + {SITE_INDEPENDENT}"
    for name, colour in (("random-mask", RED), ("masked-marginal", BLUE), (mixed, GREEN)):
        values = [point["spearman"][name] for point in points]
        axes.plot(steps, values, color=colour, marker="o", markersize=4, label=name)
    computed = {name: points[-1]["spearman"][name] for name in ("BLOSUM62", SITE_INDEPENDENT)}
    for name, value in (computed | PUBLISHED).items():
        axes.axhline(value, color=GREY, linestyle="--", linewidth=0.9)
        # Right of the curves; two of the bars lie so close that one name goes below its line.
        axes.annotate(
            f" {name} {value:.3f}", (1, value), xycoords=("axes fraction", "data"), fontsize=8,
            color=GREY, ha="left", va="top" if name == "ESM-2 35M" else "bottom",
        )  # fmt: skip
    axes.set(xlabel="step", ylabel="Spearman, 4,996 mutants of TEM-1")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def main() -> int:
    """Train, measure, draw and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, help="else as the configuration says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-identity", type=float, default=0.95)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        homologs, run = Path(folder, "homologs.fasta"), Path(folder, "run")
        assay = prepare_assay(homologs, arguments.max_identity)
        overrides = [f"training.seed={arguments.seed}", "training.keep_checkpoints=1000"]
        if arguments.steps is not None:
            overrides.append(f"training.steps={arguments.steps}")
        config = configure(
            domain=None, files=[CONFIG], sources=[str(homologs)], overrides=overrides
        )
        train(config, run)
        points = measure(run, assay)
    names = list(points[-1]["spearman"])
    print_table(
        "Spearman's correlation over training",
        ("predictor", *(f"step {point['step']}" for point in points)),
        [(name, *(f"{point['spearman'][name]:.3f}" for point in points)) for name in names],
    )
    path = write_result(
        NAME, arguments.results, machine=machine, settings=vars(arguments),
        rounds=points, summary={"last": points[-1], "published": PUBLISHED},
    )  # fmt: skip
    path.with_suffix(".png").write_bytes(to_png(draw(points)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
