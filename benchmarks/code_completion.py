"""Identifier completion by a model, by counts, and by their mixture: ``stdlib-ident-v1``.

3,000 hidden identifiers of files that nothing has seen: top-1, top-5, top-10 and MRR (ranks up to
1,000) with the code on the left alone (L) and on both sides (LR), after 0 to 3 typed characters,
with confidence intervals over files. A name that is not known counts as wrong.

``python -m benchmarks.code_completion --data FOLDER --split python-file --run RUN``. The run is
trained on the files ``learn`` that :mod:`benchmarks.code_splits` writes and fitted with ``seqmlm
code fit RUN --data .../learn --held-out .../held_out``; names are counted here, in all training
files. Without a run, the counts alone are told.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.code_splits import SPLITS, CodeSplit, Position, load_split
from benchmarks.record import RESULTS, Stopwatch, describe_machine, print_table, write_result
from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.evidence import FEATURES, Evidence
from seqmlm_domains.code.completion.hidden_names import HiddenName
from seqmlm_domains.code.completion.mixture import LEXICAL_TERMS, Mixture, Sides
from seqmlm_domains.code.completion.names import KnownNames
from seqmlm_domains.code.completion.project import Project, count_names, table_key
from seqmlm_domains.code.languages import language_of
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.source_tokens import SourceTokens

NAME = "code_completion"
SIDES: Mapping[Sides, str] = {"left": "L", "both": "LR"}
PREFIXES = range(4)
LAST_RANK = 1000
WRONG = np.iinfo(np.int64).max
AT_ONCE = 16
RESAMPLES = 1000

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    """One position with one side or both.

    Args:
        position: of the split.
        hidden: the same as a piece of its text; None if no piece is the name.
        is_unseen_left: whether the text before it lacks the name.
    """

    position: Position
    hidden: HiddenName | None
    is_unseen_left: bool


def main() -> None:
    """Run the benchmark and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="positions and archives")
    parser.add_argument("--split", choices=SPLITS, required=True)
    parser.add_argument("--run", type=Path, help="a fitted run; without it counts alone")
    parser.add_argument("--positions", type=int, help="a random part of them, for a quick look")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    machine = describe_machine()
    split = load_split(given.split, given.data)
    asked = _asked(split, given.positions)
    counted = Stopwatch()
    train = {
        SourceTokens.of(text, _language(name)): name for name, text in sorted(split.train.items())
    }
    tables = count_names(train, places=train)
    counted_in = counted.elapsed()
    completer = None
    if given.run is not None:
        fitted = Completer.load(given.run)
        project = Project(tables, fitted.project.mixtures, fitted.project.report)
        completer = Completer(fitted.model, project, trained_length=fitted.trained_length)
    ranks: dict[str, dict[str, npt.NDArray[np.int64]]] = {}
    cpu_ms: dict[str, dict[str, float]] = {}
    for sides, label in SIDES.items():
        found, seconds = _ranks(asked, sides, tables, completer)
        ranks[label] = found
        cpu_ms[label] = {
            f"p{share}": float(np.percentile(seconds, share)) * 1e3 for share in (50, 95)
        }
    summary = {label: _summary(asked, found) for label, found in ranks.items()}
    _print(given.split, summary, cpu_ms)
    write_result(
        f"{NAME}_{given.split}",
        given.results,
        machine=machine,
        settings={
            "split": given.split,
            "positions": len(asked),
            "train_files": len(split.train),
            "test_files": len(split.test),
            "names": {key: len(table.names) for key, table in tables.items()},
            **({} if completer is None else _describe(given.run, completer)),
        },
        rounds={"cpu_ms_per_position": cpu_ms, "counting": counted_in},
        summary=summary,
    )


def _describe(run: Path, completer: Completer) -> dict[str, Any]:
    mixtures = completer.project.mixtures
    return {
        "run": run,
        "weights": {key: mixture.to_json() for key, mixture in mixtures.items()},
        "fitting": completer.project.report,
        "parameters": sum(weight.numel() for weight in completer.model.parameters()),
    }


def _asked(split: CodeSplit, limit: int | None) -> list[Asked]:
    positions = list(split.positions)
    if limit is not None and limit < len(positions):
        chosen = np.random.default_rng(0).choice(len(positions), limit, replace=False)
        positions = [positions[number] for number in np.sort(chosen).tolist()]
    tokens = {name: SourceTokens.of(text, _language(name)) for name, text in split.test.items()}
    found = []
    for position in positions:
        own = tokens[position.file]
        piece = int(own.ends.searchsorted(position.end))
        is_name = own.word_kinds[own.numbers[piece]] == Kind.NAME
        if is_name and own.span(piece) == (position.start, position.end):
            is_unseen = own.numbers[piece] not in own.numbers[:piece]
            found.append(Asked(position, HiddenName(own, piece), is_unseen))
        else:
            print(f"counts as wrong, for it is no name of ours: {position}")
            found.append(Asked(position, None, is_unseen_left=True))
    return found


def _ranks(
    asked: Sequence[Asked],
    sides: Sides,
    tables: Mapping[str, ContextTable],
    completer: Completer | None,
) -> tuple[dict[str, npt.NDArray[np.int64]], list[float]]:
    """Rank of each hidden name by scorer and prefix, and CPU seconds of each position."""
    ranks: dict[str, npt.NDArray[np.int64]] = {}
    cpu_s: list[float] = []
    known: dict[int, KnownNames] = {}
    there = [(n, item.hidden) for n, item in enumerate(asked) if item.hidden is not None]
    for start in range(0, len(there), AT_ONCE):
        batch = there[start : start + AT_ONCE]
        began = time.process_time()
        places = []
        for _, hidden in batch:
            cursor = hidden.cursor(sides)
            table = tables[table_key(cursor.tokens.language)]
            if completer is not None:
                places.append(completer.evidence_at(cursor))
                continue
            if id(cursor.tokens) not in known:
                known[id(cursor.tokens)] = KnownNames.of(cursor.tokens, table)
            places.append(Evidence.at(cursor, known[id(cursor.tokens)]))
        if completer is None:
            terms = [place.features for place in places]
        else:
            terms = completer.terms(places)
        cpu_s += [(time.process_time() - began) / len(batch)] * len(batch)
        for (number, hidden), evidence, own in zip(batch, places, terms, strict=True):
            mixture = None
            if completer is not None:
                mixture = completer.project.mixture(evidence.cursor.tokens.language)
            for name, scores in _scorers(evidence, own, sides, mixture):
                for typed, rank in zip(PREFIXES, _rank(hidden, evidence, scores), strict=True):
                    column = ranks.setdefault(f"{name} {typed}", np.full(len(asked), WRONG))
                    column[number] = rank
    return ranks, cpu_s


def _scorers(
    evidence: Evidence, terms: FloatArray, sides: Sides, mixture: Mixture | None
) -> Iterator[tuple[str, FloatArray]]:
    row = {name: evidence.features[number] for number, name in enumerate(FEATURES)}
    cursor, names = evidence.cursor, evidence.names
    seen = names.of_words[np.concatenate([cursor.left, cursor.right])]
    counts = np.bincount(seen[seen >= 0], minlength=len(names)).astype(np.float64)
    nearest = np.minimum(row["distance left"], row["distance right"])
    yield "cache", counts - 1e-3 * nearest
    both = sides == "both"
    project = row["project left"] + both * (row["project right"] - row["frequency"])
    yield "n-gram, no cache", project
    yield "n-gram + cache", row["ngram left"] + both * (row["ngram right"] - row["frequency"])
    if mixture is not None:
        yield "model alone", mixture.model_alone[sides] @ terms
        yield "mixture without model", mixture.scores(terms[:LEXICAL_TERMS], sides)
        yield "mixture", mixture.scores(terms, sides)


def _rank(hidden: HiddenName, evidence: Evidence, scores: FloatArray) -> list[int]:
    """Rank of the hidden name after each number of typed characters; beyond all if unknown."""
    name = hidden.name
    gold = int(evidence.names.of_words[hidden.tokens.numbers[hidden.piece]])
    if not evidence.is_visible[gold]:
        return [WRONG] * len(PREFIXES)
    better = np.flatnonzero((scores > scores[gold]) & evidence.is_visible)
    above = [evidence.names[number] for number in better.tolist()]
    ranks = []
    for typed in PREFIXES:
        above = [other for other in above if other.startswith(name[:typed])]
        ranks.append(len(above) + 1)
    return ranks


def _summary(
    asked: Sequence[Asked], ranks: Mapping[str, npt.NDArray[np.int64]]
) -> dict[str, dict[str, Any]]:
    """Accuracies by scorer and prefix, in all and of parts of the positions."""
    files = np.unique([item.position.file for item in asked], return_inverse=True)[1]
    roles = np.array([item.position.role for item in asked])
    is_self = np.array([item.hidden is not None and item.hidden.name == "self" for item in asked])
    slices = {
        "all": np.ones(len(asked), np.bool_),
        "unseen on the left": np.array([item.is_unseen_left for item in asked]),
        "without self": ~is_self,
        **{f"role {role}": roles == role for role in sorted(set(roles.tolist()))},
    }
    found: dict[str, dict[str, Any]] = {}
    for name, own in ranks.items():
        shown = slices if name.endswith(" 0") else {"all": slices["all"]}
        found[name] = {label: _accuracy(own[chosen]) for label, chosen in shown.items()}
        found[name]["interval"] = _interval(own, files)
    return found


def _accuracy(ranks: npt.NDArray[np.int64]) -> dict[str, float]:
    reciprocal = np.where(ranks <= LAST_RANK, 1 / ranks, 0)
    tops = {f"top_{k}": float((ranks <= k).mean()) for k in (1, 5, 10)} if len(ranks) else {}
    return tops | {"mrr": float(reciprocal.mean()) if len(ranks) else 0.0, "n": len(ranks)}


def _interval(ranks: npt.NDArray[np.int64], files: npt.NDArray[np.int64]) -> dict[str, list[float]]:
    """95 % of the accuracies when files are drawn anew, with replacement."""
    generator = np.random.default_rng(0)
    num_files = int(files.max()) + 1
    sizes = np.bincount(files, minlength=num_files)
    drawn = generator.multinomial(num_files, np.full(num_files, 1 / num_files), RESAMPLES)
    values = {"top_1": ranks <= 1, "top_5": ranks <= 5}
    found = {}
    for name, hits in values.items():
        sums = np.bincount(files, weights=hits, minlength=num_files)
        shares = (drawn @ sums) / np.maximum(1, drawn @ sizes)
        found[name] = np.percentile(shares, [2.5, 97.5]).tolist()
    return found


def _print(split: str, summary: Mapping[str, Any], cpu_ms: Mapping[str, Any]) -> None:
    for label, found in summary.items():
        cells = []
        for scorer in dict.fromkeys(name.rpartition(" ")[0] for name in found):
            whole = found[f"{scorer} 0"]
            low, high = (100 * value for value in whole["interval"]["top_1"])
            typed = [_cell(found[f"{scorer} {count}"]["all"]) for count in (1, 2, 3)]
            unseen = _cell(whole["unseen on the left"])
            cells.append([scorer, _cell(whole["all"]), f"{low:.1f}-{high:.1f}", *typed, unseen])
        header = ("top-1/top-5/MRR", "none typed", "95 % of top-1", "1", "2", "3", "unseen left")
        number = found["n-gram + cache 0"]["all"]["n"]
        print_table(f"{split}, {label}, {number:,} positions", header, cells)
        print(f"CPU ms a position: {cpu_ms[label]['p50']:.1f}, p95 {cpu_ms[label]['p95']:.1f}")
        best = "mixture 0" if "mixture 0" in found else "n-gram + cache 0"
        roles = [
            [
                name.removeprefix("role "),
                str(of["n"]),
                _cell(found["n-gram + cache 0"][name]),
                _cell(of),
            ]
            for name, of in found[best].items()
            if name.startswith(("role", "without"))
        ]
        print_table("by role", ("role", "n", "n-gram + cache", best.removesuffix(" 0")), roles)


def _cell(accuracy: Mapping[str, float]) -> str:
    top_1, top_5 = (100 * accuracy.get(key, 0.0) for key in ("top_1", "top_5"))
    return f"{top_1:.1f} / {top_5:.1f} / {accuracy['mrr']:.3f}"


def _language(name: str) -> str:
    language = language_of(name)
    assert language is not None, "splits hold source files alone"
    return language.name


if __name__ == "__main__":
    main()
