"""Do the states of a noun tell agent from patient, and does that hang on seeing the verb?

Arguments of English clauses (UD_English-EWT, CC BY-SA 4.0). AGENT: the nominal subject of an
active clause with an object, and the agent of a passive one (``obl:agent``). PATIENT: the object
of a clause with a subject, and the subject of a passive one. Nouns and proper nouns whose head is
a verb, in dev and test: 408 and 1,150.

A linear probe is fitted to the states of the arguments in intact sentences, the labels weighted
to balance, and then reads the held-out documents three times: intact, with the verb masked, and
with another random word masked. The control task gives every noun one random label.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.record import RESULTS, Stopwatch, describe_machine, print_table, write_result
from seqmlm.analysis.labels import LabelledText
from seqmlm.analysis.logistic import fit_logistic
from seqmlm.analysis.probe import balanced_accuracy, control_classes, split_documents
from seqmlm.analysis.run import AnalysedRun, open_run
from seqmlm.analysis.word_states import WordStates, word_states
from seqmlm.config import configure
from seqmlm.training.loop import train

FILES = ("en_ewt-ud-dev.conllu", "en_ewt-ud-test.conllu")
ROLES = ("AGENT", "PATIENT")
CONDITIONS = ("intact", "verb masked", "other word masked")


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of one verb.

    Args:
        words: of the sentence.
        word: index of the argument.
        verb: index of its head.
        role: AGENT or PATIENT.
        document: name of the document.
    """

    words: tuple[str, ...]
    word: int
    verb: int
    role: str
    document: str


def read_sentences(path: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield document and tokens (the ten columns of CoNLL-U) of each sentence."""
    document = ""
    tokens: list[list[str]] = []
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("# newdoc id = "):
            document = line.removeprefix("# newdoc id = ")
        elif not line and tokens:
            yield document, tokens
            tokens = []
        elif line and line.split("\t")[0].isdigit():
            tokens.append(line.split("\t"))


def arguments_of(document: str, tokens: Sequence[Sequence[str]]) -> Iterator[Argument]:
    """Yield the agents and patients of one sentence; see the top of this file."""
    words = tuple(token[1] for token in tokens)
    relations: dict[str, set[str]] = {}
    for token in tokens:
        relations.setdefault(token[6], set()).add(token[7])
    for index, token in enumerate(tokens):
        tag, head, relation = token[3], token[6], token[7]
        if tag not in ("NOUN", "PROPN") or head == "0" or tokens[int(head) - 1][3] != "VERB":
            continue
        siblings = relations[head]
        if relation == "obl:agent" or (relation == "nsubj" and "obj" in siblings):
            role = "AGENT"
        elif relation == "nsubj:pass" or (relation == "obj" and "nsubj" in siblings):
            role = "PATIENT"
        else:
            continue
        yield Argument(words, index, int(head) - 1, role, document)


def states_of(run: AnalysedRun, arguments: Sequence[Argument], seed: int) -> dict[str, WordStates]:
    """Return the states of the arguments, of nothing else, under each condition."""
    generator = np.random.default_rng(seed)
    others = []
    for item in arguments:
        candidates = [i for i in range(len(item.words)) if i not in (item.word, item.verb)]
        others.append(int(generator.choice(candidates)) if candidates else -1)
    masked = (None, [item.verb for item in arguments], others)
    texts = [
        LabelledText(
            item.words,
            tuple(item.role if i == item.word else "" for i in range(len(item.words))),
            item.document,
            item.document,
        )
        for item in arguments
    ]
    found = {}
    for condition, masked_words in zip(CONDITIONS, masked, strict=True):
        states = word_states(run, texts, masked_words=masked_words)
        kept = states.labels != ""
        found[condition] = WordStates(
            states=tuple(layer[torch.from_numpy(kept)] for layer in states.states),
            labels=states.labels[kept],
            types=states.types[kept],
            documents=states.documents[kept],
            without_token=states.without_token,
        )
    return found


def probe_once(
    states: Mapping[str, WordStates], layer: int, classes: npt.NDArray[np.int64], seed: int
) -> dict[str, float]:
    """Fit on intact training documents; balanced accuracy of each condition, less that of chance.

    The control task is scored on intact sentences.
    """
    intact = states["intact"]
    is_test = split_documents(intact.documents, 0.3, seed)
    control = control_classes(intact.types, classes, seed)
    scores = {}
    for name, target in (("", classes), ("control", control)):
        trained = target[~is_test]
        weights = torch.from_numpy(len(trained) / (2 * np.bincount(trained, minlength=2)))[trained]
        probe = fit_logistic(
            intact.states[layer][torch.from_numpy(~is_test)],
            torch.from_numpy(trained),
            2,
            weights=weights.float(),
        )
        for condition in CONDITIONS if not name else CONDITIONS[:1]:
            features = states[condition].states[layer][torch.from_numpy(is_test)]
            correct = probe.predict(features).numpy() == target[is_test]
            scores[name or condition] = balanced_accuracy(correct, target[is_test])
    return scores


def train_small_model(sentences: Sequence[str], folder: Path, steps: int) -> Path:
    """Train on the sentences themselves, without their labels."""
    path = folder / "ewt.txt"
    path.write_text("\n".join(sentences) + "\n", encoding="utf-8")
    settings = configure(
        domain="text",
        sources=[str(path)],
        overrides=[
            "domain.tokenizer=wordpiece",
            "domain.vocabulary_size=4000",
            "domain.lowercase=true",
            "domain.documents=line",
            "model.layers=4",
            "model.hidden_size=128",
            "optimizer.learning_rate=2e-3",
            "optimizer.warmup_steps=20",
            "data.max_length=128",
            f"training.steps={steps}",
            "training.tokens_per_batch=2048",
            f"training.evaluate_every={steps}",
            f"training.checkpoint_every={steps}",
            "training.seed=0",
        ],
    )
    result = train(settings, folder / "run", resume=False, allow_drift=[], console=None)
    return Path(result.folder)


def measure(
    run: AnalysedRun, arguments: Sequence[Argument], splits: int
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Return raw scores and the rows of the table: mean and deviation over the splits."""
    states = states_of(run, arguments, seed=0)
    classes = np.searchsorted(ROLES, states["intact"].labels)
    rounds, rows = [], []
    for layer in range(len(states["intact"].states)):
        found = [probe_once(states, layer, classes, seed) for seed in range(splits)]
        rounds += [{"layer": layer, "split": seed, **scores} for seed, scores in enumerate(found)]
        columns = [
            np.array([scores[name] for scores in found]) for name in (*CONDITIONS, "control")
        ]
        intact, verb, other, control = columns
        columns += [intact - verb, intact - other, intact - control]
        cells = [f"{column.mean():.3f} ± {column.std():.3f}" for column in columns]
        rows.append([str(layer), *cells])
    return rounds, rows


def main() -> None:
    """Train or load a model, probe it, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the .conllu files")
    parser.add_argument("--run", type=Path, help="a trained run of text; else one is trained")
    parser.add_argument("--steps", type=int, default=400, help="of the model trained here")
    parser.add_argument("--splits", type=int, default=5, help="of the documents into 70 and 30 %%")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    machine, watch = describe_machine(), Stopwatch()
    sentences = [item for name in FILES for item in read_sentences(options.data / name)]
    arguments = [item for sentence in sentences for item in arguments_of(*sentence)]
    counts = {role: sum(item.role == role for item in arguments) for role in ROLES}
    print(f"{counts}, majority {max(counts.values()) / len(arguments):.1%}")
    with tempfile.TemporaryDirectory() as folder:
        texts = [" ".join(token[1] for token in tokens) for _, tokens in sentences]
        path = options.run or train_small_model(texts, Path(folder), options.steps)
        run = open_run(path, device="cpu")
        trained = watch.elapsed()
        rounds, rows = measure(run, arguments, options.splits)
    header = ["layer", *CONDITIONS, "control task", "cost of verb", "cost of other", "selectivity"]
    print_table("balanced accuracy, mean ± deviation over the splits; chance is .5", header, rows)
    settings = {key: value for key, value in vars(options).items() if key != "results"}
    write_result(
        "analysis_agent_patient",
        options.results,
        machine=machine,
        settings={**settings, "counts": counts, "training_cpu_s": trained.cpu_s},
        rounds=rounds,
        summary={"header": header, "rows": rows},
    )


if __name__ == "__main__":
    main()
