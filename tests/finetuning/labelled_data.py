"""Labelled data that a tiny model can learn in a second."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from seqmlm.finetuning.settings import FineTuningConfig, configure_finetuning

LETTERS = "abcdefgh"
FAST = (
    "training.epochs=8",
    "training.tokens_per_batch=256",
    "training.device=cpu",
    "training.dropout=0",
    "optimizer.learning_rate=0.01",
)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_words(chooser: random.Random, count: int, letters: str = LETTERS) -> list[str]:
    return ["".join(chooser.choices(letters, k=chooser.randint(2, 5))) for _ in range(count)]


def write_intents(path: Path, count: int = 80, seed: int = 0) -> Path:
    """Whoever says x means yes, whoever says y means no."""
    chooser = random.Random(seed)
    rows = []
    for index in range(count):
        words = make_words(chooser, 3)
        words.insert(chooser.randint(0, 3), "xy"[index % 2] * 2)
        rows.append({"text": " ".join(words), "label": ["yes", "no"][index % 2]})
    return write_csv(path, rows)


def write_entities(path: Path, count: int = 60, seed: int = 0) -> Path:
    """Names begin with x and go on with z."""
    chooser = random.Random(seed)
    with path.open("w") as file:
        for _ in range(count):
            for word in make_words(chooser, 3):
                file.write(f"{word}\tO\n")
            file.write("xab\tB-name\nzab\tI-name\n")
            file.write(f"{make_words(chooser, 1)[0]}\tO\n\n")
    return path


def write_questions(path: Path, count: int = 40, seed: int = 0) -> Path:
    """The answer is the only x in the context; some contexts are longer than a window."""
    chooser = random.Random(seed)
    articles = []
    for index in range(count):
        words = make_words(chooser, chooser.choice([4, 20]))
        words.insert(chooser.randint(0, len(words)), "x")
        context = " ".join(words)
        answer = {"text": "x", "answer_start": context.index("x")}
        question = {"id": f"q{index}", "question": "x?", "answers": [answer]}
        paragraph = {"context": context, "qas": [question]}
        articles.append({"title": f"t{index}", "paragraphs": [paragraph]})
    path.write_text(json.dumps({"data": articles}))
    return path


def write_values(path: Path, count: int = 80, seed: int = 0) -> Path:
    """The value is 100 and ten times the share of x."""
    chooser = random.Random(seed)
    rows = []
    for _ in range(count):
        text = "".join(chooser.choices("xab", k=10))
        rows.append({"text": text, "value": 100 + text.count("x")})
    return write_csv(path, rows)


def write_pairs(path: Path, count: int = 80, seed: int = 0) -> Path:
    """The second text decides."""
    chooser = random.Random(seed)
    rows = []
    for index in range(count):
        rows.append(
            {
                "first": " ".join(make_words(chooser, 2)),
                "second": "xy"[index % 2] * 3,
                "label": ["same", "other"][index % 2],
            }
        )
    return write_csv(path, rows)


def write_candidates(path: Path, count: int = 30, seed: int = 0) -> Path:
    """The relevant candidate has an x; the lines of a query are spread over the file."""
    chooser = random.Random(seed)
    rows = []
    for index in range(count):
        relevant = chooser.randrange(4)
        for number in range(4):
            text = make_words(chooser, 1)[0]
            rows.append(
                {
                    "query": f"{LETTERS[index % 8]}{index}",
                    "candidate": f"x{text}x" if number == relevant else text,
                    "relevance": int(number == relevant),
                }
            )
    chooser.shuffle(rows)
    return write_csv(path, rows)


def configuration(run: Path, task: str, train: Path, *overrides: str) -> FineTuningConfig:
    settings = [*FAST, "data.validation_fraction=0.25", *overrides]
    return configure_finetuning(run, task=task, data={"train": str(train)}, overrides=settings)
