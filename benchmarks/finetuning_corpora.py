"""Text without labels to pre-train on before ``benchmarks.finetuning``, and none that it judges.

``english.txt``: wikitext2's training text (its valid and test files, which no task asks about) and
the texts of the training files of banking77, wnut17 and restaurant8k. ``chinese.txt``: the contexts
of CMRC 2018 that its first fold trains on. A line is a passage.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.finetuning import cmrc2018_fold, contexts, read_intents


def english(data: Path) -> Iterator[str]:
    """Yield passages in English."""
    for name in ("valid", "test"):
        yield from (data / "wikitext2" / f"{name}.txt").read_text(encoding="utf-8").split("\n")
    yield from (text for text, _ in read_intents(data / "banking77" / "train.csv"))
    entities = (data / "wnut17" / "wnut17train.conll").read_text(encoding="utf-8")
    for sentence in re.split(r"\n\s*\n", entities):
        yield " ".join(line.split("\t")[0] for line in sentence.split("\n"))
    dialogues = json.loads((data / "restaurant8k" / "train_0.json").read_text(encoding="utf-8"))
    yield from (turn["userInput"]["text"] for turn in dialogues)


def chinese(data: Path) -> Iterator[str]:
    """Yield passages in Chinese."""
    for article in cmrc2018_fold(data, 0)["train"]:
        yield from contexts(article)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    for language in (english, chinese):
        lines = [" ".join(passage.split()) for passage in language(arguments.data)]
        text = "\n".join(line for line in lines if line) + "\n"
        path = arguments.output / f"{language.__name__}.txt"
        path.write_text(text, encoding="utf-8")
        print(f"{path}: {text.count(chr(10)):,} passages, {len(text):,} characters")


if __name__ == "__main__":
    main()
