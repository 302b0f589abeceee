"""Link prediction for programs: train, ask, extend, evaluate, explain."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from rich.console import Console

from seqmlm.atomic_files import make_directory
from seqmlm.errors import CheckpointError, ConfigError, DataError
from seqmlm.model.model import Model
from seqmlm.model.model_folder import find_model_folder
from seqmlm.training.distributed import choose_device
from seqmlm_domains.kg.answers import KnownAnswers
from seqmlm_domains.kg.arguments import Texts, choice, stated_triples, texts_by_identifier
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
from seqmlm_domains.kg.fitting import run_on
from seqmlm_domains.kg.graph import GraphVocabulary
from seqmlm_domains.kg.linearisation import End, Part
from seqmlm_domains.kg.link_queries import LinkQueries
from seqmlm_domains.kg.link_scores import LinkScorer, numbered, scores_of
from seqmlm_domains.kg.metrics import RankingReport
from seqmlm_domains.kg.own_weight import with_best_own_weight
from seqmlm_domains.kg.predictions import TripleScore
from seqmlm_domains.kg.predictor_folder import FOLDER as PREDICTOR_FOLDER
from seqmlm_domains.kg.predictor_folder import (
    KnownTriples,
    SavedPredictor,
    load_predictor,
    save_predictor,
    triples_of_run,
)
from seqmlm_domains.kg.scorer import Normalise
from seqmlm_domains.kg.text_scale import TextScale
from seqmlm_domains.kg.text_scale_fit import fit_text_scale
from seqmlm_domains.kg.triples import NameAndDescription, StatedTriple

if TYPE_CHECKING:
    import networkx

logger = logging.getLogger("seqmlm")

MissingEntity = Literal["head", "tail"]

_NONE: Mapping[str, Any] = MappingProxyType({})


class LinkPredictor(LinkQueries):
    """Answers what is missing in a triple. Made by :meth:`fit` or :meth:`load`.

    Entities and relations are given by their identifiers; an unknown one is a
    :class:`~seqmlm.errors.DataError` that names a similar one.

    Args:
        model: trained on a graph.
        known: what it was trained and chosen on.
        normalise: how likelihoods of tokens make a score; ``domain.normalise`` if None. See
            :meth:`~seqmlm_domains.kg.scorer.EntityScorer.of`.
        end: what is scored after a name; as trained if None.
        own_weight: of an entity's own token against its text; see
            :meth:`~seqmlm_domains.kg.scorer.EntityScorer.of`. Chosen on ``known.validation`` if
            None, where entities have both.
        text_scale: of entities without an own token, where others have one; fitted on
            ``known.validation`` if None. See
            :func:`~seqmlm_domains.kg.text_scale_fit.fit_text_scale`.
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
        normalise: Normalise | None = None,
        end: End | None = None,
        own_weight: float | None = None,
        text_scale: TextScale | None = None,
        calibration: Calibration | None = None,
        relation_calibration: Calibration | None = None,
        entity_types: Mapping[str, Sequence[str]] = _NONE,
    ) -> None:
        scorer = LinkScorer.of(
            model, normalise=normalise, end=end, own_weight=own_weight, max_length=known.max_length
        )
        if own_weight is None and scorer.domain.options["entities"] == "both":
            chosen = evenly(known.validation, MOST_TRIPLES)
            scorer, _ = with_best_own_weight(scorer, chosen, known_triples=known.all)
        answers = {part: KnownAnswers.of(known.all, part) for part in Part}
        text_scale = text_scale or fit_text_scale(scorer, known.validation, excluded=answers)
        if text_scale is not None:
            scorer = scorer.with_text_scale(text_scale)
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
        train: str | Path | Iterable[StatedTriple] | networkx.MultiDiGraph,
        *,
        validation: Iterable[StatedTriple] | networkx.MultiDiGraph | None = None,
        entity_texts: Texts = _NONE,
        relation_texts: Texts = _NONE,
        seed: int = 0,
        settings: Mapping[str, Any] = _NONE,
        output: str | Path | None = None,
        normalise: Normalise | None = None,
        end: End | None = None,
        console: Console | None = None,
    ) -> Self:
        """Train a model, keep the best by filtered validation MRR, calibrate its probabilities.

        The same as ``seqmlm train --domain kg``, for what is in memory too. Training stops after
        :data:`~seqmlm_domains.kg.fitting.PATIENCE` evaluations without a better MRR, those during
        warm-up not counted, unless ``settings`` has another ``training.patience``. Filtering knows
        the training and validation triples alone.

        Args:
            train: triples of identifiers; a graph of networkx, with the ``name`` and
                ``description`` of its nodes; or a folder with training and validation triples and
                texts.
            validation: chooses between models; if None, the trainer holds out some of ``train``,
                and an empty list holds out none: the last model is kept.
            entity_texts: names, or names and descriptions. Entities in no triple become
                candidates known by their text, unless ``domain.entities`` is ``id``. What is shown
                of a description is ``settings={"domain.max_description_tokens": 32}``; by default
                it only tells equal names apart.
            relation_texts: likewise.
            seed: of everything random.
            settings: of the run, by dotted name: ``{"training.steps": 3000}``.
            output: folder of the run, which :meth:`load` reads; a temporary one if None. A run on
                triples from memory cannot be resumed.
            normalise: see the class, as for ``end``.
            end: of the scores; how names end in training is ``domain.end`` of the settings.
            console: where a progress bar goes, such as ``rich.console.Console(stderr=True)``.

        Raises:
            ConfigError: a setting is not usable.
            DataError: a triple or a text is not usable.
            RunStopped: by SIGTERM or SIGINT; says whether the run can be resumed.
        """
        with TemporaryDirectory(prefix="seqmlm-") as scratch:
            run = Path(output) if output is not None else Path(scratch) / "run"
            config = run_on(
                train,
                run,
                validation=validation,
                entity_texts=texts_by_identifier("entity_texts", entity_texts),
                relation_texts=texts_by_identifier("relation_texts", relation_texts),
                settings=settings,
                seed=seed,
                console=console,
                scratch=Path(scratch),
            )
            model = Model.load(run, device=choose_device(config.training.device))
            known = triples_of_run(run, model.domain)
            predictor = cls(model, known=known, normalise=normalise, end=end)
            if output is not None:
                predictor.save(output)
        return predictor

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "cpu",
        backend: str = "auto",
        normalise: Normalise | None = None,
        end: End | None = None,
    ) -> Self:
        """Read what :meth:`save` wrote, or a run of ``seqmlm train --domain kg``.

        What scores and probabilities need is fitted on the validation triples of a run when it is
        loaded for the first time, and kept in its folder, ``predictor/``, as long as the run has
        the same model. With another ``normalise`` or ``end`` it is fitted anew, and not kept.

        Args:
            path: of the folder.
            device: ``cpu``, ``cuda`` or ``auto``.
            backend: of the encoder.
            normalise: see the class; as saved if None, as for ``end``.
            end: see the class.

        Raises:
            CheckpointError: there is no model, or it is damaged.
            ConfigError: the model is of another domain, or nothing says what it was trained on.
            DataError: the data of the run is not what it was.
        """
        folder = Path(path)
        model = Model.load(folder, device=choose_device(device), backend=backend)
        require_graph_domain(model.domain)
        if not (folder / "config.toml").is_file() and not (folder / PREDICTOR_FOLDER).is_dir():
            folder = find_model_folder(folder).parent
        saved = load_predictor(folder)
        if saved is None:
            known = triples_of_run(folder, model.domain)
            predictor = cls(model, known=known, normalise=normalise, end=end)
            if normalise is None and end is None:
                predictor._keep_in(folder)
            return predictor
        settings = saved.settings
        try:
            kept = settings["normalise"], settings["end"]
            wanted = normalise or kept[0], end or kept[1]
            types = settings["entity_types"]
            if wanted != kept:
                return cls(
                    model, known=saved.known, normalise=wanted[0], end=wanted[1], entity_types=types
                )
            return cls(
                model,
                known=saved.known,
                normalise=kept[0],
                end=kept[1],
                own_weight=settings["own_weight"],
                text_scale=saved.text_scale,
                calibration=Calibration.from_json(settings["calibration"]),
                relation_calibration=Calibration.from_json(settings["relation_calibration"]),
                entity_types=types,
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
        save_predictor(folder, self._saved())

    def _keep_in(self, run: Path) -> None:
        """Keep in a run's folder what was fitted, if it can be written."""
        try:
            save_predictor(run, self._saved())
        except CheckpointError as error:
            logger.warning("what was fitted on validation triples is not kept: %s", error)

    def _saved(self) -> SavedPredictor:
        settings = {
            "normalise": self._scorer.normalise,
            "end": self._scorer.end,
            "own_weight": self._scorer.own_weight,
            "calibration": self._calibration.to_json(),
            "relation_calibration": self._relation_calibration.to_json(),
            "entity_types": {entity: sorted(types) for entity, types in self._types.items()},
        }
        return SavedPredictor(self._known, settings, self._scorer.text_scale)

    def score_triples(self, triples: Iterable[StatedTriple]) -> list[TripleScore]:
        """Return the scores of heads and tails of triples, in their order.

        Raises:
            ConfigError: they are no list of triples.
            DataError: an entity or relation is unknown, or a triple is not three strings.
        """
        stated = stated_triples(triples)
        asked = numbered(self._domain, stated)
        heads, tails = (scores_of(self._scorer, asked, part) for part in (Part.HEAD, Part.TAIL))
        return [
            TripleScore(head, tail, triple)
            for head, tail, triple in zip(heads.tolist(), tails.tolist(), stated, strict=True)
        ]

    def explain(
        self, head: str, relation: str, tail: str, *, missing: MissingEntity = "tail"
    ) -> Explanation:
        """Take a score apart: tokens of the entity, and what each part of the query adds to it.

        Args:
            head: identifier, as are the next two.
            relation: see ``head``.
            tail: see ``head``.
            missing: whose score is explained, given the other two parts.

        Raises:
            ConfigError: ``missing`` is something else; relations are one token, of which there is
                nothing to explain.
            DataError: an entity or relation is unknown.
        """
        choice("missing", missing, MissingEntity)
        stated = stated_triples([(head, relation, tail)])
        ((first, second, third),) = numbered(self._domain, stated).tolist()
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
            DataError: one exists already, or an identifier or a text is not usable.
        """
        if self._domain.options["entities"] == "id":
            raise ConfigError(
                "This model was trained with domain.entities = 'id': it cannot read the name of an "
                "entity that it was not trained on. Train one that reads names: `seqmlm train "
                "--domain kg --set domain.entities=both`, or settings={'domain.entities': 'both'} "
                "of LinkPredictor.fit."
            )
        self._use(self._domain.graph.with_entities(texts_by_identifier("entities", entities)))

    def evaluate(
        self, test: str | Path | Iterable[StatedTriple], *, entity_texts: Texts = _NONE
    ) -> RankingReport:
        """Rank the true heads and tails of test triples among the entities of all triples.

        Triples of training and validation and those given are filtered out; entities in none of
        them are no candidates, as in published results. Entities that only the test triples have
        are candidates while this lasts, and reported apart.

        Args:
            test: triples; or a folder, whose test triples and texts are taken.
            entity_texts: of entities that the graph does not know.

        Raises:
            ConfigError: ``test`` is no list of triples.
            DataError: there is no triple, one is not three strings, or a relation is unknown.
        """
        texts = texts_by_identifier("entity_texts", entity_texts)
        if isinstance(test, str | Path):
            test, of_files = read_test_triples(Path(test), relations=self.relations)
            texts = {**of_files, **texts}
        stated = stated_triples(test)
        triples = list(dict.fromkeys(stated))
        if repeated := len(stated) - len(triples):
            logger.warning("%d of %d triples to evaluate are repeated", repeated, len(stated))
        if not triples:
            raise DataError("There is no triple to evaluate.")
        graph = self._domain.graph
        try:
            with_entities_of(self._domain, triples, texts)
            asked = numbered(self._domain, triples)
            warn_of_leakage(asked, self._known.training)
            return evaluate_links(
                self._scorer.for_entities_of_graph(),
                asked,
                training=self._known.training,
                known=np.concatenate([self._known.all, asked]),
            )
        finally:
            self._domain.use_graph(graph)

    def _use(self, graph: GraphVocabulary) -> None:
        self._domain.use_graph(graph)
        self._scorer = self._scorer.for_entities_of_graph()
