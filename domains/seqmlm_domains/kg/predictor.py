"""Link prediction for programs: train, ask, extend, evaluate, explain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
from rich.console import Console

from seqmlm.atomic_files import make_directory
from seqmlm.errors import CheckpointError, ConfigError, DataError
from seqmlm.model.model import Model
from seqmlm.model.model_folder import find_model_folder
from seqmlm.training.distributed import choose_device
from seqmlm_domains.kg.answers import KnownAnswers
from seqmlm_domains.kg.calibration import Calibration
from seqmlm_domains.kg.calibration_queries import (
    MOST_TRIPLES,
    calibrate_entities,
    calibrate_relations,
    evenly,
)
from seqmlm_domains.kg.domain import require_graph_domain
from seqmlm_domains.kg.evaluation import (
    evaluate_links,
    read_test_triples,
    warn_of_leakage,
    with_entities_of,
)
from seqmlm_domains.kg.explanation import Explanation, explain
from seqmlm_domains.kg.fitting import run_on_folder, run_on_triples
from seqmlm_domains.kg.graph import GraphVocabulary
from seqmlm_domains.kg.linearisation import End, Part
from seqmlm_domains.kg.link_queries import LinkQueries
from seqmlm_domains.kg.link_scores import LinkScorer, numbered, scores_of
from seqmlm_domains.kg.metrics import RankingReport
from seqmlm_domains.kg.own_weight import with_best_own_weight
from seqmlm_domains.kg.predictions import TripleScore
from seqmlm_domains.kg.predictor_folder import (
    KnownTriples,
    load_predictor,
    save_predictor,
    triples_of_run,
)
from seqmlm_domains.kg.scorer import Normalise
from seqmlm_domains.kg.triples import NameAndDescription, StatedTriple

Texts = Mapping[str, str | NameAndDescription]
"""Names, or names and descriptions, by identifier."""

_NONE: Mapping[str, Any] = MappingProxyType({})


class LinkPredictor(LinkQueries):
    """Answers what is missing in a triple. Made by :meth:`fit` or :meth:`load`.

    Entities and relations are given by their identifiers; an unknown one is a
    :class:`~seqmlm.errors.DataError` that names a similar one.

    Args:
        model: trained on a graph.
        known: what it was trained and chosen on.
        normalise: how likelihoods of tokens make a score; see
            :meth:`~seqmlm_domains.kg.scorer.EntityScorer.of`.
        end: what is scored after a name; as trained if None.
        own_weight: of an entity's own token against its text; see
            :meth:`~seqmlm_domains.kg.scorer.EntityScorer.of`. Chosen on ``known.validation`` if
            None, where entities have both.
        calibration: of the probabilities of entities; fitted on ``known.validation`` if None,
            which costs an encoder pass for up to 500 queries.
        relation_calibration: of those of relations, likewise.
        entity_types: types of entities, by identifier.
    """

    def __init__(
        self,
        model: Model,
        *,
        known: KnownTriples,
        normalise: Normalise = "mean",
        end: End | None = None,
        own_weight: float | None = None,
        calibration: Calibration | None = None,
        relation_calibration: Calibration | None = None,
        entity_types: Mapping[str, Sequence[str]] = _NONE,
    ) -> None:
        scorer = LinkScorer.of(model, normalise=normalise, end=end, own_weight=own_weight)
        if own_weight is None and scorer.domain.options["entities"] == "both":
            chosen = evenly(known.validation, MOST_TRIPLES)
            scorer, _ = with_best_own_weight(scorer, chosen, known_triples=known.all)
        answers = {part: KnownAnswers.of(known.all, part) for part in Part}
        super().__init__(
            scorer,
            answers=answers,
            calibration=calibration
            or calibrate_entities(scorer, known.validation, excluded=answers),
            relation_calibration=relation_calibration
            or calibrate_relations(scorer, known.validation, excluded=answers[Part.RELATION]),
        )
        self._model, self._known = model, known
        self.set_entity_types(entity_types)

    @classmethod
    def fit(
        cls,
        train: str | Path | Iterable[StatedTriple],
        *,
        validation: Iterable[StatedTriple] | None = None,
        entity_texts: Texts = _NONE,
        relation_texts: Texts = _NONE,
        seed: int = 0,
        settings: Mapping[str, Any] = _NONE,
        output: str | Path | None = None,
        normalise: Normalise = "mean",
        console: Console | None = None,
    ) -> Self:
        """Train a model, keep the best by filtered validation MRR, calibrate its probabilities.

        The same as ``seqmlm train --domain kg``, for what is in memory too. Training stops after
        :data:`~seqmlm_domains.kg.fitting.PATIENCE` evaluations without a better MRR, unless
        ``settings`` has another ``training.patience``. Filtering knows the training and
        validation triples alone.

        Args:
            train: triples of identifiers; or a folder with training and validation triples and
                texts.
            validation: chooses between models; without it the trainer holds out some of ``train``.
            entity_texts: names, or names and descriptions, also of entities in no triple.
            relation_texts: likewise.
            seed: of everything random.
            settings: of the run, by dotted name: ``{"training.steps": 3000}``.
            output: folder of the run, which :meth:`load` reads; a temporary one if None. A run on
                triples from memory cannot be resumed.
            normalise: see the class.
            console: where a progress bar goes, such as ``rich.console.Console(stderr=True)``.

        Raises:
            ConfigError: a setting is not usable.
            DataError: a triple or a text is not usable.
        """
        with TemporaryDirectory(prefix="seqmlm-") as scratch:
            run = Path(output) if output is not None else Path(scratch) / "run"
            if isinstance(train, str | Path):
                if validation is not None or entity_texts or relation_texts:
                    raise ConfigError(
                        f"train = {str(train)!r}: files bring their validation triples and texts "
                        "with them. Leave out the other arguments, or give triples."
                    )
                config = run_on_folder(train, run, settings=settings, seed=seed, console=console)
            else:
                config = run_on_triples(
                    train,
                    run,
                    validation=validation,
                    entity_texts=_texts(entity_texts),
                    relation_texts=_texts(relation_texts),
                    settings=settings,
                    seed=seed,
                    console=console,
                    scratch=Path(scratch),
                )
            model = Model.load(run, device=choose_device(config.training.device))
            predictor = cls(model, known=triples_of_run(run, model.domain), normalise=normalise)
            if output is not None:
                predictor.save(output)
        return predictor

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", backend: str = "auto") -> Self:
        """Read what :meth:`save` wrote, or a run of ``seqmlm train --domain kg``.

        A run brings no calibration: it is fitted anew on its validation triples.

        Raises:
            CheckpointError: there is no model, or it is damaged.
            ConfigError: the model is of another domain, or nothing says what it was trained on.
            DataError: the data of the run is not what it was.
        """
        folder = Path(path)
        model = Model.load(folder, device=choose_device(device), backend=backend)
        require_graph_domain(model.domain)
        saved = load_predictor(folder)
        if saved is None:
            run = folder if (folder / "config.toml").is_file() else find_model_folder(folder).parent
            return cls(model, known=triples_of_run(run, model.domain))
        known, settings = saved
        try:
            return cls(
                model,
                known=known,
                normalise=settings["normalise"],
                end=settings["end"],
                own_weight=settings["own_weight"],
                calibration=Calibration.from_json(settings["calibration"]),
                relation_calibration=Calibration.from_json(settings["relation_calibration"]),
                entity_types=settings["entity_types"],
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"{folder}: the settings of the predictor lack {error}"
            ) from error

    def save(self, path: str | Path) -> None:
        """Write everything to a folder, which ``seqmlm.load`` reads too.

        Entities that were added are part of it.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        folder = Path(path)
        make_directory(folder)
        self._model.save(folder / "model")
        settings = {
            "normalise": self._scorer.normalise,
            "end": self._scorer.end,
            "own_weight": self._scorer.own_weight,
            "calibration": self._calibration.to_json(),
            "relation_calibration": self._relation_calibration.to_json(),
            "entity_types": {entity: sorted(types) for entity, types in self._types.items()},
        }
        save_predictor(folder, self._known, settings)

    def score_triples(self, triples: Iterable[StatedTriple]) -> list[TripleScore]:
        """Return the scores of heads and tails of triples, in their order.

        Raises:
            DataError: an entity or relation is unknown.
        """
        asked = numbered(self._domain, list(triples))
        heads, tails = (scores_of(self._scorer, asked, part) for part in (Part.HEAD, Part.TAIL))
        return [TripleScore(*pair) for pair in zip(heads.tolist(), tails.tolist(), strict=True)]

    def explain(
        self, head: str, relation: str, tail: str, *, missing: Literal["head", "tail"] = "tail"
    ) -> Explanation:
        """Take a score apart: tokens of the entity, and what each part of the query adds to it.

        Args:
            head: identifier, as are the next two.
            relation: see ``head``.
            tail: see ``head``.
            missing: whose score is explained, given the other two parts.

        Raises:
            DataError: an entity or relation is unknown.
        """
        ((first, second, third),) = numbered(self._domain, [(head, relation, tail)]).tolist()
        part = Part.HEAD if missing == "head" else Part.TAIL
        return explain(self._scorer, (first, second, third), part)

    def add_entity(self, entity: str, *, name: str = "", description: str = "") -> None:
        """Make an entity known by its name and description; see :meth:`add_entities`."""
        self.add_entities({entity: NameAndDescription(name, description)})

    def add_entities(self, entities: Texts) -> None:
        """Make entities known that nobody trained on; nothing is trained.

        They can then be given in queries and are candidates. The scores of all others stay the
        same to the last bit.

        Args:
            entities: names, or names and descriptions, by identifier; an empty name is made of
                the identifier.

        Raises:
            ConfigError: the model knows entities by a token of their own alone.
            DataError: one exists already.
        """
        if self._domain.options["entities"] == "id":
            raise ConfigError(
                "This model was trained with domain.entities = 'id': it cannot read the name of an "
                "entity that it was not trained on. Train one with 'both' or 'tokens'."
            )
        self._use(self._domain.graph.with_entities(_texts(entities)))

    def evaluate(
        self, test: str | Path | Iterable[StatedTriple], *, entity_texts: Texts = _NONE
    ) -> RankingReport:
        """Rank the true heads and tails of test triples among all entities.

        Training, validation and test triples are filtered out. Entities that only the test
        triples have are candidates too while this lasts, and reported apart.

        Args:
            test: triples; or a folder, whose test triples and texts are taken.
            entity_texts: of entities that the graph does not know.

        Raises:
            DataError: there is no triple, or a relation is unknown.
        """
        texts = _texts(entity_texts)
        if isinstance(test, str | Path):
            test, of_files = read_test_triples(Path(test))
            texts = {**of_files, **texts}
        triples = list(dict.fromkeys((head, relation, tail) for head, relation, tail in test))
        if not triples:
            raise DataError("There is no triple to evaluate.")
        graph = self._domain.graph
        try:
            with_entities_of(self._domain, triples, texts)
            asked = numbered(self._domain, triples)
            warn_of_leakage(asked, self._known.training)
            return evaluate_links(
                self._scorer.with_own_weight(self._scorer.own_weight),
                asked,
                training=self._known.training,
                known=np.concatenate([self._known.all, asked]),
            )
        finally:
            self._domain.use_graph(graph)

    def _use(self, graph: GraphVocabulary) -> None:
        self._domain.use_graph(graph)
        self._scorer = self._scorer.with_own_weight(self._scorer.own_weight)


def _texts(texts: Texts) -> dict[str, NameAndDescription]:
    return {
        identifier: NameAndDescription(text) if isinstance(text, str) else text
        for identifier, text in texts.items()
    }
