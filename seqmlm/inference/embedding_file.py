"""Embeddings of whole files in one safetensors file; an interrupted job goes on where it was.

Until it is complete the work lies in ``OUTPUT.partial/``: vectors as flat float32, names, and how
much of both is valid.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seqmlm.atomic_files import make_directory, remove_directory, write_file
from seqmlm.data.prepare import describe_sources
from seqmlm.data.report import ReadReport
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference.embedding import Pooling, embed_encodings
from seqmlm.inference.records import encoded_records
from seqmlm.model.model import Model

RECORDS_PER_SAVE = 512


@dataclass(frozen=True)
class Embeddings:
    """The content of an embedding file.

    Args:
        names: of the records, in order of reading; may repeat.
        vectors: float32 ``[records, hidden_size]``, or ``[tokens, hidden_size]`` per token.
        offsets: int64 ``[records + 1]``: record i has the vectors from ``offsets[i]`` up to
            ``offsets[i + 1]``.
    """

    names: list[str]
    vectors: Tensor
    offsets: Tensor


def read_embeddings(path: str | Path) -> Embeddings:
    """Read what :func:`write_embeddings` wrote.

    Raises:
        DataError: the file is missing or not an embedding file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = bytes(file.get_tensor("names").numpy()).decode().split("\n")
            return Embeddings(names, file.get_tensor("vectors"), file.get_tensor("offsets"))
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} is not an embedding file: {error}") from error


def write_embeddings(
    model: Model,
    sources: Sequence[str],
    output: Path,
    *,
    pooling: Pooling,
    tokens_per_batch: int,
    on_progress: Callable[[int], None] = lambda records: None,
) -> ReadReport:
    """Embed every record of ``sources`` into one safetensors file.

    Memory does not grow with the number of records. Started again after an interruption, the same
    call skips what is done, unless it reads standard input.

    Args:
        model: any.
        sources: files, folders, glob patterns, or ``-`` for standard input.
        output: must not exist.
        pooling: ``mean``, ``cls`` or ``tokens``, see :func:`embed_encodings`.
        tokens_per_batch: bounds the memory of the model.
        on_progress: called with the records done.

    Returns:
        What became of every record.

    Raises:
        ConfigError: ``output`` exists, or its partial work belongs to another job.
        DataError: a source cannot be used, or the disk cannot be written.
    """
    if output.exists():
        raise ConfigError(f"{output} exists; delete it or choose another name.")
    report = ReadReport()
    hidden_size = model.encoder.config.hidden_size
    with PartialFile(output, _job(model, sources, pooling), hidden_size) as partial:
        pairs = encoded_records(model.domain, sources, report)
        done = sum(1 for _ in islice(pairs, partial.records))
        while block := list(islice(pairs, RECORDS_PER_SAVE)):
            vectors = embed_encodings(
                model,
                [encoding for _, encoding in block],
                pooling=pooling,
                tokens_per_batch=tokens_per_batch,
            )
            partial.append([record.name for record, _ in block], list(vectors))
            done += len(block)
            on_progress(done)
        # One entry: safetensors writes several in random order, and equal jobs give equal files.
        partial.finish({"format": f"seqmlm embeddings 1, pooling {pooling}"})
    return report


class PartialFile:
    """Vectors and names on disk while a job runs; ``progress.json`` says what of them counts.

    Args:
        output: the file to make.
        job: what is computed from what; partial work of another job is refused.
        hidden_size: width of the vectors.
    """

    def __init__(self, output: Path, job: str, hidden_size: int) -> None:
        self._output = output
        self._folder = output.with_name(output.name + ".partial")
        self._job, self._hidden_size = job, hidden_size
        self.records = 0
        self._rows = 0
        self._name_bytes = 0

    def __enter__(self) -> PartialFile:
        make_directory(self._folder, error=DataError)
        progress = self._folder / "progress.json"
        if progress.exists():
            content = json.loads(progress.read_text())
            if content["job"] != self._job:
                raise ConfigError(
                    f"{self._folder} holds the partial work of another job (other model, data or "
                    "pooling). Delete it, or choose another output."
                )
            self.records, self._rows = content["records"], content["rows"]
            self._name_bytes = content["name_bytes"]
        self._vectors = _open_at(self._folder / "vectors.bin", self._rows * self._hidden_size * 4)
        self._names = _open_at(self._folder / "names.bin", self._name_bytes)
        self._ends = _open_at(self._folder / "ends.bin", self.records * 8)
        return self

    def __exit__(self, *details: object) -> None:
        for file in (self._vectors, self._names, self._ends):
            file.close()

    def append(self, names: Sequence[str], vectors: Sequence[Tensor]) -> None:
        """Add records; they count once this returns, also after a kill."""
        ends = self._rows + np.cumsum([len(part) for part in vectors], dtype=np.int64)
        lines = "".join(name.replace("\n", " ") + "\n" for name in names).encode()
        parts = (
            (self._vectors, torch.cat(list(vectors)).numpy().tobytes()),
            (self._names, lines),
            (self._ends, ends.tobytes()),
        )
        try:
            for file, content in parts:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"{self._folder} cannot be written: {error}") from error
        self.records += len(names)
        self._rows, self._name_bytes = int(ends[-1]), self._name_bytes + len(lines)
        progress = {
            "job": self._job,
            "records": self.records,
            "rows": self._rows,
            "name_bytes": self._name_bytes,
        }
        write_file(self._folder / "progress.json", json.dumps(progress), error=DataError)

    def finish(self, metadata: dict[str, str]) -> None:
        """Write the output in one go and remove the partial work."""
        # Memory-mapped, so the whole of it never has to fit in memory.
        vectors = np.memmap(self._folder / "vectors.bin", np.float32, mode="c")
        ends = np.fromfile(self._folder / "ends.bin", np.int64)
        names = (self._folder / "names.bin").read_bytes()[:-1]
        temporary = self._folder / "output.safetensors"
        try:
            save_file(
                {
                    "vectors": torch.from_numpy(vectors.reshape(-1, self._hidden_size)),
                    "offsets": torch.from_numpy(np.concatenate([[0], ends])),
                    "names": torch.from_numpy(np.frombuffer(names, np.uint8).copy()),
                },
                temporary,
                # One key: the library writes several in random order.
                metadata={"seqmlm": json.dumps(metadata)},
            )
            temporary.chmod(self._folder.stat().st_mode & 0o666)
            os.replace(temporary, self._output)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{self._output} cannot be written: {error}") from error
        remove_directory(self._folder, error=DataError)


def _job(model: Model, sources: Sequence[str], pooling: Pooling) -> str:
    described: dict[str, object] = {
        "model": model.fingerprint(),
        # Nothing tells whether standard input is the same again: such work is never taken up.
        "files": uuid.uuid4().hex if "-" in sources else describe_sources(sources),
        "pooling": pooling,
    }
    return json.dumps(described)


def _open_at(path: Path, size: int) -> BinaryIO:
    """Open for appending after ``size`` bytes; what a killed process wrote beyond is cut off."""
    path.touch()
    if path.stat().st_size < size:
        raise DataError(f"{path} is damaged: delete {path.parent} and start again.")
    os.truncate(path, size)
    return path.open("ab")
