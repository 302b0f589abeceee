"""Do attention maps find pairs of sites that change together? On made families, where it is known.

No structures are at hand, so this checks the method and not a protein: a family is drawn whose
sites are independent but for planted pairs, in which one residue decides the other through a
random permutation. A small model is trained on it, and the mean of the corrected attention maps
ranks all pairs; the best ones are compared with the planted pairs, beside the same encoder
untrained and beside chance.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.record import RESULTS, Stopwatch, describe_machine, print_table, write_result
from seqmlm.analysis.pictures.style import to_png
from seqmlm.config import configure
from seqmlm.model.model import Model
from seqmlm.training.loop import train
from seqmlm_domains.protein.contacts.picture import draw_contacts
from seqmlm_domains.protein.contacts.prediction import ContactMap, predict_contacts
from seqmlm_domains.protein.probes.features import with_random_weights
from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES

NAME = "protein_contacts"
LENGTH, PAIRS, MIN_SEPARATION = 40, 10, 6
SHARE_COUPLED = 0.9
"""How often the second residue of a pair follows from the first."""

MAPS_AVERAGED = 20

Pair = tuple[int, int]


def planted_pairs(generator: random.Random) -> list[Pair]:
    """Return disjoint pairs of sites, each at least six apart."""
    while True:
        sites = generator.sample(range(LENGTH), 2 * PAIRS)
        pairs = [tuple(sorted(sites[i : i + 2])) for i in range(0, 2 * PAIRS, 2)]
        if all(j - i >= MIN_SEPARATION for i, j in pairs):
            return [(i, j) for i, j in pairs]


def draw_family(pairs: list[Pair], count: int, generator: random.Random) -> list[str]:
    """Return members: every site has a few favourite residues, the second of a pair follows."""
    profiles = [generator.sample(STANDARD_RESIDUES, 8) for _ in range(LENGTH)]
    partners = []
    for i, j in pairs:
        partners.append(dict(zip(profiles[i], generator.sample(profiles[j], 8), strict=True)))
    members = []
    for _ in range(count):
        letters = [generator.choice(profile) for profile in profiles]
        for (i, j), partner in zip(pairs, partners, strict=True):
            if generator.random() < SHARE_COUPLED:
                letters[j] = partner[letters[i]]
        members.append("".join(letters))
    return members


def train_on(members: list[str], folder: Path, *, steps: int, seed: int) -> Model:
    """Return a small model of the family."""
    fasta = folder / "family.fasta"
    fasta.write_text("".join(f">m{i}\n{each}\n" for i, each in enumerate(members)))
    settings = configure(
        domain="protein",
        sources=[str(fasta)],
        files=[],
        overrides=[
            f"data.max_length={LENGTH + 2}",
            "data.validation_fraction=0.02",
            "model.layers=2",
            "model.hidden_size=64",
            "model.positions='learned'",
            f"model.max_positions={LENGTH + 2}",
            "optimizer.learning_rate=5e-3",
            f"training.steps={steps}",
            f"training.seed={seed}",
            "training.tokens_per_batch=4096",
            "training.device='cpu'",
            f"training.evaluate_every={steps}",
            f"training.checkpoint_every={steps}",
        ],
    )
    train(settings, folder / "run", resume=False, allow_drift=[], console=None)
    return Model.load(folder / "run")


def mean_map(model: Model, members: list[str]) -> ContactMap:
    """Return the mean map of some members: couplings are of the family, not of one member."""
    maps = [predict_contacts(model, "family", model.domain.parse(each)) for each in members]
    scores = np.mean([each.scores for each in maps], axis=0)
    return ContactMap("planted family", members[0], scores, maps[0].measure)


def precision(found: ContactMap, pairs: list[Pair]) -> float:
    """Return the share of the best pairs, as many as were planted, that were planted."""
    best = found.best_pairs(min_separation=MIN_SEPARATION, most=len(pairs))
    return sum((i, j) in pairs for i, j, _ in best) / len(pairs)


def main() -> int:
    """Draw, train, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    machine = describe_machine()
    rounds, drawn = [], []
    for seed in arguments.seeds:
        generator, watch = random.Random(seed), Stopwatch()
        pairs = planted_pairs(generator)
        members = draw_family(pairs, arguments.members, generator)
        with tempfile.TemporaryDirectory() as folder:
            model = train_on(members, Path(folder), steps=arguments.steps, seed=seed)
        trained = mean_map(model, members[:MAPS_AVERAGED])
        untrained = mean_map(with_random_weights(model, seed=seed), members[:MAPS_AVERAGED])
        drawn.append(trained)
        rounds.append(
            {
                "seed": seed,
                "planted": pairs,
                "trained": precision(trained, pairs),
                "one_member": precision(mean_map(model, members[:1]), pairs),
                "random_weights": precision(untrained, pairs),
                "cpu_s": watch.elapsed().cpu_s,
            }
        )
    possible = sum(LENGTH - separation for separation in range(MIN_SEPARATION, LENGTH))
    summary = {"by_chance": PAIRS / possible}
    for name in ("trained", "one_member", "random_weights"):
        summary[name] = float(np.mean([float(each[name]) for each in rounds]))
    print_table(
        f"precision of the best {PAIRS} of {possible} pairs, mean of {len(rounds)} families",
        ("ranked by", "precision"),
        [
            (f"mean map of {MAPS_AVERAGED} members", f"{summary['trained']:.3f}"),
            ("map of one member", f"{summary['one_member']:.3f}"),
            ("the same, random weights", f"{summary['random_weights']:.3f}"),
            ("chance", f"{summary['by_chance']:.3f}"),
        ],
    )
    settings = vars(arguments) | {"length": LENGTH, "pairs": PAIRS, "coupled": SHARE_COUPLED}
    path = write_result(
        NAME, arguments.results, machine=machine, settings=settings, rounds=rounds, summary=summary
    )
    path.with_suffix(".png").write_bytes(to_png(draw_contacts(drawn)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
