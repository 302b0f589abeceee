"""Knowledge graphs as a domain: triples with one part missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args

import numpy as np
import numpy.typing as npt

from seqmlm.atomic_files import write_file
from seqmlm.data.report import ReadReport
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain, Record, TokenBlock
from seqmlm.encoding import Encoding
from seqmlm.errors import CheckpointError, ConfigError, DataError, suggestion
from seqmlm.masking.policy import MaskingPolicy
from seqmlm.vocabulary import AllowedTokens, Vocabulary
from seqmlm_domains.kg.default_settings import HIDDEN_GROUP, run_on_nations, small_graph
from seqmlm_domains.kg.entities import NO_TOKEN, Collisions
from seqmlm_domains.kg.graph import GraphVocabulary, Texts
from seqmlm_domains.kg.graph_learning import learn_vocabulary
from seqmlm_domains.kg.linearisation import Context, End, Linearisation, Part, Representation
from seqmlm_domains.kg.options import Normalise, check_options
from seqmlm_domains.kg.reader import VALIDATION, read_graph
from seqmlm_domains.kg.reading_notes import noted
from seqmlm_domains.kg.slot_types import SlotTypes

if TYPE_CHECKING:
    from seqmlm.model.model import Model

TOKENIZER_FILE: Final = "graph.json"


class KnowledgeGraphDomain(Domain):
    """Triples of a graph; the missing part of each is one unit.

    Every time a triple is used, which part is missing is drawn anew.

    Args:
        entities: how an entity is written: by the ``tokens`` of its name (MLMLM), by a token of
            its own (``id``), or ``both``; the last lets text carry entities without a token.
        end: what follows the name of a missing entity: nothing that is predicted (``ignore``,
            as in the paper), an end token (``eos``), or end tokens up to the last slot (``pad``).
        collisions: ``disambiguate`` adds words of the description, or the identifier, to names
            that several entities have; ``tie`` leaves them alike, as the paper's data does.
        context: with ``both``, what is shown of a known entity that has an own token: that token
            alone (``own``), or ``both`` token and text, as for relations.
        id_dropout: share of known entities whose own token is hidden from the encoder in
            training, so that their text stands for them, in [0, 1); only with ``both``.
        text_share: share of missing entities with an own token that are asked for by their text
            instead, in [0, 1]; only with ``both``.
        relation_share: share of triples whose relation is the missing part, in [0, 1]; the rest
            is shared by head and tail. The objective ``masked_relation`` gives relations a weight
            and a loss of their own instead.
        normalise: how entities are ranked in validation and, if nothing else is asked for, later:
            by the ``mean`` log-likelihood of their tokens (MLMLM), the ``sum``, or the mean less
            that of a query of the relation alone (``pmi``).
        vocabulary_size: sub-words of names and descriptions, at most.
        lowercase: whether names lose their case.
        max_name_tokens: longer names are cut.
        max_description_tokens: of a known entity or relation; 0 leaves descriptions out, but for
            telling apart entities of one name.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    name: ClassVar[str] = "kg"
    summary: ClassVar[str] = "Knowledge graphs from TSV, CSV, N-Triples or RDF, for link prediction"
    learns_vocabulary: ClassVar[bool] = True
    num_segments: ClassVar[int] = len(Part)
    unit_types: ClassVar[Sequence[str]] = tuple(part.name.lower() for part in Part)
    what_is_cut: ClassVar[str] = "descriptions are cut first, then names"
    why_indivisible: ClassVar[str] = "a triple is a triple only as a whole"
    selection_measure: ClassVar[str] = "mrr"
    about_measures: ClassVar[str] = (
        "filtered by training and validation triples; seqmlm kg evaluate filters those of the "
        "test too, and is higher"
    )
    token_dtype = np.uint32

    def __init__(
        self,
        *,
        entities: Representation = "both",
        end: End = "eos",
        collisions: Collisions = "disambiguate",
        context: Context = "both",
        id_dropout: float = 0.1,
        text_share: float = 0.2,
        relation_share: float = 0.1,
        normalise: Normalise = "mean",
        vocabulary_size: int = 4_000,
        lowercase: bool = True,
        max_name_tokens: int = 12,
        max_description_tokens: int = 0,
    ) -> None:
        self._options: dict[str, Any] = {
            "entities": entities,
            "end": end,
            "collisions": collisions,
            "context": context,
            "id_dropout": id_dropout,
            "text_share": text_share,
            "relation_share": relation_share,
            "normalise": normalise,
            "vocabulary_size": vocabulary_size,
            "lowercase": lowercase,
            "max_name_tokens": max_name_tokens,
            "max_description_tokens": max_description_tokens,
        }
        check_options(self._options)

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that rebuild this domain, but for its vocabulary."""
        return self._options

    @property
    def graph(self) -> GraphVocabulary:
        """Entities and relations as tokens; exists once the vocabulary does."""
        return self._graph

    @property
    def linearisation(self) -> Linearisation:
        """Writes triples as encodings; exists once the vocabulary does."""
        return self._linearisation

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        """Return settings for a small graph; see :mod:`.default_settings`."""
        return small_graph()

    @classmethod
    def bundled_run(cls) -> dict[str, Any]:
        """Return a run on Nations; see :mod:`.default_settings`."""
        return run_on_nations()

    @property
    def evaluation_policy(self) -> MaskingPolicy:
        """What validation hides: the whole missing part of every held-out triple."""
        return MaskingPolicy.from_settings(HIDDEN_GROUP, where="domain.evaluation_policy")

    @cached_property
    def prediction_sets(self) -> tuple[AllowedTokens, ...]:
        """Words and the end of a name; relations; own tokens of entities, if there are any."""
        graph, size = self._graph, len(self.vocabulary)
        words = {graph.end_token, *range(graph.first_subword, size)}
        entities = range(graph.first_entity, graph.first_subword)
        sets = [
            AllowedTokens.of(words, size),
            AllowedTokens.of(range(graph.first_relation, graph.first_entity), size),
        ]
        return (*sets, AllowedTokens.of(entities, size)) if entities else tuple(sets)

    def prediction_set(self, ids: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
        """See :meth:`Domain.prediction_set`."""
        graph = self._graph
        is_relation = (ids >= graph.first_relation) & (ids < graph.first_entity)
        is_entity = (ids >= graph.first_entity) & (ids < graph.first_subword)
        return is_relation.astype(np.int32) + np.int32(2) * is_entity.astype(np.int32)

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield texts, then training and validation triples; see :mod:`.reader`.

        What becomes of the texts is noted at the end.
        """
        return noted(read_graph(sources, report), report, options=self._options)

    def fit_tokenizer(self, records: Iterable[Record]) -> None:
        """Number entities and relations and learn the sub-words of their names."""
        self.use_graph(
            learn_vocabulary(
                records,
                name=self.name,
                representation=self._options["entities"],
                end=self._options["end"],
                collisions=self._options["collisions"],
                vocabulary_size=self._options["vocabulary_size"],
                lowercase=self._options["lowercase"],
                max_name_tokens=self._options["max_name_tokens"],
                max_description_tokens=self._options["max_description_tokens"],
            )
        )

    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        """Return three numbers per triple: relations count from 0, entities follow them.

        Texts take no room. A triple with an entity or relation that training does not know is
        dropped and counted: only a validation triple can have one.
        """
        graph, numbers = self._graph, self._graph.entities.numbers
        tokens: list[int] = []
        lengths = np.zeros(len(records), np.int64)
        for index, record in enumerate(records):
            if not _is_triple(record):
                continue
            head, relation, tail = record.content.split("\t")
            if relation not in graph.relation_numbers:
                report.drop("relation without a training triple", record.place)
            elif head not in numbers or tail not in numbers:
                report.drop("entity without a triple", record.place)
            else:
                first = len(graph.relations)
                tokens += [
                    first + numbers[head],
                    graph.relation_numbers[relation],
                    first + numbers[tail],
                ]
                lengths[index] = 3
        return TokenBlock(np.array(tokens, self.token_dtype), lengths)

    def token_ids(
        self, tokens: npt.NDArray[np.unsignedinteger[Any]]
    ) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return for each number the vocabulary id of the first token that stands for it."""
        return self._first_tokens[tokens.astype(np.int64)]

    def assemble(
        self,
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        *,
        max_length: int,
        generator: np.random.Generator | None = None,
    ) -> Encoding:
        """Write a triple with one part missing.

        Which part, whether the own tokens of known entities are left out, and whether the missing
        one's token or text is asked for, comes from the generator; without one the tail is
        missing and nothing is left out.
        """
        triple, missing = self._triple(tokens), Part.TAIL
        drop_ids, wording = (False, False), self._linearisation.slots.wordings[0]
        if generator is not None:
            draws = generator.random(4)
            if draws[0] < self._options["relation_share"]:
                missing = Part.RELATION
            elif draws[1] < 0.5:
                missing = Part.HEAD
            if self._options["entities"] == "both":
                drop_ids = tuple(draws[2:] < self._options["id_dropout"])
                if generator.random() < self._options["text_share"]:
                    wording = "text"
        is_entity = missing != Part.RELATION
        if is_entity and self._graph.entities.id_tokens[triple[missing]] == NO_TOKEN:
            wording = "text"
        return self._linearisation.encode(
            triple, missing, max_length=max_length, drop_ids=drop_ids, wording=wording
        )

    def assemble_relation(
        self,
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        *,
        max_length: int,
        generator: np.random.Generator,
    ) -> Encoding:
        """Write a triple with its relation missing, as :meth:`assemble` does with a share."""
        drop_ids = (False, False)
        if self._options["entities"] == "both":
            drop_ids = tuple(generator.random(2) < self._options["id_dropout"])
        return self._linearisation.encode(
            self._triple(tokens), Part.RELATION, max_length=max_length, drop_ids=drop_ids
        )

    def _triple(self, tokens: npt.NDArray[np.unsignedinteger[Any]]) -> tuple[int, int, int]:
        """Numbers of head, relation and tail of a record."""
        head, relation, tail = (int(token) for token in tokens)
        return head - len(self._graph.relations), relation, tail - len(self._graph.relations)

    @property
    def special_tokens_per_sequence(self) -> int:
        """What a sequence can have besides one token per part."""
        line, described = self._linearisation, self._options["max_description_tokens"]
        by_name = line.slots.total > line.slots.own
        words = int(line.relation_names.lengths.max(initial=0)) if by_name else 0
        if by_name and described and line.relation_descriptions.lengths.any():
            words += 1 + described
        entity = line.slots.total + (1 + described if described else 0)
        return 2 + 2 * (entity - 1) + words

    def uncut_lengths(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """See :meth:`Domain.uncut_lengths`; that of the longest question about each triple."""
        triples: npt.NDArray[np.int64] = store.tokens.astype(np.int64).reshape(-1, 3)
        triples[:, [Part.HEAD, Part.TAIL]] -= len(self._graph.relations)
        lengths = np.zeros(len(store), np.int64)
        lengths[store.lengths > 0] = self._linearisation.lengths(triples)
        return lengths

    def parse(self, text: str) -> Encoding:
        """Encode a typed triple: head, relation and tail, parted by tabs.

        One of them may be the mask token, and is then the missing part; otherwise the tail is.

        Raises:
            DataError: not three parts, more than one mask, or an unknown entity or relation.
        """
        mask = self.vocabulary.tokens[self.vocabulary.special.mask]
        fields = [field.strip() for field in text.split("\t")]
        if len(fields) != 3:
            raise DataError(f"input: {text!r}: a triple is head TAB relation TAB tail.")
        masked = [part for part in Part if fields[part] == mask]
        if len(masked) > 1:
            raise DataError(f"input: {text!r}: at most one part may be {mask}.")
        missing = masked[0] if masked else Part.TAIL
        numbers = [0 if part in masked else self.number(fields[part], part) for part in Part]
        encoding = self._linearisation.encode(
            (numbers[0], numbers[1], numbers[2]), missing, max_length=2**31 - 1
        )
        if masked:
            encoding.ids[encoding.unit_ids >= 0] = self.vocabulary.special.mask
            encoding.unit_ids[:] = -1
        return encoding

    def number(self, identifier: str, part: Part) -> int:
        """Return the number of an entity or relation.

        Raises:
            DataError: there is none of that identifier; names similar ones.
        """
        known, noun = self._graph.entities.numbers, "entity"
        if part == Part.RELATION:
            known, noun = self._graph.relation_numbers, "relation"
        if identifier not in known:
            raise DataError(
                f"There is no {noun} {identifier!r} in this graph.{suggestion(identifier, known)}"
            )
        return known[identifier]

    def decode(self, ids: Sequence[int]) -> str:
        """Return head, relation and tail of a sequence of this graph, parted by tabs."""
        return self._graph.decode(ids, self._linearisation)

    def types_of_units(self) -> SlotTypes:
        """See :class:`~seqmlm.masking.same_type.TypesUnits`."""
        return SlotTypes(self._graph, self._linearisation)

    def spelled_units(self, words: Sequence[str]) -> list[tuple[tuple[int, ...] | None, ...]]:
        """Return what stands for an entity of each identifier, or for a relation, when missing."""
        return list(map(self.types_of_units().spelled, words))

    def why_no_unit(self, word: str) -> str:
        """See :meth:`Domain.why_no_unit`."""
        known = (*self._graph.entities.numbers, *self._graph.relation_numbers)
        return f"There is no entity or relation {word!r} in this graph.{suggestion(word, known)}"

    def similarity_groups(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Keep the triples between two entities, in either direction, on one side."""
        triples = store.tokens.reshape(-1, 3)
        low = np.minimum(triples[:, 0], triples[:, 2]).astype(np.int64)
        high = np.maximum(triples[:, 0], triples[:, 2]).astype(np.int64)
        groups = np.full(len(store), -1, np.int64)
        groups[store.lengths > 0] = np.unique(low * 2**32 + high, return_inverse=True)[1]
        return groups

    def held_out(self, store: TokenStore) -> npt.NDArray[np.bool_] | None:
        """Say which records the data itself keeps for validation; None if there are none."""
        held_out = np.array([name == VALIDATION for name in store.names()])
        return held_out if held_out.any() else None

    def validation_measures(
        self, model: Model, store: TokenStore, records: npt.NDArray[np.int64], *, max_length: int
    ) -> Mapping[str, float]:
        """Return filtered MRR and hits of held-out triples; see :mod:`.validation`."""
        from seqmlm_domains.kg.validation import ranking_measures

        return ranking_measures(model, store, records, max_length=max_length)

    def save_tokenizer(self, folder: Path) -> None:
        """Write entities, relations, their texts and the sub-words to one JSON file."""
        write_file(folder / TOKENIZER_FILE, self._graph.to_json(), error=CheckpointError)

    def load_tokenizer(self, folder: Path) -> None:
        """Read what :meth:`save_tokenizer` wrote.

        Raises:
            CheckpointError: the file is missing or damaged.
        """
        path = folder / TOKENIZER_FILE
        try:
            self.use_graph(GraphVocabulary.from_json(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error

    def use_graph(self, graph: GraphVocabulary) -> None:
        """Take over a graph; the vocabulary of a model must stay the same."""
        self._graph = graph
        self.vocabulary: Vocabulary = graph.vocabulary
        self._linearisation = graph.linearisation(
            max_description_tokens=self._options["max_description_tokens"],
            context=self._options["context"],
        )
        self._first_tokens = graph.first_tokens()


def require_graph_domain(domain: Domain) -> KnowledgeGraphDomain:
    """Return the domain of a model if it is a knowledge graph.

    Raises:
        ConfigError: it is another domain.
    """
    if not isinstance(domain, KnowledgeGraphDomain):
        raise ConfigError(
            f"This model is of domain {domain.registered_name!r}; link prediction needs one of "
            "domain 'kg'."
        )
    return domain


def _is_triple(record: Record) -> bool:
    return record.content.count("\t") == 2 and record.name not in get_args(Texts)
