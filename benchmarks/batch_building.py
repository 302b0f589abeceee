"""Tokens per CPU-second of building training batches: seqmlm against Hugging Face's collators.

Each round takes the same random passages through all contenders, one after the other in one
process, so that a busy machine slows all of them alike; the ratios are those of one round. A batch
is finished when its tensors are: packed here, padded there. Padding does not count as tokens.

Ours includes reading the store, drawing the window, finding the words and the targets. The peer
gets lists of ids, special-token masks and offsets that were made before the clock started, in a
random order and sorted by length, which saves it padding. The offsets describe our words, so that
both mask the same units; they are padded before the clock, because the collator pads everything
but them. It replaces whole words by the mask token alone, because it can do nothing else.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from benchmarks.record import (
    RESULTS,
    Spread,
    Stopwatch,
    describe_machine,
    print_table,
    write_result,
)
from seqmlm.data.prepare import open_store
from seqmlm.data.samples import SampleBuilder, TrainingSequences
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain, build_domain
from seqmlm.encoding import Encoding
from seqmlm.registry import OBJECTIVES

NAME = "batch_building"
PEER = "HF"

Records = npt.NDArray[np.int64]


def policy(selector: str, **options: Any) -> dict[str, Any]:
    """Settings of masked language modelling with one selector."""
    return {"name": "mlm", "policy": {"rate": 0.15, "selector": {"name": selector, **options}}}


CONTENDERS: dict[str, list[dict[str, Any]]] = {
    "mlm, token": [policy("token")],
    "mlm, whole word": [policy("unit")],
    "mlm, n-gram": [policy("ngram")],
    "mlm, span": [policy("span")],
    "mlm, block": [policy("block")],
    "mlm, surprisal": [policy("scored")],
    "pmlm": [{"name": "pmlm"}],
    "clm": [{"name": "clm"}],
    "prefix_lm": [{"name": "prefix_lm"}],
    "rtd": [{"name": "rtd"}],
    "nsp": [{"name": "nsp"}],
    "sop": [{"name": "sop"}],
    "ncp": [{"name": "ncp"}],
}
"""Our contenders: the objectives of each."""

COMPARED = {
    "mlm, token": "HF token, by length",
    "mlm, whole word": "HF whole word, by length",
}
"""Which of the peer's contenders does the same; all others of ours are held to the first."""


@dataclass(frozen=True, slots=True)
class Built:
    """What one contender did in one round.

    Args:
        tokens: without padding.
        positions: with padding.
        batches: number of batches.
        cpu_s: CPU seconds.
    """

    tokens: int
    positions: int
    batches: int
    cpu_s: float

    @property
    def tokens_per_cpu_s(self) -> float:
        """Non-padding tokens per CPU second."""
        return self.tokens / self.cpu_s


Contender = Callable[[Records, int], Built]
"""Builds batches of records, given the number of the round."""


def build_ours(
    builder: SampleBuilder, records: Records, round_number: int, *, rows_per_batch: int
) -> Built:
    """Build packed batches in the order of the records."""
    watch, tokens, batches = Stopwatch(), 0, 0
    for start in range(0, len(records), rows_per_batch):
        batch = builder.batch(round_number, records[start : start + rows_per_batch])
        tokens += batch.num_tokens
        batches += 1
    return Built(tokens, tokens, batches, watch.elapsed().cpu_s)


def build_theirs(
    collator: DataCollatorForLanguageModeling,
    examples: Sequence[dict[str, Any]],
    records: Records,
    round_number: int,
    *,
    rows_per_batch: int,
    by_length: bool,
) -> Built:
    """Build padded batches; with ``by_length`` of rows of similar length."""
    chosen = [examples[record] for record in records.tolist()]
    if by_length:
        chosen.sort(key=lambda example: len(example["input_ids"]))
    tokens = sum(len(example["input_ids"]) for example in chosen)
    batches = [
        with_padded_offsets(chosen[start : start + rows_per_batch])
        for start in range(0, len(chosen), rows_per_batch)
    ]
    torch.manual_seed(round_number)
    watch, positions = Stopwatch(), 0
    for batch in batches:
        positions += collator(batch)["input_ids"].numel()
    return Built(tokens, positions, len(batches), watch.elapsed().cpu_s)


def with_padded_offsets(examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return examples whose offsets, if they have any, are as many as those of the longest."""
    longest = max(len(example["input_ids"]) for example in examples)
    return [
        example
        if "offset_mapping" not in example
        else example
        | {
            "offset_mapping": example["offset_mapping"]
            + [[0, 0]] * (longest - len(example["input_ids"]))
        }
        for example in examples
    ]


def peer_tokenizer(domain: Domain) -> PreTrainedTokenizerFast:
    """Our tokenizer as the peer's class, for its special tokens and its padding."""
    tokens, special = domain.vocabulary.tokens, domain.vocabulary.special
    with tempfile.TemporaryDirectory() as folder:
        domain.save_tokenizer(Path(folder))
        return PreTrainedTokenizerFast(
            tokenizer_file=str(Path(folder) / "tokenizer.json"),
            pad_token=tokens[special.padding],
            unk_token=tokens[special.unknown],
            cls_token=tokens[special.start],
            sep_token=tokens[special.end],
            mask_token=tokens[special.mask],
        )


def peer_example(encoding: Encoding) -> dict[str, Any]:
    """What a tokenised data set of the peer holds of one row."""
    units = encoding.unit_ids
    # Tokens that touch are one word to the peer; a gap of one parts the words.
    begins = np.diff(units, prepend=-1) != 0
    starts = np.arange(len(units)) + np.cumsum(begins)
    return {
        "input_ids": encoding.ids.tolist(),
        "special_tokens_mask": (units < 0).astype(int).tolist(),
        "offset_mapping": np.stack([starts, starts + 1], axis=1).tolist(),
    }


def peer_contenders(
    domain: Domain,
    store: TokenStore,
    records: Records,
    arguments: argparse.Namespace,
    max_length: int,
) -> dict[str, Contender]:
    """The peer's collators, plain and with whole words, in random order and by length."""
    tokenizer = peer_tokenizer(domain)
    examples: list[dict[str, Any]] = [{} for _ in range(len(store))]
    for record in records.tolist():
        examples[record] = peer_example(domain.assemble(store[record], max_length=max_length))
    plain = [{key: row[key] for key in row if key != "offset_mapping"} for row in examples]
    with warnings.catch_warnings():
        # It says that whole words are always replaced by the mask token.
        warnings.simplefilter("ignore")
        collators = {
            "token": (DataCollatorForLanguageModeling(tokenizer), plain),
            "whole word": (
                DataCollatorForLanguageModeling(
                    tokenizer, whole_word_mask=True, mask_replace_prob=1.0, random_replace_prob=0.0
                ),
                examples,
            ),
        }
    return {
        f"{PEER} {name}, {'by length' if by_length else 'random'}": partial(
            build_theirs, collator, rows, rows_per_batch=arguments.rows, by_length=by_length
        )
        for name, (collator, rows) in collators.items()
        for by_length in (False, True)
    }


def our_contenders(
    domain: Domain,
    store: TokenStore,
    records: Records,
    arguments: argparse.Namespace,
    max_length: int,
) -> dict[str, Contender]:
    """One for each of the chosen :data:`CONTENDERS`."""
    made: dict[str, Contender] = {}
    for name in arguments.only or CONTENDERS:
        objectives = [
            OBJECTIVES.build(settings, domain, where=f"objectives.{name}")
            for settings in CONTENDERS[name]
        ]
        for objective in objectives:
            objective.fit(TrainingSequences(store, records))
        builder = SampleBuilder(domain, store, objectives, max_length, seed=0, records=records)
        made[name] = partial(build_ours, builder, rows_per_batch=arguments.rows)
    return made


def prepare(arguments: argparse.Namespace, max_length: int) -> tuple[dict[str, Contender], Records]:
    """Read the data; returns all contenders for rows of a length, and the records to draw from."""
    domain = build_domain(
        {
            "name": "text",
            "vocabulary_size": arguments.vocabulary_size,
            "documents": "heading",
            "unmaskable_words": ["<unk>"],
        }
    )
    store = open_store(domain, arguments.data)
    records = np.flatnonzero(store.lengths > 0)
    ours = our_contenders(domain, store, records, arguments, max_length)
    return ours | peer_contenders(domain, store, records, arguments, max_length), records


def run_rounds(arguments: argparse.Namespace, max_length: int) -> list[dict[str, Built]]:
    """Interleave the contenders, after one round of a few records that is not counted."""
    contenders, records = prepare(arguments, max_length)
    rounds = []
    for number in range(arguments.rounds + 1):
        size = min(arguments.records if number else 64, len(records))
        chosen = np.random.default_rng(number).choice(records, size, replace=False)
        results = {name: contender(chosen, number) for name, contender in contenders.items()}
        print(f"length {max_length}, round {number}: {size:,} records", file=sys.stderr)
        if number:
            rounds.append(results)
    return rounds


def summarise(rounds: Sequence[dict[str, Built]]) -> dict[str, dict[str, Any]]:
    """Return speed, padding, and the ratio to the peer's contender that does the same."""
    summary = {}
    for name in rounds[0]:
        peer = COMPARED.get(name, COMPARED["mlm, token"])
        ratios = [done[name].tokens_per_cpu_s / done[peer].tokens_per_cpu_s for done in rounds]
        summary[name] = {
            "tokens_per_cpu_s": Spread.of([done[name].tokens_per_cpu_s for done in rounds]),
            "padded_share": statistics.mean(
                1 - done[name].tokens / done[name].positions for done in rounds
            ),
            "compared_with": peer,
            "ratio": Spread.of(ratios),
        }
    return summary


def print_summary(max_length: int, summary: dict[str, dict[str, Any]]) -> None:
    """Print the table of one length."""
    rows = [
        [
            name,
            f"{found['tokens_per_cpu_s'].median:,.0f}",
            f"{found['padded_share']:.1%}",
            str(found["ratio"]),
            found["compared_with"],
        ]
        for name, found in summary.items()
    ]
    print_table(
        f"at most {max_length} tokens a row: non-padding tokens a CPU-second",
        ["", "tokens", "padded", "ratio", "to"],
        rows,
    )


def profile(arguments: argparse.Namespace) -> None:
    """Print where the time of one contender goes."""
    arguments.only = [arguments.profile]
    contenders, records = prepare(arguments, arguments.max_lengths[0])
    chosen = np.random.default_rng(0).choice(records, min(arguments.records, len(records)))
    with cProfile.Profile() as profiler:
        contenders[arguments.profile](chosen, 1)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, help="text such as wikitext2")
    parser.add_argument(
        "--max-lengths", type=int, nargs="+", default=[128, 256, 512], metavar="TOKENS"
    )
    parser.add_argument("--vocabulary-size", type=int, default=8000)
    parser.add_argument("--rows", type=int, default=32, help="per batch, for all contenders")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=600, help="per round, the same for all")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="of our contenders")
    parser.add_argument("--profile", choices=CONTENDERS, help="show where its time goes, and end")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON")
    return parser.parse_args()


def main() -> None:
    """Run all rounds and write the result."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    if arguments.profile:
        profile(arguments)
        return
    machine = describe_machine()
    summaries, raw = {}, {}
    for max_length in arguments.max_lengths:
        rounds = run_rounds(arguments, max_length)
        summaries[max_length] = summarise(rounds)
        print_summary(max_length, summaries[max_length])
        raw[max_length] = [{name: asdict(built) for name, built in done.items()} for done in rounds]
    settings = vars(arguments) | {"data": [Path(source).name for source in arguments.data]}
    write_result(
        NAME, arguments.results,
        machine=machine, settings=settings, rounds=raw, summary=summaries,
    )  # fmt: skip


if __name__ == "__main__":
    main()
