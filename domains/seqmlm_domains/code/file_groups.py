"""Which passages belong together in a split: those of a file, of near copies, of a folder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seqmlm.data.store import TokenStore
from seqmlm_domains.code.near_copies import join, near_copy_groups, root
from seqmlm_domains.code.reader import file_of
from seqmlm_domains.code.stored_tokens import ids_of

Int64Array = npt.NDArray[np.int64]


def files_of_passages(store: TokenStore) -> Int64Array:
    """Return the number of each passage's file, int64 ``[records]``, counted from 0."""
    begins = [file_of(name) == name for name in store.names()]
    begins[:1] = [True]
    return np.cumsum(begins, dtype=np.int64) - 1


class FileGroups:
    """Groups the passages of a store; remembers the near copies of the last, a split asks twice."""

    def __init__(self) -> None:
        self._last: tuple[str, Int64Array] | None = None

    def near_copies(self, store: TokenStore) -> Int64Array:
        """Return a group per passage, int64 ``[records]``: one for a file and its near copies."""
        files = files_of_passages(store)
        return self._of_files(store, files)[files]

    def folders(self, store: TokenStore) -> Int64Array:
        """Return a group per passage: one for a top-level folder and those of its near copies."""
        files = files_of_passages(store)
        groups = self._of_files(store, files).copy()
        first_file: dict[str, int] = {}
        for file, name in zip(files.tolist(), store.names(), strict=True):
            folder = name.partition("/")[0]
            join(groups, first_file.setdefault(folder, file), file)
        return np.array([root(groups, file) for file in range(len(groups))])[files]

    def _of_files(self, store: TokenStore, files: Int64Array) -> Int64Array:
        """Group of every file: its near copies."""
        if self._last is None or self._last[0] != store.fingerprint:
            starts = store.offsets[np.flatnonzero(np.diff(files, prepend=-1))]
            ends = [*starts[1:].tolist(), len(store.tokens)]
            tokens = (
                ids_of(store.tokens[start:end])
                for start, end in zip(starts.tolist(), ends, strict=True)
            )
            self._last = store.fingerprint, near_copy_groups(tokens)
        return self._last[1]
