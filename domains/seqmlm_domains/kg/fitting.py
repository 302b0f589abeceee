"""Triples from anywhere to a finished run of the shared trainer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from seqmlm.config import RunConfig, configure
from seqmlm.data.prepare import prepare
from seqmlm.domain import build_domain
from seqmlm.errors import DataError
from seqmlm.training.loop import train as train_run
from seqmlm_domains.kg.triples import NameAndDescription, StatedTriple

PATIENCE: Final = 5
"""Evaluations without a better filtered MRR after which training stops."""

EVALUATIONS: Final = 20
"""How often the validation triples are looked at in a run that is not stopped."""


def run_on_folder(
    folder: str | Path,
    run: Path,
    *,
    settings: Mapping[str, Any],
    seed: int,
    console: Console | None,
) -> RunConfig:
    """Train on the files of a folder."""
    config = _configuration(str(folder), settings, seed)
    train_run(config, run, console=console)
    return config


def run_on_triples(
    train: Iterable[StatedTriple],
    run: Path,
    *,
    validation: Iterable[StatedTriple] | None,
    entity_texts: Mapping[str, NameAndDescription],
    relation_texts: Mapping[str, NameAndDescription],
    settings: Mapping[str, Any],
    seed: int,
    console: Console | None,
    scratch: Path,
) -> RunConfig:
    """Train on triples from memory; ``scratch``, an empty folder, gets their files."""
    data, store = scratch / "data", scratch / "store"
    data.mkdir()
    write_graph(
        data,
        train=train,
        validation=validation,
        entity_texts=entity_texts,
        relation_texts=relation_texts,
    )
    config = _configuration(str(data), settings, seed)
    # A store of its own: what was in memory leaves nothing in the cache.
    prepare(build_domain(config.domain.model_dump()), [str(data)], store)
    section = config.data.model_copy(update={"sources": [str(store)]})
    config = config.model_copy(update={"data": section})
    train_run(config, run, console=console)
    return config


def write_graph(
    folder: Path,
    *,
    train: Iterable[StatedTriple],
    validation: Iterable[StatedTriple] | None,
    entity_texts: Mapping[str, NameAndDescription],
    relation_texts: Mapping[str, NameAndDescription],
) -> None:
    """Write a folder as :meth:`~seqmlm_domains.kg.graph_folder.GraphFolder.find` knows it.

    Raises:
        DataError: a triple has not three strings, or a string has a tab or a line break.
    """
    parts = {"train": train} | ({} if validation is None else {"valid": validation})
    for name, triples in parts.items():
        with (folder / f"{name}.tsv").open("w", encoding="utf-8", newline="\n") as file:
            # Without a header of our own, a first triple (h, r, t) would be taken for one.
            file.write("head\trelation\ttail\n")
            file.writelines(
                _line(triple, f"{name}: triple {number}")
                for number, triple in enumerate(triples, start=1)
            )
    for name, texts in {"entities": entity_texts, "relations": relation_texts}.items():
        if not texts:
            continue
        with (folder / f"{name}.tsv").open("w", encoding="utf-8", newline="\n") as file:
            file.write("id\tname\tdescription\n")
            for identifier, text in texts.items():
                words = (" ".join(part.split()) for part in (text.name, text.description))
                file.write(_line((identifier, *words), f"{name}: {identifier!r}"))


def _configuration(source: str, settings: Mapping[str, Any], seed: int) -> RunConfig:
    """The domain's defaults, those of a predictor, and what is given."""
    given = {"training.patience": PATIENCE, "training.seed": seed, **settings}
    overrides = [f"{name}={json.dumps(value)}" for name, value in given.items()]
    config = configure(domain="kg", sources=[source], overrides=overrides)
    if "training.evaluate_every" in settings:
        return config
    every = max(1, config.training.steps // EVALUATIONS)
    training = config.training.model_copy(update={"evaluate_every": every})
    return config.model_copy(update={"training": training})


def _line(fields: object, place: str) -> str:
    """Three fields of a TSV file."""
    if not isinstance(fields, tuple | list) or len(fields) != 3:
        raise DataError(f"{place}: {fields!r}; it must be (head, relation, tail), three strings.")
    for field in fields:
        if not isinstance(field, str):
            raise DataError(f"{place}: {field!r} is no string. Write identifiers as strings.")
        if "\t" in field or len(field.splitlines()) > 1:
            raise DataError(f"{place}: {field!r} has a tab or a line break. Replace it.")
    return "\t".join(fields) + "\n"
