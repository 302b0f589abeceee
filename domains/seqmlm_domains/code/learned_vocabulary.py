"""What is learned from source code, tokens and declared types, and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seqmlm.atomic_files import write_file
from seqmlm.errors import CheckpointError, ConfigError
from seqmlm_domains.code.tokenizer import CodeTokenizer
from seqmlm_domains.code.type_vocabulary import TypeVocabulary

TOKENIZER_FILE: Final = "code_tokenizer.json"

_SIZES: Final = ("vocabulary_size", "type_vocabulary_size")


@dataclass(frozen=True)
class LearnedVocabulary:
    """The vocabularies of tokens and of declared types, which are learned and saved together.

    Args:
        tokenizer: of source text.
        types: declared ones that are told apart.
    """

    tokenizer: CodeTokenizer
    types: TypeVocabulary

    def save(self, folder: Path, *, options: Mapping[str, Any]) -> None:
        """Write one JSON file.

        Args:
            folder: that it goes into.
            options: of the domain, whose sizes are written too.

        Raises:
            CheckpointError: the file cannot be written.
        """
        content = {
            **{size: options[size] for size in _SIZES},
            "declared_types": self.types.names,
            "tokenizer": json.loads(self.tokenizer.content),
        }
        text = json.dumps(content, ensure_ascii=False) + "\n"
        write_file(folder / TOKENIZER_FILE, text, error=CheckpointError)

    @classmethod
    def load(cls, folder: Path, *, options: Mapping[str, Any], domain: str) -> LearnedVocabulary:
        """Read what :meth:`save` wrote.

        Args:
            folder: that it is in.
            options: of the domain, whose sizes must be those that it was learned with.
            domain: name of the vocabulary's range.

        Raises:
            CheckpointError: the file is missing or damaged.
            ConfigError: a vocabulary was learned with another size.
        """
        path = folder / TOKENIZER_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            sizes = {size: content[size] for size in _SIZES}
            types = TypeVocabulary(content["declared_types"])
            tokenizer = CodeTokenizer(
                json.dumps(content["tokenizer"], ensure_ascii=False), domain=domain
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}.") from error
        for size, made_with in sizes.items():
            if made_with != options[size]:
                raise ConfigError(
                    f"{path} was learned with {size} = {made_with}, but the configuration says "
                    f"{options[size]}. Give the same, or prepare the data again."
                )
        return cls(tokenizer, types)
