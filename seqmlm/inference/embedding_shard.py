"""One part of the embeddings of a file: a folder that is complete and verified, or not there.

``vectors.safetensors`` has the vectors, ``records.json`` says whose they are, ``MANIFEST.json`` has
size and sha256 of both: safetensors alone loads a flipped bit without a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seqmlm.atomic_files import new_directory
from seqmlm.errors import DataError

VECTORS, RECORDS, MANIFEST = "vectors.safetensors", "records.json", "MANIFEST.json"


@dataclass(frozen=True, slots=True)
class ShardRecords:
    """Whose vectors a shard holds.

    Args:
        names: of its records, in order of reading; may repeat.
        offsets: one more than names: record i has the rows from ``offsets[i]`` up to
            ``offsets[i + 1]`` of the vectors.
    """

    names: Sequence[str]
    offsets: Sequence[int]


def write_shard(folder: Path, records: ShardRecords, vectors: Tensor) -> None:
    """Write a shard; when this returns it survives a kill and a power cut.

    Args:
        folder: must not exist.
        records: whose vectors they are.
        vectors: ``[rows, hidden_size]`` on the CPU.

    Raises:
        DataError: the disk cannot be written.
    """
    with new_directory(folder, error=DataError, needed_bytes=vectors.nbytes) as temporary:
        save_file({"vectors": vectors}, temporary / VECTORS)
        content = {"names": list(records.names), "offsets": list(records.offsets)}
        (temporary / RECORDS).write_text(json.dumps(content) + "\n", encoding="utf-8")
        files = {name: _describe(temporary / name) for name in (VECTORS, RECORDS)}
        (temporary / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n")


def check_shard(folder: Path) -> None:
    """Compare a shard with its manifest; reads all of it, about 1 GB a second.

    Raises:
        DataError: a file is missing, or its size or sha256 is not that of the manifest.
    """
    files = read_json(folder / MANIFEST).get("files")
    for name in (VECTORS, RECORDS):
        try:
            found = _describe(folder / name)
        except OSError as error:
            raise DataError(f"{folder / name}: {error.strerror}.") from error
        if not isinstance(files, dict) or files.get(name) != found:
            raise DataError(
                f"{folder / name} is damaged: size or sha256 is not that of {MANIFEST}."
            )


def read_shard_records(folder: Path) -> ShardRecords:
    """Read whose vectors a shard holds.

    Raises:
        DataError: ``records.json`` cannot be read.
    """
    content = read_json(folder / RECORDS)
    try:
        return ShardRecords(content["names"], content["offsets"])
    except KeyError as error:
        raise DataError(f"{folder / RECORDS} lacks {error}.") from error


def read_rows(folder: Path, start: int, end: int) -> Tensor:
    """Read rows ``start`` up to ``end`` of a shard's vectors, and no others.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with safe_open(folder / VECTORS, framework="pt") as file:
            rows: Tensor = file.get_slice("vectors")[start:end]
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder / VECTORS} cannot be read: {error}") from error
    return rows


def _describe(path: Path) -> dict[str, int | str]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": sha256}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: it is not JSON.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged: it is not a JSON object.")
    return content
