"""What is fitted to a project beside the model: its names, their contexts, and the weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from seqmlm.atomic_files import (
    make_directory,
    new_directory,
    remove_directory,
    remove_leftovers,
    write_file,
)
from seqmlm.config import read_config_file
from seqmlm.errors import CheckpointError
from seqmlm.model.model_folder import find_model_folder
from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.mixture import Mixture
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.parser_process import ParserProcess, ParsingFailed
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import ParsedText

_logger = logging.getLogger("seqmlm")

_FOLDER: Final = "completion"
_WEIGHTS_FILE: Final = "weights.json"
_COUNTS: Final = "counts-"
"""Begins the name of the folder of the tables, which the file of the weights names."""
_VERSION: Final = 2
"""Of the tokens that contexts are counted in: others would be looked up where they never were."""


@dataclass(frozen=True, eq=False)
class Project:
    """A project that names are completed in.

    Args:
        tables: counts of names, by :func:`table_key`.
        mixtures: weights, by :func:`table_key`.
        report: how the weights were found, plain values.
    """

    tables: Mapping[str, ContextTable]
    mixtures: Mapping[str, Mixture]
    report: Mapping[str, Any]

    @property
    def is_fitted(self) -> bool:
        """Whether weights were fitted for any language; else they are those of others."""
        return bool(self.mixtures)

    @classmethod
    def unknown(cls) -> Project:
        """Return one of which nothing is known."""
        return cls({}, {}, {})

    def missing(self, language: str) -> str | None:
        """Say that a fitted project knows no names of a language; None if it does, or is not."""
        if not self.is_fitted or table_key(language) in self.tables:
            return None
        return (
            f"The run was fitted to no file in {language}, only to {' and '.join(self.tables)}: no "
            "names but those of the open text are known, and the weights are those of another "
            "language. `seqmlm code fit` with files of it changes that."
        )

    def table(self, language: str) -> ContextTable:
        """Return the counts of a language; empty ones if there is none of it."""
        return self.tables.get(table_key(language), _NO_TABLE)

    def mixture(self, language: str) -> Mixture:
        """Return the weights for a language; those of another one if it has none of its own."""
        others = [*self.mixtures.values(), _TYPICAL]
        return self.mixtures.get(table_key(language), others[0])

    def save(self, run: Path) -> Path:
        """Write it into a run folder, in place of an earlier one, and return where it is.

        Killed at any moment, it leaves the earlier one or the new one.

        Raises:
            CheckpointError: there is no model, or the folder cannot be written.
        """
        folder = _run_of(run) / _FOLDER
        make_directory(folder)
        remove_leftovers(folder)
        earlier = [path for path in folder.iterdir() if path.is_dir()]
        counts = _unused(folder)
        with new_directory(counts) as temporary:
            for key, table in self.tables.items():
                (temporary / key).mkdir()
                table.save(temporary / key)
        content = {
            "version": _VERSION,
            "weights": {key: mixture.to_json() for key, mixture in self.mixtures.items()},
            "counts": counts.name,
            "tables": list(self.tables),
            "report": self.report,
        }
        # From here on a reader finds the new project; before it, the one that was there.
        write_file(folder / _WEIGHTS_FILE, json.dumps(content, indent=1) + "\n")
        for path in earlier:
            remove_directory(path)
        return folder

    @classmethod
    def load(cls, run: Path) -> Project:
        """Read what :meth:`save` wrote; nothing is known if it wrote nothing.

        Raises:
            CheckpointError: there is no model, or a file is damaged or of another version.
        """
        path = _run_of(run) / _FOLDER / _WEIGHTS_FILE
        if not path.is_file():
            return cls.unknown()
        try:
            content = json.loads(path.read_text())
            version = content.get("version", 1)
            weights, tables = content["weights"], content["tables"]
            counts = path.parent / content["counts"]
            report = content["report"]
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path} cannot be read: {error!r}. Run `seqmlm code fit` again."
            ) from error
        if version != _VERSION:
            raise CheckpointError(
                f"{path}: it is of version {version}, and this program reads version {_VERSION}, "
                "which cuts code into other tokens. Run `seqmlm code fit` again."
            )
        return cls(
            {key: ContextTable.load(counts / key) for key in tables},
            {key: Mixture.from_json(of_key) for key, of_key in weights.items()},
            report,
        )


def table_key(language: str) -> str:
    """Return the language under which the names of a language are counted: TSX is TypeScript."""
    lexicon = LANGUAGES[language].lexicon
    return next(name for name, other in LANGUAGES.items() if other.lexicon is lexicon)


def count_names(
    files: Iterable[SourceTokens],
    *,
    places: Mapping[SourceTokens, str] = MappingProxyType({}),
    on_parsed: Callable[[int], None] = lambda files: None,
    on_failed: Callable[[SourceTokens, str], None] = lambda file, reason: _warn(reason),
) -> dict[str, ContextTable]:
    """Return the counts of files of any languages.

    They are parsed for the roles and types of names, in a child process; one that cannot be is not
    counted.

    Args:
        files: with their language.
        places: paths of the files inside the project: by these others import what they declare.
        on_parsed: called with the files done.
        on_failed: called with a file that cannot be parsed, and why; warns if absent.
    """
    by_key: dict[str, list[SourceTokens]] = {}
    parsed: dict[tuple[str, str], ParsedText] = {}
    with ParserProcess() as parser:
        for done, tokens in enumerate(files, start=1):
            try:
                parsed[tokens.text, tokens.language] = parser.parse(tokens.text, tokens.language)
                by_key.setdefault(table_key(tokens.language), []).append(tokens)
            except ParsingFailed as error:
                on_failed(tokens, str(error))
            on_parsed(done)
    return {
        key: ContextTable.of(
            own,
            parse=lambda text, language: parsed[text, language],
            places={file: places[file] for file in own if file in places},
        )
        for key, own in by_key.items()
    }


def _warn(reason: str) -> None:
    _logger.warning("A file is not counted: %s.", reason)


def read_trained_length(run: Path) -> int | None:
    """Return the tokens of the longest sequence that a model was trained on.

    None if its run is not there to tell, as of a model's folder that is on its own.

    Raises:
        CheckpointError: there is no model.
        ConfigError: the settings of the run cannot be read.
    """
    path = _run_of(run) / "config.toml"
    if not path.is_file():
        return None
    length = read_config_file(path).get("data", {}).get("max_length")
    return length if isinstance(length, int) else None


def _unused(folder: Path) -> Path:
    numbers = (path.name.removeprefix(_COUNTS) for path in folder.glob(f"{_COUNTS}*"))
    return folder / f"{_COUNTS}{1 + max(map(int, filter(str.isdecimal, numbers)), default=0)}"


def _run_of(path: Path) -> Path:
    """What holds the ``model`` folder, or a model's folder that is on its own."""
    folder = find_model_folder(path)
    return folder.parent if folder.name == "model" else folder


_NO_TABLE: Final = ContextTable.of([])
_TYPICAL: Final = Mixture.typical()
