"""Do declared types help to predict Java's identifiers? Gold type, predicted type and no type.

Three runs on the same files differ in one setting: from which type ``typed_mlm`` predicts the
tokens of hidden identifiers. Held out are whole packages of gson and commons-lang, tests with what
they test. Each trained model is then judged on the same hidden identifiers, with every source of
types that it can use: 15 % of each passage, drawn anew as often as ``--draws`` says. An identifier
counts as right if all its tokens are the most probable ones.
"""

from __future__ import annotations

import argparse
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file

import seqmlm
from benchmarks.record import RESULTS, Stopwatch, describe_machine, print_table, write_result
from seqmlm.config import RunConfig, configure
from seqmlm.data.packing import pack
from seqmlm.encoding import Encoding
from seqmlm.model.model import Model
from seqmlm.model.model_folder import OBJECTIVES_FILE
from seqmlm.objectives.rows import Row
from seqmlm.objectives.typed_mlm import TypedMaskedLanguageModelling, TypeSource, in_order
from seqmlm.randomness import Purpose, stream
from seqmlm.training.distributed import processes
from seqmlm.training.workload import Workload, prepare_workload

NAME = "code_type_ablation"

SOURCES = {
    "gson": (
        "gson/src/main/java/com/google/gson",
        "gson/src/test/java/com/google/gson",
    ),
    "commons-lang": (
        "src/main/java/org/apache/commons/lang3",
        "src/test/java/org/apache/commons/lang3",
    ),
}
"""Archive to the folders whose sub-folders are the packages that are held out as a whole."""

WHOLE_NAMES: dict[str, Any] = {
    "per": "unit",
    "selector": {"name": "unit"},
    "corruptor": {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0},
}
USABLE: dict[TypeSource, tuple[TypeSource, ...]] = {
    "gold": ("gold", "none"),
    "predicted": ("predicted", "gold", "none"),
    "none": ("none",),
}
"""How a model was trained to the sources of types that it is judged with."""

RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Predictions:
    """What became of each hidden identifier.

    Args:
        loss: float64 ``[identifiers]``, nats, summed over its tokens.
        tokens: int64 ``[identifiers]``.
        is_right: bool ``[identifiers]``, whether every token was the most probable one.
        is_typed: bool ``[identifiers]``, whether the source declares its type.
        type_is_right: bool ``[identifiers]``, whether it has a type and that was the first guess.
        file: int64 ``[identifiers]``, the number of the file that it stands in.
    """

    loss: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]
    is_right: npt.NDArray[np.bool_]
    is_typed: npt.NDArray[np.bool_]
    type_is_right: npt.NDArray[np.bool_]
    file: npt.NDArray[np.int64]


def configuration(
    folders: Sequence[str], types: TypeSource, seed: int, arguments: argparse.Namespace
) -> RunConfig:
    """Return one run; contenders differ in ``types`` alone."""
    return configure(
        domain="code",
        sources=list(folders),
        overrides=[
            "domain.language='java'",
            "domain.split_by='folder'",
            "data.validation_fraction=0.15",
            f"training.steps={arguments.steps}",
            f"training.tokens_per_batch={arguments.tokens_per_batch}",
            f"training.evaluate_every={arguments.steps}",
            f"training.checkpoint_every={arguments.steps}",
            f"training.log_every={max(1, arguments.steps // 20)}",
            f"training.seed={seed}",
            "training.device='cpu'",
            "objectives.0.name='typed_mlm'",
            f"objectives.0.types='{types}'",
        ],
    )


def train_contender(config: RunConfig, types: TypeSource, folder: Path) -> tuple[Model, float]:
    """Perform one run; returns the model with its type stage, and CPU minutes."""
    watch = Stopwatch()
    seqmlm.train(config, folder)
    cpu_minutes = watch.elapsed().cpu_s / 60
    model = Model.load(folder)
    weights = folder / "model" / OBJECTIVES_FILE
    if weights.is_file():
        model.add_objective_modules([objective_for(model, types)])
        model.load_state_dict(load_file(weights), strict=False)
    return model.eval(), cpu_minutes


def objective_for(model: Model, types: TypeSource) -> TypedMaskedLanguageModelling:
    """Return the objective as it is judged: 15 % of the identifiers, nothing left to chance."""
    policy = WHOLE_NAMES | {"rate": 0.15}
    return TypedMaskedLanguageModelling(
        model.domain, policy, types, teacher_forcing=0.0, type_dropout=0.0
    )


def judge(model: Model, work: Workload, types: TypeSource, draws: int) -> Predictions:
    """Predict the same hidden identifiers of every held-out passage from one source of types."""
    objective = objective_for(model, types)
    files = model.domain.documents(work.store)
    found: list[Predictions] = []
    with model.inference():
        for record in work.split.validation.tolist():
            encoding = model.domain.assemble(
                work.store[record], max_length=work.config.data.max_length
            )
            for draw in range(draws):
                (row,) = objective.rows(encoding, stream(draw, Purpose.EVALUATION, sample=record))
                if len(row.targets[objective.name].positions):
                    found.append(predict(model, objective, row, encoding, int(files[record])))
    return Predictions(
        *(
            np.concatenate([getattr(each, field.name) for each in found])
            for field in fields(Predictions)
        )
    )


def predict(
    model: Model, objective: TypedMaskedLanguageModelling, row: Row, encoding: Encoding, file: int
) -> Predictions:
    """Predict the hidden identifiers of one passage."""
    batch = pack([row])
    hidden = model(batch)
    states = objective.token_states(model, hidden, batch)
    targets = in_order(batch.targets_for(objective.name))
    losses = model.token_losses(states, targets)
    _, ids = model.token_head.top_k(
        states, targets.rows, 1, allowed=targets.allowed, backend=model.encoder.backend
    )
    positions = row.targets[objective.name].positions
    units, unit = np.unique(encoding.unit_ids[positions], return_inverse=True)
    assert encoding.declared_types is not None, "code declares types"
    declared = encoding.declared_types[units]
    guessed = np.zeros(len(units), np.int64)
    if objective.build_module(model.encoder.config) is not None:
        guessed = objective.type_scores(model, hidden, batch).argmax(dim=1).numpy()
    return Predictions(
        loss=np.bincount(unit, weights=losses.double().numpy()).astype(np.float64),
        tokens=np.bincount(unit),
        is_right=np.bincount(unit, weights=(ids[:, 0] != targets.labels).numpy()) == 0,
        is_typed=declared > 0,
        type_is_right=(declared > 0) & (guessed == declared),
        file=np.full(len(units), file),
    )


def summarise(found: Predictions, baseline: Predictions) -> dict[str, Any]:
    """Return loss and accuracy, of all identifiers and of those with a declared type."""
    typed = found.is_typed
    summary: dict[str, Any] = {
        "identifiers": len(typed),
        "typed": int(typed.sum()),
        "type_accuracy": float(found.type_is_right[typed].mean()),
    }
    for name, chosen in (("all", np.ones_like(typed)), ("typed", typed)):
        gain = found.is_right[chosen].astype(float) - baseline.is_right[chosen]
        low, high = interval(gain, found.file[chosen])
        summary[name] = {
            "nats_per_token": float(found.loss[chosen].sum() / found.tokens[chosen].sum()),
            "top_1": float(found.is_right[chosen].mean()),
            "gain_over_no_type": float(gain.mean()),
            "gain_95_percent": [low, high],
        }
    return summary


def interval(values: npt.NDArray[np.float64], file: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean, resampling whole files."""
    _, group = np.unique(file, return_inverse=True)
    sums, counts = np.bincount(group, weights=values), np.bincount(group)
    drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def show(summary: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table of one seed."""
    rows = []
    for name, found in summary.items():
        low, high = found["typed"]["gain_95_percent"]
        rows.append(
            [
                name,
                f"{found['type_accuracy']:.1%}",
                *(f"{found[which]['nats_per_token']:.3f}" for which in ("all", "typed")),
                *(f"{found[which]['top_1']:.1%}" for which in ("all", "typed")),
                f"{found['typed']['gain_over_no_type']:+.1%} ({low:+.1%} to {high:+.1%})",
            ]
        )
    header = ["trained, judged with", "type right", "nats", "nats, typed", "top-1", "top-1, typed"]
    print_table("hidden identifiers", [*header, "gain, typed (95 %)"], rows)


def run_seed(
    folders: Sequence[str], seed: int, arguments: argparse.Namespace, runs: Path
) -> tuple[dict[str, Any], dict[str, float]]:
    """Train and judge the contenders of one seed; returns the summary and CPU minutes."""
    found: dict[str, Predictions] = {}
    minutes: dict[str, float] = {}
    for trained, sources in USABLE.items():
        config = configuration(folders, trained, seed, arguments)
        model, minutes[trained] = train_contender(config, trained, runs / f"{trained}-{seed}")
        with processes("cpu") as group:
            work = prepare_workload(config, group)
        for types in sources:
            found[f"{trained}, {types}"] = judge(model, work, types, arguments.draws)
    baseline = found["none, none"]
    return {name: summarise(each, baseline) for name, each in found.items()}, minutes


def extracted(archives: Path, folder: Path) -> list[str]:
    """Unpack the archives and return the folders that hold packages."""
    found = []
    for name, inside in SOURCES.items():
        with tarfile.open(archives / f"{name}.tar.xz") as archive:
            archive.extractall(folder / name, filter="data")
        found += [str(folder / name / path) for path in inside]
    return found


def main() -> None:
    """Run all seeds and write down what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the two .tar.xz files")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--tokens-per-batch", type=int, default=4096)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--draws", type=int, default=10, help="of the hidden identifiers")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    machine = describe_machine()
    summaries: dict[str, Any] = {}
    minutes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="seqmlm-type-ablation-") as name:
        runs = Path(name)
        os.environ["SEQMLM_CACHE"] = str(runs / "cache")
        folders = extracted(arguments.data, runs / "sources")
        for seed in arguments.seeds:
            summaries[str(seed)], minutes[str(seed)] = run_seed(folders, seed, arguments, runs)
            show(summaries[str(seed)])
    write_result(
        NAME, arguments.results, machine=machine, summary=summaries,
        settings=vars(arguments) | {"sources": SOURCES}, rounds={"cpu_minutes": minutes},
    )  # fmt: skip


if __name__ == "__main__":
    main()
