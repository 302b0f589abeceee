"""What a link predictor keeps beside its model, and where it finds it in a run of the trainer."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from seqmlm.atomic_files import new_directory, remove_directory
from seqmlm.config import read_config_file, validate
from seqmlm.data.prepare import open_store
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.errors import CheckpointError, ConfigError
from seqmlm.evaluation.run import require_same_data
from seqmlm.model.model_folder import file_sha256, find_model_folder, read_model_config
from seqmlm.training.workload import split_of_run
from seqmlm_domains.kg.domain import TOKENIZER_FILE, require_graph_domain
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.ranking import Triples
from seqmlm_domains.kg.text_scale import TextScale

logger = logging.getLogger("seqmlm")

FOLDER: Final = "predictor"
_SETTINGS = "predictor.json"


@dataclass(frozen=True)
class KnownTriples:
    """What a model was trained and chosen on.

    Args:
        training: int64 ``[n, 3]``, numbers of head, relation and tail.
        validation: int64 ``[m, 3]``.
        max_length: tokens of a sequence at most, in training and so in any query.
    """

    training: Triples
    validation: Triples
    max_length: int

    @property
    def all(self) -> Triples:
        """Both, int64 ``[n + m, 3]``."""
        return np.concatenate([self.training, self.validation])


def triples_of_run(run: Path, domain: Domain) -> KnownTriples:
    """Return the triples of a run, from its data or their store.

    Args:
        run: folder of a run of the trainer.
        domain: of its model.

    Raises:
        ConfigError: the folder is no run.
        DataError: its data cannot be read, or is not what it was.
    """
    path = run / "config.toml"
    if not path.is_file():
        raise ConfigError(
            f"{run}: neither saved by a link predictor nor a run folder. A model alone does not "
            "know which triples are known: give the run it comes from."
        )
    graph = require_graph_domain(domain).graph
    config = validate(read_config_file(path))
    store = open_store(domain, config.data.sources)
    split = split_of_run(config, domain, store)
    require_same_data(run, store, split)
    is_held_out = np.zeros(len(store), np.bool_)
    is_held_out[split.validation] = True
    is_held_out = is_held_out[store.lengths > 0]
    triples = triples_of_store(store, num_relations=len(graph.relations))
    return KnownTriples(triples[~is_held_out], triples[is_held_out], config.data.max_length)


def data_folder_of_run(run: Path) -> Path:
    """Return the folder of the files that a run was trained on, which may hold test triples.

    Raises:
        ConfigError: it is no run, or was not trained on a folder that is still there.
    """
    path = run / "config.toml"
    sources = validate(read_config_file(path)).data.sources if path.is_file() else []
    folders = [Path(source) for source in sources if Path(source).is_dir()]
    folders = [folder for folder in folders if not (folder / "store.json").is_file()]
    if len(folders) != 1:
        raise ConfigError(
            f"{run} does not say where its test triples are. Give their folder with --data."
        )
    return folders[0]


def triples_of_store(store: TokenStore, *, num_relations: int) -> Triples:
    """Return what a store holds, int64 ``[triples, 3]``: its entities follow the relations."""
    triples: Triples = store.tokens.astype(np.int64).reshape(-1, 3)
    triples[:, [Part.HEAD, Part.TAIL]] -= num_relations
    return triples


@dataclass(frozen=True)
class SavedPredictor:
    """What lies beside a model.

    Args:
        known: what the model was trained and chosen on.
        settings: how it scores, as plain JSON values.
        text_scale: of entities without an own token, if they need one.
    """

    known: KnownTriples
    settings: dict[str, Any]
    text_scale: TextScale | None


def save_predictor(folder: Path, predictor: SavedPredictor) -> None:
    """Write ``predictor/`` in the folder of a model, or of its run, in place of an older one.

    It names the model, and is taken for no other one.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    known, scale = predictor.known, predictor.text_scale
    settings = {
        "model_sha256": model_sha256(folder),
        "max_length": known.max_length,
        "text_scale": None if scale is None else scale.to_json(),
        **predictor.settings,
    }
    fresh = folder / f"{FOLDER}-{os.getpid()}"
    if fresh.exists():
        remove_directory(fresh)
    with new_directory(fresh) as temporary:
        np.save(temporary / "training.npy", known.training)
        np.save(temporary / "validation.npy", known.validation)
        if scale is not None:
            np.save(temporary / "text_prior.npy", scale.prior.table)
        text = json.dumps(settings, indent=1, ensure_ascii=False)
        (temporary / _SETTINGS).write_text(text + "\n", encoding="utf-8")
    target = folder / FOLDER
    if target.exists():
        remove_directory(target)
    fresh.rename(target)


def load_predictor(folder: Path) -> SavedPredictor | None:
    """Read what :func:`save_predictor` wrote.

    Returns:
        None if nothing was written, or in a run that has another model by now.

    Raises:
        CheckpointError: it is damaged, or the model is another one and there is no run.
    """
    path = folder / FOLDER
    if not path.is_dir():
        return None
    try:
        settings: dict[str, Any] = json.loads((path / _SETTINGS).read_text(encoding="utf-8"))
        if settings["model_sha256"] != model_sha256(folder):
            _require_run(folder)
            return None
        training, validation = (_array(path / f"{name}.npy") for name in ("training", "validation"))
        scale = settings["text_scale"]
        return SavedPredictor(
            KnownTriples(training, validation, settings["max_length"]),
            settings,
            None if scale is None else TextScale.of(scale, _array(path / "text_prior.npy")),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}") from error


def model_sha256(folder: Path) -> str:
    """Return a checksum of the weights and the graph of a model or of a run's model.

    Raises:
        CheckpointError: there is none.
    """
    model = find_model_folder(folder)
    parts = read_model_config(model)["weights_sha256"], file_sha256(model / TOKENIZER_FILE)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _require_run(folder: Path) -> None:
    """Refuse another model but in a run, which can be trained on."""
    if not (folder / "config.toml").is_file():
        raise CheckpointError(
            f"{folder}: the predictor was saved with another model than the one that is there. "
            "Copy both from where they come from."
        )
    logger.info("%s: the model is another one by now; its scores are fitted anew", folder)


def _array(path: Path) -> Any:
    return np.load(path, allow_pickle=False)
