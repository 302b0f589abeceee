"""Tokenised records in memory-mapped files: built once, larger than memory, read at random.

A store is a folder of flat little-endian arrays: ``tokens.bin`` (uint8 to uint64),
``offsets.bin`` (int64 ``[records + 1]``), ``content_hashes.bin`` (uint64 ``[records]``),
``names.bin`` with ``name_offsets.bin``, and ``store.json`` with what they were made from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError

FORMAT_VERSION = 1


class TokenStore:
    """The records of one corpus as token ids, opened without reading them.

    Raises:
        DataError: the folder is not a store, is of a newer format, or its files disagree.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata = _read_metadata(folder)
        if self.metadata["format_version"] > FORMAT_VERSION:
            raise DataError(
                f"{folder}: store format {self.metadata['format_version']} was written by seqmlm "
                f"{self.metadata['seqmlm_version']}; this one reads up to {FORMAT_VERSION}."
            )
        self.tokens = self._map("tokens.bin", self.metadata["token_dtype"])
        self.offsets = self._map("offsets.bin", "int64")
        self.content_hashes = self._map("content_hashes.bin", "uint64")
        records = self.metadata["records"]
        if not (
            len(self.offsets) == records + 1
            and len(self.content_hashes) == records
            and self.offsets[-1] == len(self.tokens)
        ):
            raise DataError(
                f"{folder}: files disagree on the number of records or tokens. Delete the store "
                "and prepare it again."
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, record: int) -> npt.NDArray[np.unsignedinteger[Any]]:
        return self.tokens[self.offsets[record] : self.offsets[record + 1]]

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per record without special tokens, int64 ``[records]``."""
        return np.diff(self.offsets)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any token or with the order of records."""
        return str(self.metadata["fingerprint"])

    @property
    def report(self) -> ReadReport:
        """What became of every record when the store was built."""
        return ReadReport.from_json(self.metadata["report"])

    def names(self) -> list[str]:
        """Return the name of every record; costs memory in proportion to the records."""
        blob = (self.folder / "names.bin").read_bytes()
        ends = self._map("name_offsets.bin", "int64").tolist()
        return [blob[start:end].decode() for start, end in pairwise(ends)]

    def identical_groups(self) -> npt.NDArray[np.int64]:
        """Return a number per record, equal for records of equal tokens; int64 ``[records]``."""
        return np.unique(self.content_hashes, return_inverse=True)[1].astype(np.int64)

    def _map(self, name: str, dtype: str) -> npt.NDArray[Any]:
        path = self.folder / name
        try:
            if path.stat().st_size == 0:
                return np.empty(0, dtype)
            # As a plain array over the mapped file: memmap's own class makes each slice and each
            # sum of a few hundred tokens several times slower.
            return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be read ({error}). Delete the store and prepare it again."
            ) from error


def _read_metadata(folder: Path) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = json.loads((folder / "store.json").read_text())
        missing = {"format_version", "records", "token_dtype", "made_from"} - metadata.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder} is not a token store ({error}). Make one with `seqmlm prepare`."
        ) from error
    if missing:
        raise DataError(f"{folder / 'store.json'}: {', '.join(sorted(missing))} missing.")
    return metadata


class StoreWriter:
    """Appends records to a store that is being built in ``folder``, which must exist.

    Memory does not grow with what is written. As a context manager it closes its files in any
    case; only :meth:`finish` makes a store of them.
    """

    def __init__(self, folder: Path, *, token_dtype: type[np.unsignedinteger[Any]]) -> None:
        self._folder = folder
        self._dtype = np.dtype(token_dtype)
        self._files: dict[str, IO[bytes]] = {
            name: (folder / f"{name}.bin").open("wb")
            for name in ("tokens", "offsets", "content_hashes", "names", "name_offsets")
        }
        self._fingerprint = hashlib.sha256()
        self._tokens = self._name_bytes = self.records = 0
        for name in ("offsets", "name_offsets"):
            self._files[name].write(np.zeros(1, np.int64).tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def append(
        self,
        names: Sequence[str],
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        lengths: npt.NDArray[np.int64],
    ) -> None:
        """Add records: their names, their tokens one after the other, and how many each has."""
        blob = tokens.astype(self._dtype, copy=False).tobytes()
        ends = np.cumsum(lengths)
        byte_ends = (ends * self._dtype.itemsize).tolist()
        digests = b"".join(
            hashlib.blake2b(blob[start:end], digest_size=8).digest()
            for start, end in zip([0, *byte_ends[:-1]], byte_ends, strict=True)
        )
        encoded_names = [name.encode() for name in names]
        name_ends = np.cumsum([len(name) for name in encoded_names], dtype=np.int64)
        self._files["tokens"].write(blob)
        self._files["offsets"].write((ends + self._tokens).astype(np.int64).tobytes())
        self._files["content_hashes"].write(digests)
        self._files["names"].write(b"".join(encoded_names))
        self._files["name_offsets"].write((name_ends + self._name_bytes).tobytes())
        self._fingerprint.update(digests)
        self._tokens += len(tokens)
        self._name_bytes += int(name_ends[-1])
        self.records += len(lengths)

    def finish(self, *, report: ReadReport, made_from: dict[str, Any], version: str) -> None:
        """Close the files and write the metadata.

        Args:
            report: what became of the records read.
            made_from: sources, domain options and vocabulary fingerprint.
            version: of the writing seqmlm.
        """
        self._close()
        metadata = {
            "format_version": FORMAT_VERSION,
            "seqmlm_version": version,
            "records": self.records,
            "tokens": self._tokens,
            "token_dtype": self._dtype.name,
            "fingerprint": self._fingerprint.hexdigest()[:16],
            "made_from": made_from,
            "report": report.to_json(),
        }
        (self._folder / "store.json").write_text(json.dumps(metadata, indent=1))

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
