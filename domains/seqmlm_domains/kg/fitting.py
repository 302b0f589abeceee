"""Triples from anywhere to a finished run of the shared trainer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from seqmlm.config import RunConfig, configure, validate
from seqmlm.data.prepare import prepare
from seqmlm.domain import build_domain
from seqmlm.errors import ConfigError
from seqmlm.training.loop import train as train_run
from seqmlm.training.progress import RunStopped
from seqmlm_domains.kg.graph_in_memory import SOURCE, GraphInMemory, InMemoryDomain
from seqmlm_domains.kg.triples import NameAndDescription, StatedTriple

if TYPE_CHECKING:
    import networkx

PATIENCE: Final = 5
"""Evaluations without a better filtered MRR after which training stops."""

EVALUATIONS: Final = 20
"""How often the validation triples are looked at in a run that is not stopped."""


def run_on(
    train: str | Path | Iterable[StatedTriple] | networkx.MultiDiGraph,
    run: Path,
    *,
    validation: Iterable[StatedTriple] | networkx.MultiDiGraph | None,
    entity_texts: Mapping[str, NameAndDescription],
    relation_texts: Mapping[str, NameAndDescription],
    settings: Mapping[str, Any],
    seed: int,
    console: Console | None,
    scratch: Path,
) -> RunConfig:
    """Train on the files of a folder, or on what is in memory.

    Args:
        train: see :meth:`~seqmlm_domains.kg.predictor.LinkPredictor.fit`, as for what follows.
        run: folder of the run.
        validation: in memory.
        entity_texts: in memory.
        relation_texts: in memory.
        settings: of the run.
        seed: of the run.
        console: where progress goes.
        scratch: an empty folder that is deleted afterwards; ``run`` may lie in it.

    Raises:
        RunStopped: by a signal; says whether the run can be resumed.
    """
    if not isinstance(train, str | Path):
        graph = GraphInMemory.of(
            train, validation=validation, entity_texts=entity_texts, relation_texts=relation_texts
        )
        config = _prepared(graph, scratch / "store", settings, seed)
        with _nothing_to_resume("on triples from memory"):
            train_run(config, run, console=console)
        return config
    if validation is not None or entity_texts or relation_texts:
        raise ConfigError(
            f"train = {str(train)!r}: files bring their validation triples and texts with them. "
            "Leave out the other arguments, or give triples."
        )
    config = _configuration(str(train), settings, seed)
    is_temporary = run.is_relative_to(scratch)
    with _nothing_to_resume("in a temporary folder") if is_temporary else nullcontext():
        train_run(config, run, console=console)
    return config


def _prepared(
    graph: GraphInMemory, store: Path, settings: Mapping[str, Any], seed: int
) -> RunConfig:
    """The configuration of a run on a store that a graph is written to."""
    if graph.validation is not None and not graph.validation:
        settings = {"data.validation_fraction": 0, **settings}  # the trainer would hold some out
    config = _configuration(SOURCE, settings, seed)
    # A store of its own: what was in memory leaves nothing in the cache.
    domain = build_domain(config.domain.model_dump())
    prepare(InMemoryDomain(graph, domain.options), [SOURCE], store)
    section = config.data.model_copy(update={"sources": [str(store)]})
    return config.model_copy(update={"data": section})


@contextmanager
def _nothing_to_resume(what: str) -> Iterator[None]:
    """Say so where the trainer would say how to go on with a run."""
    try:
        yield
    except RunStopped as stop:
        raise RunStopped(
            stop.exit_code,
            f"stopped by a signal; a run {what} cannot be resumed. To be able to, train on a "
            "folder of files and give an output.",
        ) from stop


def _configuration(source: str, settings: Mapping[str, Any], seed: int) -> RunConfig:
    """The domain's defaults, those of a predictor, and what is given."""
    given = {"training.patience": PATIENCE, "training.seed": seed, **settings}
    tables = {name: value for name, value in given.items() if isinstance(value, list | Mapping)}
    overrides = [
        f"{name}={json.dumps(value)}" for name, value in given.items() if name not in tables
    ]
    config = configure(domain="kg", sources=[source], overrides=overrides)
    if tables:  # such as the list of objectives, which no command line can hold
        content = config.model_dump()
        for name, value in tables.items():
            section, _, key = name.rpartition(".")
            (content.setdefault(section, {}) if section else content)[key] = value
        config = validate(content)
    if "training.evaluate_every" in settings:
        return config
    every = max(1, config.training.steps // EVALUATIONS)
    training = config.training.model_copy(update={"evaluate_every": every})
    return config.model_copy(update={"training": training})
