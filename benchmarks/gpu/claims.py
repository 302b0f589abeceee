"""Pieces of work that several processes share without a word between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


class Claims:
    """Who does what, as empty files: whoever makes the file of a piece first does the piece.

    Args:
        folder: of all processes that share the pieces; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def turns(self, count: int, shard: tuple[int, int]) -> Iterator[int]:
        """Indices of pieces that are this process's to do; what has ended is left out.

        Neighbouring pieces launch the same kernels, so that a process has consecutive ones and
        compiles few that others compile at that time. Afterwards it helps the others, from the
        last of their pieces: they are at work on the first.

        Args:
            count: of pieces, the same in all processes.
            shard: (index, count) of this process.
        """
        index, processes = shard
        shares = [
            range(count * i // processes, count * (i + 1) // processes) for i in range(processes)
        ]
        others = (shares[(index + i) % processes] for i in range(1, processes))
        for pieces in (shares[index], *(reversed(share) for share in others)):
            for piece in pieces:
                if not self._file("ended", piece).exists() and self._is_taken_now(piece):
                    yield piece

    def end(self, piece: int) -> None:
        """Nobody is to do this piece again."""
        self._file("ended", piece).touch()

    def release(self) -> None:
        """Pieces that were taken and have not ended can be taken again; nobody may be at work."""
        for file in self._folder.glob("taken-*"):
            file.unlink()

    def _is_taken_now(self, piece: int) -> bool:
        try:
            self._file("taken", piece).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _file(self, what: str, piece: int) -> Path:
        return self._folder / f"{what}-{piece}"
