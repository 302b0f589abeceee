"""The file ``vocab.txt`` of ESM-2 in Hugging Face folders: a token a line, in the order of ids."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from seqmlm.atomic_files import write_file
from seqmlm.errors import CheckpointError
from seqmlm_domains.protein.tokenizer import TOKENS

VOCABULARY_FILE: Final = "vocab.txt"


def check_vocabulary_file(path: Path, *, rows: int) -> None:
    """Refuse a vocabulary other than that of ESM-2, whose ids are those of this domain.

    Args:
        path: of the file.
        rows: of the model's token embedding.

    Raises:
        CheckpointError: the file cannot be read or lists other tokens, or the embedding has more
            or fewer rows.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); without it nothing says what the ids mean."
        ) from error
    tokens = tuple(line.strip() for line in lines)
    for id, (given, expected) in enumerate(zip(tokens, TOKENS, strict=False)):
        if given != expected:
            raise CheckpointError(
                f"{path}, line {id + 1}: id {id} is {given!r}, but {expected!r} in ESM-2, whose "
                "ids this domain has."
            )
    for what, count in (("lines", len(tokens)), ("rows in the model's embedding", rows)):
        if count != len(TOKENS):
            raise CheckpointError(f"{path}: {count} {what}; ESM-2 has {len(TOKENS)} tokens.")


def write_vocabulary_file(path: Path) -> None:
    """Write the tokens of ESM-2.

    Raises:
        CheckpointError: the file cannot be written.
    """
    write_file(path, "\n".join(TOKENS) + "\n", error=CheckpointError)
