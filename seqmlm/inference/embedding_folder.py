"""Embeddings of whole files: shards of vectors, and ``index.json``, which says what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqmlm.atomic_files import write_file
from seqmlm.errors import DataError
from seqmlm.inference.embedding_shard import (
    ShardRecords,
    check_shard,
    read_json,
    read_rows,
    read_shard_records,
)

INDEX = "index.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class EmbeddingIndex:
    """The content of ``index.json``.

    Args:
        job: what is computed from what; names the model by its fingerprint, the files by name,
            size and time, and the options.
        hidden_size: width of the vectors.
        pooling: ``mean``, ``cls`` or ``tokens``.
        dtype: ``float32`` or ``float16``.
        shards: names of the folders, in order; empty until the job is complete.
        report: what became of every record, see :class:`~seqmlm.data.report.ReadReport`; empty
            until the job is complete.
        format: version of this layout.
    """

    job: Mapping[str, Any]
    hidden_size: int
    pooling: str
    dtype: str
    shards: Sequence[str] = ()
    report: Mapping[str, Any] | None = None
    format: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Write ``index.json``, or replace it."""
        write_file(folder / INDEX, json.dumps(asdict(self), indent=1) + "\n", error=DataError)

    @classmethod
    def read(cls, folder: Path) -> EmbeddingIndex:
        """Read ``index.json``.

        Raises:
            DataError: there is none, or it is not that of embeddings.
        """
        path = folder / INDEX
        if not path.is_file():
            raise DataError(f"{folder} holds no embeddings: there is no {INDEX} in it.")
        content = read_json(path)
        if isinstance(content.get("format"), int) and content["format"] > FORMAT_VERSION:
            raise DataError(
                f"{path} has format {content['format']}; this version of seqmlm reads up to "
                f"{FORMAT_VERSION}. Upgrade seqmlm."
            )
        try:
            return cls(**content | {"shards": tuple(content["shards"])})
        except (KeyError, TypeError) as error:
            raise DataError(f"{path} is not the index of embeddings: {error}.") from error


class Embeddings:
    """Embeddings on disk; a vector is read when it is asked for.

    Memory: the names, once one of them is asked for, and the vectors returned. The first vector
    read of a shard compares the whole shard with its sha256.

    Args:
        folder: that ``seqmlm embed`` wrote.

    Raises:
        DataError: it holds no embeddings, or the job that writes them has not finished.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.description = EmbeddingIndex.read(folder)
        if not self.description.shards:
            raise DataError(
                f"{folder} is not complete: give the command that writes it again, and it goes on."
            )
        self._checked: set[str] = set()

    @cached_property
    def _records(self) -> list[ShardRecords]:
        return [read_shard_records(self._folder / shard) for shard in self.description.shards]

    @cached_property
    def _first(self) -> list[int]:
        """Position of the first record of each shard, and the number of all records."""
        return list(accumulate((len(part.names) for part in self._records), initial=0))

    @cached_property
    def names(self) -> list[str]:
        """Of the records, in order of reading; may repeat."""
        return [name for part in self._records for name in part.names]

    @cached_property
    def offsets(self) -> Tensor:
        """Int64 ``[records + 1]``: record i has as many vectors as lie between two of them."""
        counts = [np.diff(np.array(part.offsets, np.int64)) for part in self._records]
        return torch.from_numpy(np.concatenate([[0], np.cumsum(np.concatenate(counts))]))

    @cached_property
    def _positions(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for position, name in enumerate(self.names):
            found.setdefault(name, []).append(position)
        return found

    def __len__(self) -> int:
        """Return the number of records."""
        return self._first[-1]

    def __getitem__(self, key: int | str) -> Tensor:
        """Return the embedding of a record by its position, or by its name if no other bears it.

        Returns:
            ``[hidden_size]``, or ``[tokens, hidden_size]`` where every token has a vector; of the
            dtype that was stored.

        Raises:
            IndexError: there is no such position.
            DataError: no record has the name, or several do; or the shard is damaged.
        """
        position = self._position_of(key) if isinstance(key, str) else range(len(self))[key]
        shard = int(np.searchsorted(self._first, position, side="right")) - 1
        start, end = self._records[shard].offsets[position - self._first[shard] :][:2]
        rows = self._read(self.description.shards[shard], start, end)
        return rows if self.description.pooling == "tokens" else rows[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the embedding of every record, one shard in memory at a time."""
        for shard, records in zip(self.description.shards, self._records, strict=True):
            rows = self._read(shard, 0, records.offsets[-1])
            counts = np.diff(records.offsets).tolist()
            yield from torch.split(rows, counts) if self.description.pooling == "tokens" else rows

    def positions_of(self, name: str) -> list[int]:
        """Return the positions of all records of a name, increasing; none if there is none."""
        return list(self._positions.get(name, ()))

    @property
    def vectors(self) -> Tensor:
        """All vectors in memory, ``[records, hidden_size]``, or a row for every token."""
        return torch.cat([
            self._read(shard, 0, records.offsets[-1])
            for shard, records in zip(self.description.shards, self._records, strict=True)
        ])  # fmt: skip

    def _position_of(self, name: str) -> int:
        positions = self.positions_of(name)
        if len(positions) == 1:
            return positions[0]
        if not positions:
            raise DataError(f"{self._folder}: no record is called {name!r}; see .names.")
        raise DataError(
            f"{self._folder}: {len(positions)} records are called {name!r}, at the positions "
            f"{', '.join(map(str, positions[:5]))}{' ...' if len(positions) > 5 else ''}; take "
            "them by position."
        )

    def _read(self, shard: str, start: int, end: int) -> Tensor:
        folder = self._folder / shard
        if shard not in self._checked:
            check_shard(folder)
            self._checked.add(shard)
        return read_rows(folder, start, end)


def read_embeddings(folder: str | Path) -> Embeddings:
    """Open what ``seqmlm embed`` wrote.

    Raises:
        DataError: the folder holds no embeddings, or not all of them yet.
    """
    return Embeddings(Path(folder))
