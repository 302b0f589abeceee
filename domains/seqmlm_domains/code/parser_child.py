"""The other end of :mod:`.parser_process`: parses what it is sent until its input ends."""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import BinaryIO, Final

import numpy as np

from seqmlm_domains.code.syntax import parse_text

READY: Final = b"R"
REQUEST: Final = struct.Struct("<BI")
"""Bytes of the language's name and of the source; both follow."""
RESPONSE: Final = struct.Struct("<II")
"""Number of identifiers, and bytes of names. Three int32 of each identifier follow, an int32 each
for its type, its owner, its heir and whether it is exported, and the names of the first three, one
a line, the lines of each ended by :data:`END_OF_NAMES`; then so the types of members, each behind
:data:`IS_OF`, and the owners that have the names of modules, each before one."""
END_OF_NAMES: Final = "\0"
IS_OF: Final = "\t"

OUT_OF_MEMORY: Final = 77
"""Exit status."""


def serve(requests: BinaryIO, responses: BinaryIO) -> None:
    """Answer requests in order until there are no more."""
    responses.write(READY)
    responses.flush()
    while header := requests.read(REQUEST.size):
        name_bytes, source_bytes = REQUEST.unpack(header)
        language = requests.read(name_bytes).decode()
        parsed = parse_text(requests.read(source_bytes).decode(), language)
        assert parsed.owners is not None, "the parser tells them"
        named = (parsed.declared_types, parsed.owners.members, parsed.owners.heirs)
        lines = [types.names for types in named]
        of_members, passed_on = parsed.owners.types.items(), parsed.owners.passed_on
        lines += [tuple(map(IS_OF.join, pairs)) for pairs in (of_members, passed_on)]
        names = "".join("\n".join(own) + END_OF_NAMES for own in lines).encode()
        columns = [parsed.identifiers, *(types.numbers for types in named)]
        columns.append(parsed.owners.is_exported.astype(np.int32))
        responses.write(RESPONSE.pack(len(parsed.identifiers), len(names)))
        responses.write(b"".join(column.tobytes() for column in columns) + names)
        responses.flush()


def _limit_memory(limit_bytes: int) -> None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows: the time limit alone ends a runaway parse
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Run as ``python -m seqmlm_domains.code.parser_child MEMORY_BYTES``."""
    # Ctrl-C goes to the whole process group; the parent decides what becomes of this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(int(sys.argv[1]))
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BrokenPipeError:
        os._exit(0)  # the parent is gone


if __name__ == "__main__":
    main()
