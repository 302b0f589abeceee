"""Requests for completion at places of real files at which a name stands."""

from __future__ import annotations

import json
import random
import sysconfig
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from seqmlm.data.report import ReadReport
from seqmlm_domains.code.languages.lexicon import Kind
from seqmlm_domains.code.repository import SourceFile, find_source_files
from seqmlm_domains.code.source_file import Unusable, read_source
from seqmlm_domains.code.source_tokens import SourceTokens

PREFIX_CHARACTERS, SUFFIX_CHARACTERS = 3_000, 1_000
_PLACES_PER_FILE: Final = 10
_MOST_BYTES, _MOST_LINE_CHARACTERS = 400_000, 2_000


def request_bodies(
    sources: Sequence[str | Path], number: int, *, seed: int
) -> tuple[str, list[bytes]]:
    """Return the language that most of some files are in, and requests at random names of those.

    One character of the name is typed; the rest is left out, as of one that is being typed. What is
    sent begins and ends between two tokens: a text that begins within a literal would make literals
    of its code, where no name is looked for.

    Args:
        sources: files, folders or patterns; the standard library's own files if there are none.
        number: of requests, none twice.
        seed: of the choice.
    """
    if not sources:
        sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    files = list(find_source_files(sources, ReadReport()))
    language = Counter(file.language for file in files).most_common(1)[0][0]
    chance = random.Random(seed)
    own = [file for file in files if file.language == language]
    bodies: dict[bytes, None] = {}
    for file in chance.sample(own, len(own)):
        places = _places(file)
        for prefix, suffix in chance.sample(places, min(len(places), _PLACES_PER_FILE)):
            segments = {"prefix": prefix, "suffix": suffix}
            bodies[json.dumps({"language": language, "segments": segments}).encode()] = None
        if len(bodies) >= number:
            break
    found = list(bodies)[:number]
    chance.shuffle(found)
    return language, found


def _places(file: SourceFile) -> list[tuple[str, str]]:
    """What stands before and behind each name of a file, so far as it is sent."""
    try:
        text = read_source(
            file.path, max_bytes=_MOST_BYTES, max_line_characters=_MOST_LINE_CHARACTERS
        )
    except Unusable:
        return []
    tokens = SourceTokens.of(text, file.language)
    ends, starts = tokens.ends, np.concatenate([[0], tokens.ends[:-1]])
    names = np.flatnonzero(tokens.kinds == Kind.NAME)
    found = []
    for start, end in zip(starts[names].tolist(), ends[names].tolist(), strict=True):
        if start < PREFIX_CHARACTERS or len(text) - end < SUFFIX_CHARACTERS:
            continue
        first = starts[starts.searchsorted(start - PREFIX_CHARACTERS)]
        last = ends[ends.searchsorted(end + SUFFIX_CHARACTERS)]
        found.append((text[first : start + 1], text[end:last]))
    return found
