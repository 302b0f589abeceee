"""The files of a knowledge graph in a folder, recognised by name."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from seqmlm.errors import DataError, suggestion
from seqmlm_domains.kg.rdf import RDF_SUFFIXES, is_rdf
from seqmlm_domains.kg.triples import (
    TRIPLE_SUFFIXES,
    NameAndDescription,
    delimited_rows,
    is_json,
    read_stated_texts,
    read_texts,
)

TEXT_SUFFIXES: Final = (".tsv", ".txt", ".csv", ".json", *RDF_SUFFIXES)


@dataclass(frozen=True)
class GraphFolder:
    """Where the parts of a graph lie.

    Args:
        train: file of the training triples.
        validation: of those that choose between models; None if there is none.
        test: of those that are kept for the end; None if there is none.
        entity_texts: of names and descriptions; None if there is none.
        entity_descriptions: of longer descriptions; None if there is none.
        relation_texts: as for entities.
        unused: files of texts that another one takes precedence over.
        without_texts: files named like texts that hold identifiers alone.
    """

    train: Path
    validation: Path | None = None
    test: Path | None = None
    entity_texts: Path | None = None
    entity_descriptions: Path | None = None
    relation_texts: Path | None = None
    unused: tuple[Path, ...] = ()
    without_texts: tuple[Path, ...] = ()

    @classmethod
    def find(cls, folder: Path) -> GraphFolder:
        """Recognise the files of a folder by name.

        Triples: ``train``, ``valid``, ``validation`` or ``dev``, and ``test``, with a suffix of
        :data:`~seqmlm_domains.kg.triples.TRIPLE_SUFFIXES`. Texts, with one of
        :data:`TEXT_SUFFIXES`: ``entities`` or else ``entity2text``; ``entity2textlong`` or else
        ``entity2wikidata``; ``relations`` or else ``relation2text``. A file of identifiers alone
        holds no texts. Each also with ``.gz``.

        Raises:
            DataError: it is no readable folder, there are no training triples, or two files of
                one kind.
        """
        try:
            files = sorted(entry for entry in folder.iterdir() if entry.is_file())
        except OSError as error:
            raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from error

        def triples(*stems: str) -> Path | None:
            wanted = [path for path in files if _is_called(path, stems, TRIPLE_SUFFIXES)]
            return _only(folder, wanted)

        unused: list[Path] = []
        without_texts: list[Path] = []

        def texts(*stems: str) -> Path | None:
            of_stems = [
                [path for path in files if _is_called(path, (stem,), TEXT_SUFFIXES)]
                for stem in stems
            ]
            with_texts = [[path for path in found if _has_texts(path)] for found in of_stems]
            without_texts.extend({*chain(*of_stems)} - {*chain(*with_texts)})
            chosen = [path for found in with_texts if (path := _only(folder, found)) is not None]
            unused.extend(chosen[1:])
            return chosen[0] if chosen else None

        train = triples("train")
        if train is None:
            raise DataError(
                f"{folder}: no training triples; looked for train{', train'.join(TRIPLE_SUFFIXES)}"
                f".{suggestion('train.tsv', [path.name for path in files])} Name the file itself "
                "to read a graph without a split."
            )
        return cls(
            train,
            triples("valid", "validation", "dev"),
            triples("test"),
            texts("entities", "entity2text"),
            texts("entity2textlong", "entity2wikidata"),
            texts("relations", "relation2text"),
            tuple(unused),
            tuple(sorted(without_texts)),
        )

    @property
    def parts(self) -> dict[str, Path]:
        """The files of triples that there are: ``train``, ``validation`` and ``test``."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {part: path for part, path in parts.items() if path is not None}


def entity_texts(folder: GraphFolder) -> dict[str, NameAndDescription]:
    """Return the texts of all entities.

    What the files of texts say goes before the labels within RDF triples, and the file of longer
    descriptions before the other.
    """
    texts: dict[str, NameAndDescription] = {}
    for path in folder.parts.values():
        if is_rdf(path):
            texts = read_stated_texts(path).entities | texts
    if folder.entity_texts is not None:
        texts |= read_texts(folder.entity_texts)
    if folder.entity_descriptions is not None:
        for identifier, text in _descriptions(folder.entity_descriptions).items():
            known = texts.get(identifier, NameAndDescription(""))
            texts[identifier] = NameAndDescription(
                known.name or text.name, text.description or known.description
            )
    return texts


def relation_texts(folder: GraphFolder) -> dict[str, NameAndDescription]:
    """Return the texts of all relations; a file of texts goes before labels within triples."""
    texts: dict[str, NameAndDescription] = {}
    for path in folder.parts.values():
        if is_rdf(path):
            texts = read_stated_texts(path).relations | texts
    if folder.relation_texts is not None:
        texts |= read_texts(folder.relation_texts)
    return texts


def _descriptions(path: Path) -> dict[str, NameAndDescription]:
    """Texts whose second column, in a table of two, is the description and not the name."""
    texts = read_texts(path)
    if is_json(path) or is_rdf(path):
        return texts
    return {
        identifier: text if text.description else NameAndDescription("", text.name)
        for identifier, text in texts.items()
    }


def _is_called(path: Path, stems: tuple[str, ...], suffixes: tuple[str, ...]) -> bool:
    """Whether a name is one of the stems and one of the suffixes, perhaps with ``.gz``."""
    inner = Path(path.name.removesuffix(".gz"))
    return inner.stem in stems and inner.suffix in suffixes


def _only(folder: Path, found: list[Path]) -> Path | None:
    if len(found) > 1:
        both = " and ".join(path.name for path in found)
        raise DataError(f"{folder}: {both} are two files for one purpose. Keep one.")
    return found[0] if found else None


def _has_texts(path: Path) -> bool:
    """Whether a file has more than a column of identifiers, in any line."""
    if is_json(path) or is_rdf(path):
        return True
    return any(len(fields) > 1 for _, fields in delimited_rows(path))
