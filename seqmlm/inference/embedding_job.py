"""Embeds whole files into a folder of shards; an interrupted job goes on where it was."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Literal, get_args

import torch

from seqmlm.atomic_files import make_directory, remove_directory, remove_leftovers
from seqmlm.data.prepare import describe_sources
from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference.embedding import Pooling, count_vectors, vectors_by_position
from seqmlm.inference.embedding_folder import INDEX, EmbeddingIndex
from seqmlm.inference.embedding_shard import ShardRecords, check_shard, write_shard
from seqmlm.inference.records import encoded_records
from seqmlm.model.model import Model

Storage = Literal["float32", "float16"]

SHARD_RECORDS: Final = 4096
SHARD_TOKENS: Final = 1 << 21
SHARD_BYTES: Final = 1 << 27

_logger = logging.getLogger("seqmlm")


@dataclass(frozen=True, kw_only=True)
class EmbeddingOptions:
    """What is kept of the hidden states of a record.

    Args:
        pooling: ``mean``, ``cls`` or ``tokens``, see
            :func:`~seqmlm.inference.embedding.vectors_by_position`.
        dtype: ``float32``, or ``float16``, which takes half the space and keeps 3 digits.
        shard_records: most records of one shard; an interruption costs at most one shard of work.

    Raises:
        ConfigError: an option is not one of these.
    """

    pooling: Pooling = "mean"
    dtype: Storage = "float32"
    shard_records: int = SHARD_RECORDS

    def __post_init__(self) -> None:
        for name, choices in (("pooling", get_args(Pooling)), ("dtype", get_args(Storage))):
            if (given := getattr(self, name)) not in choices:
                raise ConfigError(f"{name} = {given!r}: it is one of {', '.join(choices)}.")
        if self.shard_records < 1:
            raise ConfigError(f"shard_records = {self.shard_records}: must be at least 1.")

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of the stored vectors."""
        return torch.float16 if self.dtype == "float16" else torch.float32


Block = Sequence[tuple[Record, Encoding]]


def write_embeddings(
    model: Model,
    sources: Sequence[str],
    output: Path,
    *,
    options: EmbeddingOptions,
    tokens_per_batch: int,
    on_progress: Callable[[int], None] = lambda records: None,
) -> ReadReport:
    """Embed every record of ``sources`` into a folder of shards.

    Memory does not grow with the number of records. Given again after an interruption, the same
    call goes on: shards that are there and verify are not computed again, unless it reads standard
    input. Records too long for learned positions are left out and reported.

    Args:
        model: any.
        sources: files, folders, glob patterns, or ``-`` for standard input.
        output: a folder; must not exist, or hold unfinished work of the same job.
        options: what is kept of each record.
        tokens_per_batch: bounds the memory of the model.
        on_progress: called with the records done.

    Returns:
        What became of every record; ``index.json`` has it too.

    Raises:
        ConfigError: ``output`` exists, complete or as something else, or its unfinished work
            belongs to another job.
        DataError: a source cannot be used, the disk cannot be written, or a vector does not fit
            into float16.
    """
    index = _begin(output, _index(model, sources, options))
    report = ReadReport()
    pairs = _short_enough(model, encoded_records(model.domain, sources, report), report)
    try:
        shards = _write_shards(
            model,
            _blocks(model, pairs, options),
            output,
            options=options,
            tokens_per_batch=tokens_per_batch,
            on_progress=on_progress,
        )
        if not shards:
            raise DataError(f"{', '.join(sources)}: no usable record ({report.summary()}).")
    except DataError:
        if not any(output.glob("shard-*")):  # else it would be in the way of the mended command
            remove_directory(output, error=DataError)
        raise
    replace(index, shards=shards, report=report.to_json()).write(output)
    return report


def _write_shards(
    model: Model,
    blocks: Iterable[Block],
    output: Path,
    *,
    options: EmbeddingOptions,
    tokens_per_batch: int,
    on_progress: Callable[[int], None],
) -> list[str]:
    """Write the shards that are not there, and return the names of all."""
    done, kept, shards = 0, 0, []
    for number, block in enumerate(blocks):
        shards.append(f"shard-{number:05d}")
        folder = output / shards[-1]
        if _is_intact(folder):
            kept += 1
        else:
            _write_block(
                model,
                block,
                folder,
                options=options,
                tokens_per_batch=tokens_per_batch,
                on_progress=on_progress,
                done_before=done,
            )
        done += len(block)
        on_progress(done)
    if kept:
        _logger.info("%d of %d shards were there already", kept, len(shards))
    return shards


def _index(model: Model, sources: Sequence[str], options: EmbeddingOptions) -> EmbeddingIndex:
    job: dict[str, Any] = {
        "model": model.fingerprint(),
        # Nothing tells whether standard input is the same again: such work is never taken up.
        "files": uuid.uuid4().hex if "-" in sources else describe_sources(sources),
        "shard_records": options.shard_records,
    }
    return EmbeddingIndex(
        job=job,
        hidden_size=model.encoder.config.hidden_size,
        pooling=options.pooling,
        dtype=options.dtype,
    )


def _begin(output: Path, index: EmbeddingIndex) -> EmbeddingIndex:
    """Make the folder, or take up the same job in it."""
    if not output.exists():
        make_directory(output, error=DataError)
    elif not output.is_dir() or (any(output.iterdir()) and not (output / INDEX).is_file()):
        raise ConfigError(f"{output} exists; delete it or choose another name.")
    remove_leftovers(output, error=DataError)
    if not (output / INDEX).is_file():
        index.write(output)
        return index
    found = EmbeddingIndex.read(output)
    if found.shards:
        raise ConfigError(f"{output} exists and is complete; delete it or choose another name.")
    if found != index:
        raise ConfigError(
            f"{output} holds the unfinished work of another job (other model, data or options). "
            "Delete it, or choose another output."
        )
    return index


def _short_enough(
    model: Model, pairs: Iterable[tuple[Record, Encoding]], report: ReadReport
) -> Iterator[tuple[Record, Encoding]]:
    longest = model.encoder.config.longest_sequence
    for record, encoding in pairs:
        if longest is not None and len(encoding) > longest:
            report.drop(f"longer than the {longest:,} positions of the model", record.place)
        else:
            yield record, encoding


def _blocks(
    model: Model, pairs: Iterable[tuple[Record, Encoding]], options: EmbeddingOptions
) -> Iterator[Block]:
    """Group the records of one shard, of bounded size; a record always goes in whole.

    Nothing but the records and the options decides, so that an interrupted job makes the same.
    """
    shard_rows = SHARD_BYTES // (model.encoder.config.hidden_size * options.torch_dtype.itemsize)
    block: list[tuple[Record, Encoding]] = []
    rows = tokens = 0
    for pair in pairs:
        more_rows, more_tokens = count_vectors(model, pair[1], options.pooling), len(pair[1])
        is_full = len(block) == options.shard_records
        if is_full or rows + more_rows > shard_rows or tokens + more_tokens > SHARD_TOKENS:
            if block:
                yield block
            block, rows, tokens = [], 0, 0
        block.append(pair)
        rows += more_rows
        tokens += more_tokens
    if block:
        yield block


def _is_intact(folder: Path) -> bool:
    """Whether a shard is there; a damaged one is deleted, with a warning."""
    if not folder.exists():
        return False
    try:
        check_shard(folder)
    except DataError as error:
        _logger.warning("%s It is computed again.", error)
        remove_directory(folder, error=DataError)
        return False
    return True


def _write_block(
    model: Model,
    block: Block,
    folder: Path,
    *,
    options: EmbeddingOptions,
    tokens_per_batch: int,
    on_progress: Callable[[int], None],
    done_before: int,
) -> None:
    """Embed the records of one shard, and write it."""
    encodings = [encoding for _, encoding in block]
    counts = [count_vectors(model, encoding, options.pooling) for encoding in encodings]
    offsets = list(accumulate(counts, initial=0))
    vectors = torch.empty(offsets[-1], model.encoder.config.hidden_size, dtype=options.torch_dtype)
    with model.inference():
        states = vectors_by_position(
            model, encodings, pooling=options.pooling, tokens_per_batch=tokens_per_batch
        )
        for done, (position, found) in enumerate(states, start=done_before + 1):
            room = vectors[offsets[position] : offsets[position + 1]]
            room.copy_(found)
            if not room.isfinite().all():
                raise DataError(
                    f"{block[position][0].place}: its embedding is not finite in {options.dtype}. "
                    + ("Store float32." if options.dtype == "float16" else "Is the model sound?")
                )
            on_progress(done)
    names = [record.name for record, _ in block]
    write_shard(folder, ShardRecords(names, offsets), vectors)
