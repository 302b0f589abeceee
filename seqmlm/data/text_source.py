"""Opens a text file that nobody vouches for: plain or gzip, a path or standard input.

Whatever is wrong with the bytes becomes a DataError that names the file and the place, before a
parser could take damage for data.
"""

from __future__ import annotations

import codecs
import gzip
import io
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TextIO, cast

from seqmlm.errors import DataError

STANDARD_INPUT: Final = "-"

MAX_GZIP_RATIO: Final = 200
"""Text and sequence files compress 2 to 10 times; deflate itself ends at 1,032."""

GZIP_RATIO_CHECKED_FROM: Final = 4 * 2**20
"""Bytes of output below which no ratio is refused: small repetitive files are harmless."""

_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_COMPRESSIONS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@contextmanager
def open_text(path: str | Path) -> Iterator[TextIO]:
    """Open ``path``, or standard input for ``-``, as UTF-8 text with ``\\n`` line ends.

    Gzip is recognised by content. A byte-order mark is skipped. Memory does not grow with the
    size of the file.

    Raises:
        DataError: on opening: missing, not a regular file, unreadable, not what its ``.gz``
            promises, or compressed otherwise. While reading: damaged or truncated gzip, a gzip
            ratio above :data:`MAX_GZIP_RATIO`, a NUL byte, UTF-16, or bytes that are not UTF-8.
    """
    place = source_name(path)
    if str(path) == STANDARD_INPUT:
        # A buffer of our own: what replaces sys.stdin (test runners, notebooks) may lack peek.
        binary: io.BufferedReader[Any] = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
        try:
            yield _checked_text(binary, place)
        finally:
            binary.detach()  # without this, standard input would be closed with it
    else:
        with _open_regular_file(Path(path)) as file:
            yield _checked_text(file, place)


def source_name(path: str | Path) -> str:
    """Return ``path`` as messages show it."""
    return "<stdin>" if str(path) == STANDARD_INPUT else str(path)


def _checked_text(binary: io.BufferedReader[Any], place: str) -> TextIO:
    checked = _CheckedBytes(_decompressed(binary, place), place)
    # Universal line ends; the type stubs ask for a seekable buffer, the class does not.
    return io.TextIOWrapper(checked, "utf-8-sig")  # type: ignore[type-var]


def _open_regular_file(path: Path) -> io.BufferedReader[Any]:
    try:
        mode = path.stat().st_mode
        # Before open, which would wait for a writer if this is a named pipe.
        if stat.S_ISDIR(mode):
            raise DataError(f"{path} is a folder; a file is needed here.")
        if not stat.S_ISREG(mode):
            raise DataError(
                f"{path} is a pipe, socket or device, not a file. Pipe it in and give '-' instead."
            )
        return path.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


class _Readable(Protocol):
    """What a checked source needs of the stream below it."""

    def read1(self, size: int = -1, /) -> bytes: ...


def _decompressed(binary: io.BufferedReader[Any], place: str) -> _Readable:
    try:
        start = binary.peek(6)
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror or error}.") from error
    if start.startswith(_GZIP_MAGIC):
        return _Gunzipped(binary, place)
    for magic, format_name in _OTHER_COMPRESSIONS.items():
        if start.startswith(magic):
            raise DataError(f"{place} is {format_name}-compressed. Decompress it, or use gzip.")
    if place.endswith(".gz") and start:
        raise DataError(
            f"{place} is named .gz but is not gzip-compressed. Rename it or download it again."
        )
    return binary


class _Gunzipped:
    """Decompressed bytes of a gzip stream, with its expansion watched."""

    def __init__(self, binary: io.BufferedReader[Any], place: str) -> None:
        self._compressed = _CountingReader(binary)
        self._gzip = gzip.GzipFile(fileobj=self._compressed)  # type: ignore[call-overload]
        self._place = place
        self._bytes = 0

    def read1(self, size: int = -1, /) -> bytes:
        try:
            chunk: bytes = self._gzip.read1(size)
        except EOFError as error:
            raise DataError(
                f"{self._place}: the gzip file ends in the middle, after {self._bytes:,} "
                "decompressed bytes. Download or copy it again."
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{self._place}: damaged gzip after {self._bytes:,} decompressed bytes ({error})."
            ) from error
        self._bytes += len(chunk)
        if (
            self._bytes > GZIP_RATIO_CHECKED_FROM
            and self._bytes > MAX_GZIP_RATIO * self._compressed.count
        ):
            raise DataError(
                f"{self._place}: decompresses to more than {MAX_GZIP_RATIO} times its size, which "
                "no text file does. If it is genuine, decompress it first."
            )
        return chunk


class _CountingReader:
    """Counts compressed bytes; ``tell`` would fail on a pipe."""

    def __init__(self, binary: BinaryIO) -> None:
        self._binary = binary
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._binary.read(size)
        self.count += len(chunk)
        return chunk


class _CheckedBytes(io.BufferedIOBase):
    """Passes bytes on while they are UTF-8 without NUL; knows where the first is that is not.

    Checking here and not in the text layer gives the exact offset in the (decompressed) file.
    """

    def __init__(self, source: _Readable, place: str) -> None:
        self._source = source
        self._place = place
        self._offset = 0
        self._lines = 0
        self._is_ascii = True
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        try:
            chunk = self._source.read1(size)
        except OSError as error:
            raise DataError(
                f"{self._place}: reading failed at byte {self._offset:,} ({error})."
            ) from error
        if self._offset == 0 and chunk.startswith(_UTF_16_MARKS):
            raise DataError(f"{self._place} is UTF-16 text. Save it as UTF-8.")
        if b"\0" in chunk:
            raise DataError(
                f"{self._place}: NUL byte at byte offset {self._offset + chunk.index(0):,}; "
                "the file is binary, UTF-16 or damaged."
            )
        self._is_ascii = self._is_ascii and chunk.isascii()
        if not self._is_ascii:
            self._check_utf_8(chunk)
        self._offset += len(chunk)
        self._lines += chunk.count(b"\n")
        return chunk

    def _check_utf_8(self, chunk: bytes) -> None:
        try:
            self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # The decoder may have held back the first bytes of a character from the last chunk.
            held_back = len(error.object) - len(chunk)
            offset = self._offset - held_back + error.start
            line = self._lines + 1 + error.object.count(b"\n", 0, error.start)
            raise DataError(
                f"{self._place}, line {line:,}: not UTF-8 at byte offset {offset:,} "
                f"(byte 0x{error.object[error.start]:02x}). Save it as UTF-8."
            ) from error
