"""Raw files to a token store, once; `train` does it implicitly and keeps the result."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmlm import __version__
from seqmlm.atomic_files import make_directory, new_directory, remove_leftovers
from seqmlm.data.report import ReadReport
from seqmlm.data.store import FORMAT_VERSION, StoreWriter, TokenStore
from seqmlm.domain import Domain, Record
from seqmlm.errors import DataError

CHARACTERS_PER_BLOCK = 4 * 2**20
"""Records are tokenised in blocks of about so many characters: the memory that building takes."""

_LEARNED = "learned"  # in place of a fingerprint, while the vocabulary is not known

logger = logging.getLogger("seqmlm")


def prepare(
    domain: Domain,
    sources: Sequence[str],
    folder: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda records, tokens: None,
) -> TokenStore:
    """Read, tokenise and write ``sources`` to a new store.

    Time is linear in the input, memory does not grow with it. The folder appears only when it is
    complete.

    Args:
        domain: reads and tokenises.
        sources: files, folders, glob patterns, or ``-`` for standard input.
        folder: of the store; must not exist, its parent must.
        on_progress: called after every block with the records and tokens so far.

    Raises:
        DataError: a source cannot be used, no record is left, or the folder cannot be written.
    """
    made_from = _origin(domain, sources)
    _ensure_vocabulary(domain, sources)
    report = ReadReport()
    with (
        new_directory(folder, error=DataError) as temporary,
        StoreWriter(temporary, token_dtype=domain.token_dtype) as writer,
    ):
        tokens = 0
        for records in _blocks(domain.read(sources, report)):
            block = domain.tokenize(records, report)
            writer.append([record.name for record in records], block.tokens, block.lengths)
            tokens += len(block.tokens)
            on_progress(writer.records, tokens)
        if tokens == 0:
            raise DataError(f"{', '.join(sources)}: no usable record ({report.summary()}).")
        made_from["vocabulary"] = domain.vocabulary.fingerprint()
        writer.finish(report=report, made_from=made_from, version=__version__)
        domain.save_tokenizer(temporary)
    return TokenStore(folder)


def open_store(
    domain: Domain,
    sources: Sequence[str],
    *,
    on_progress: Callable[[int, int], None] = lambda records, tokens: None,
) -> TokenStore:
    """Open the store of ``sources``, building it in the cache if it is not there yet.

    A source may itself be the folder of a store. The cache is ``$SEQMLM_CACHE``, else
    ``seqmlm`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; its entries are named after names, sizes and
    times of the files, the domain's options and the vocabulary, so a changed file is read anew.

    Raises:
        DataError: as :func:`prepare`, or the store was made with another vocabulary.
    """
    if len(sources) == 1 and (Path(sources[0]) / "store.json").is_file():
        return _open_prepared(domain, Path(sources[0]))
    folder = _cached_folder(domain, sources)
    if folder.is_dir() and "-" not in sources:
        logger.info("tokens of %s are taken from the cache, %s", ", ".join(sources), folder)
        return _open_prepared(domain, folder)
    make_directory(folder.parent, error=DataError)
    remove_leftovers(folder.parent, error=DataError)
    if "-" in sources:
        folder = folder.with_name(f"{folder.name}-stdin-{uuid.uuid4().hex}")
    try:
        return prepare(domain, sources, folder, on_progress=on_progress)
    except DataError:
        if not folder.is_dir():
            raise
        return _open_prepared(domain, folder)  # another process was faster


def _cached_folder(domain: Domain, sources: Sequence[str]) -> Path:
    """Where the store of ``sources`` lies or will lie.

    The store in which a domain learned the vocabulary it now has is that of an unlearned domain.
    """
    origin = _origin(domain, sources)
    folder = _folder_of(domain, origin)
    if not folder.is_dir() and domain.learns_vocabulary:
        learned = _folder_of(domain, origin | {"vocabulary": _LEARNED})
        if learned.is_dir() and _made_with(TokenStore(learned)) == origin["vocabulary"]:
            return learned
    return folder


def _folder_of(domain: Domain, origin: dict[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps([FORMAT_VERSION, origin]).encode()).hexdigest()[:24]
    return cache_folder() / "stores" / f"{domain.name}-{key}"


def _made_with(store: TokenStore) -> str:
    """Fingerprint of the vocabulary of a store's tokens."""
    return str(store.metadata["made_from"]["vocabulary"])


def cache_folder() -> Path:
    """Return where prepared stores are kept between runs."""
    if chosen := os.environ.get("SEQMLM_CACHE"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "seqmlm"


def _open_prepared(domain: Domain, folder: Path) -> TokenStore:
    store = TokenStore(folder)
    if not domain.has_vocabulary:
        domain.load_tokenizer(folder)
    made_with = _made_with(store)
    if made_with != domain.vocabulary.fingerprint():
        raise DataError(
            f"{folder}: prepared with vocabulary {made_with}, but domain {domain.name!r} now has "
            f"{domain.vocabulary.fingerprint()}. Prepare it again."
        )
    return store


def _ensure_vocabulary(domain: Domain, sources: Sequence[str]) -> None:
    """Learn the vocabulary in a first pass over the data, if the domain has none yet."""
    if domain.has_vocabulary:
        return
    if "-" in sources:
        raise DataError(
            f"domain {domain.name!r} learns its vocabulary in a first pass over the data, and "
            "standard input can be read only once. Save it to a file."
        )
    domain.fit_tokenizer(_Records(domain, sources))


@dataclass(frozen=True)
class _Records:
    """The records of sources, read anew by every iteration and not counted."""

    domain: Domain
    sources: Sequence[str]

    def __iter__(self) -> Iterator[Record]:
        return self.domain.read(self.sources, ReadReport())


def _blocks(records: Iterable[Record]) -> Iterator[list[Record]]:
    block: list[Record] = []
    characters = 0
    for record in records:
        block.append(record)
        characters += len(record.content)
        if characters >= CHARACTERS_PER_BLOCK:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _origin(domain: Domain, sources: Sequence[str]) -> dict[str, Any]:
    return {
        "domain": {"name": domain.registered_name, **domain.options},
        "vocabulary": domain.vocabulary.fingerprint() if domain.has_vocabulary else _LEARNED,
        "files": describe_sources(sources),
    }


def describe_sources(sources: Sequence[str]) -> list[list[str | int]]:
    """Return name, size and modification time of every file that sources stand for."""
    return [_describe(path) for source in sources for path in _files(source)]


def _files(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        return sorted(entry for entry in path.rglob("*") if entry.is_file())
    if path.exists() or not glob.has_magic(source):
        return [path]
    return sorted(map(Path, glob.glob(source, recursive=True)))


def _describe(path: Path) -> list[str | int]:
    """Name, size and time of a file; the name alone of what is no file, such as ``-``."""
    try:
        status = path.stat()
    except OSError:
        return [str(path)]
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]
