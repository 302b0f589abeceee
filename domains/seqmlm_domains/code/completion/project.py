"""What is fitted to a project beside the model: its names, their contexts, and the weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from seqmlm.atomic_files import new_directory, remove_directory
from seqmlm.errors import CheckpointError
from seqmlm.model.model_folder import find_model_folder
from seqmlm_domains.code.completion.context_table import ContextTable
from seqmlm_domains.code.completion.mixture import Mixture
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.parser_process import ParserProcess, ParsingFailed
from seqmlm_domains.code.source_tokens import SourceTokens
from seqmlm_domains.code.syntax import NO_IDENTIFIERS, IdentifierArray

_FOLDER: Final = "completion"
_WEIGHTS_FILE: Final = "weights.json"


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

    @classmethod
    def unknown(cls) -> Project:
        """Return one of which nothing is known."""
        return cls({}, {}, {})

    def table(self, language: str) -> ContextTable:
        """Return the counts of a language; empty ones if there is none of it."""
        return self.tables.get(table_key(language), _NO_TABLE)

    def mixture(self, language: str) -> Mixture:
        """Return the weights for a language; those of another one if it has none of its own."""
        others = [*self.mixtures.values(), _UNFITTED]
        return self.mixtures.get(table_key(language), others[0])

    def save(self, run: Path) -> Path:
        """Write it into a run folder, in place of an earlier one, and return where it is.

        Raises:
            CheckpointError: there is no model, or the folder cannot be written.
        """
        folder = _folder_of(run)
        fresh = folder.with_name(f"{folder.name}-new")
        if fresh.exists():
            remove_directory(fresh)
        with new_directory(fresh) as temporary:
            for key, table in self.tables.items():
                (temporary / key).mkdir()
                table.save(temporary / key)
            weights = {key: mixture.to_json() for key, mixture in self.mixtures.items()}
            content = {"weights": weights, "tables": list(self.tables), "report": self.report}
            (temporary / _WEIGHTS_FILE).write_text(json.dumps(content, indent=1) + "\n")
        if folder.exists():
            remove_directory(folder)
        fresh.rename(folder)
        return folder

    @classmethod
    def load(cls, run: Path) -> Project:
        """Read what :meth:`save` wrote; nothing is known if it wrote nothing.

        Raises:
            CheckpointError: there is no model, or a file is damaged or of another version.
        """
        folder = _folder_of(run)
        if not folder.is_dir():
            return cls.unknown()
        path = folder / _WEIGHTS_FILE
        try:
            content = json.loads(path.read_text())
            weights, tables = content["weights"], content["tables"]
            report = content["report"]
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path} cannot be read: {error!r}. Run `seqmlm code fit` again."
            ) from error
        return cls(
            {key: ContextTable.load(folder / key) for key in tables},
            {key: Mixture.from_json(of_key) for key, of_key in weights.items()},
            report,
        )


def table_key(language: str) -> str:
    """Return the language under which the names of a language are counted: TSX is TypeScript."""
    lexicon = LANGUAGES[language].lexicon
    return next(name for name, other in LANGUAGES.items() if other.lexicon is lexicon)


def count_names(files: Iterable[SourceTokens]) -> dict[str, ContextTable]:
    """Return the counts of files of any languages.

    They are parsed for the roles of names, in a child process; of one that cannot be, the roles are
    not counted.
    """
    by_key: dict[str, list[SourceTokens]] = {}
    for tokens in files:
        by_key.setdefault(table_key(tokens.language), []).append(tokens)
    with ParserProcess() as parser:

        def find(text: str, language: str) -> IdentifierArray:
            try:
                return parser.parse(text, language).identifiers
            except ParsingFailed:
                return NO_IDENTIFIERS

        return {key: ContextTable.of(own, find=find) for key, own in by_key.items()}


def _folder_of(run: Path) -> Path:
    """Beside the ``model`` folder of a run, or in a model's folder that is on its own."""
    folder = find_model_folder(run)
    return (folder.parent if folder.name == "model" else folder) / _FOLDER


_NO_TABLE: Final = ContextTable.of([])
_UNFITTED: Final = Mixture.unfitted()
