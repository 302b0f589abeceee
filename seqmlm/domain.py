"""What a domain must provide. The core knows domains through this interface alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from seqmlm.data.report import ReadReport
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.registry import DOMAINS
from seqmlm.vocabulary import AllowedPerTarget, AllowedTokens, Vocabulary

if TYPE_CHECKING:
    from seqmlm.data.store import TokenStore
    from seqmlm.masking.policy import MaskingPolicy
    from seqmlm.model.model import Model


@dataclass(frozen=True, slots=True)
class Record:
    """One raw item and where it came from.

    Args:
        name: identifier as written in the source; need not be unique.
        content: the raw sequence or text.
        source: file name, or ``<stdin>``.
        number: position in the source, counted from 1.
    """

    name: str
    content: str
    source: str
    number: int

    @property
    def place(self) -> str:
        """Where to find the record, for messages."""
        return f"{self.source}, record {self.number} ({self.name})"


@dataclass(frozen=True, slots=True)
class TokenBlock:
    """Tokens of several records, one after the other, special tokens not included.

    Args:
        tokens: uint8 to uint64 ``[sum(lengths)]``. Ids, perhaps with marks of the domain's
            own in the bits above them (:meth:`Domain.token_ids`).
        lengths: int64 ``[records]``.
    """

    tokens: npt.NDArray[np.unsignedinteger[Any]]
    lengths: npt.NDArray[np.int64]


class Domain(ABC):
    """Reads records, tokenises them, says what may be masked and how results are judged.

    A domain never masks: it labels units, and the policies of the core do the rest. The
    constructor takes the domain's options as keyword arguments; they become the ``[domain]``
    section of a configuration and are saved with the model.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for ``seqmlm domains``."""

    token_dtype: type[np.unsignedinteger[Any]]
    """Smallest unsigned type that holds every stored token; the type of the token store."""

    vocabulary: Vocabulary

    @property
    def neighbours(self) -> str:
        """What :meth:`close_neighbours` calls close, for reports."""
        return "an identical copy"

    num_roles: int = 0
    """How many roles its encodings tell apart, for ``model.roles``; 0 where no one speaks."""

    @property
    def declared_types(self) -> Sequence[str]:
        """Names of the types that the data declare units to be of, known with the vocabulary.

        The first stands for no type. Empty where the data declare nothing.
        """
        return ()

    unit_types: ClassVar[Sequence[str]] = ()
    """Names of the classes of units that its encodings tell apart, in the order of their numbers.

    Empty where units have none.
    """

    what_is_cut: ClassVar[str] = "every epoch sees a new random window of each"
    """What :meth:`assemble` makes of records that are too long, for reports."""

    num_segments: ClassVar[int] = 1
    """How many segments its own encodings number, from 0; at least as many rows has the table of
    ``model.segments``, unless all share one or there is none."""

    why_indivisible: ClassVar[str] = "they have no segments, such as sentences or lines"
    """Why no record can be parted in two, as objectives on pairs do.

    Empty in a domain whose :meth:`segment_starts` finds segments.
    """

    settings_for_documents: ClassVar[str] = ""
    """Settings that find several documents in one file, for messages; empty if there are none."""

    learns_vocabulary: ClassVar[bool] = False
    """Whether :meth:`fit_tokenizer` must be called, or a tokenizer loaded, before ``vocabulary``
    exists."""

    @property
    def has_vocabulary(self) -> bool:
        """Whether ``vocabulary`` is known: fixed, learned or loaded."""
        return not self.learns_vocabulary or hasattr(self, "vocabulary")

    @cached_property
    def registered_name(self) -> str:
        """What :func:`build_domain` was asked for, else ``module:Class``. Saved with the model."""
        return f"{type(self).__module__}:{type(self).__qualname__}"

    @property
    @abstractmethod
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that rebuild this domain, as plain JSON values."""

    @classmethod
    @abstractmethod
    def default_config(cls) -> dict[str, Any]:
        """Return what differs from the core's defaults, nested as in a configuration file."""

    @classmethod
    def bundled_run(cls) -> dict[str, Any] | None:
        """Return a complete small run on data that ships with the package, if there is any.

        ``seqmlm train --domain NAME`` without ``--data`` performs it.
        """
        return None

    @abstractmethod
    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield the records of files, folders, glob patterns or ``-`` (standard input).

        Streams: memory does not grow with the input. Counts every record in ``report``.

        Raises:
            DataError: a source is missing, unreadable, damaged or holds no record.
        """

    def fit_tokenizer(self, records: Iterable[Record]) -> None:
        """Learn the vocabulary from records; a pure function of them and the options.

        Only for domains with :attr:`learns_vocabulary`.

        Args:
            records: may be iterated more than once; each time reads the sources anew.
        """
        raise NotImplementedError(f"domain {self.name!r} has a fixed vocabulary")

    @abstractmethod
    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        """Turn records into token ids; dropped records get length 0 and a reason in ``report``.

        Raises:
            DataError: a record holds something that is neither a token nor a known exception.
        """

    def token_ids(
        self, tokens: npt.NDArray[np.unsignedinteger[Any]]
    ) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the ids of stored tokens: the tokens themselves, without the domain's marks."""
        return tokens

    @abstractmethod
    def assemble(
        self,
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        *,
        max_length: int,
        generator: np.random.Generator | None = None,
    ) -> Encoding:
        """Add special tokens and units to stored tokens.

        Args:
            tokens: ids of one record as :meth:`tokenize` made them.
            max_length: longest encoding allowed, special tokens included. A longer record is
                cut to a window: drawn from ``generator``, or the first one without it.
            generator: source of the window.
        """

    def assemble_all(
        self,
        records: Sequence[npt.NDArray[np.unsignedinteger[Any]]],
        *,
        max_length: int,
        generators: Iterable[np.random.Generator],
    ) -> list[Encoding]:
        """Assemble several records: for each what :meth:`assemble` returns.

        One after the other by default. A domain that is faster together overrides this.

        Args:
            records: stored tokens of each.
            max_length: see :meth:`assemble`.
            generators: of each record its own, used before the next is asked for.
        """
        return [
            self.assemble(tokens, max_length=max_length, generator=generator)
            for tokens, generator in zip(records, generators, strict=True)
        ]

    @property
    @abstractmethod
    def special_tokens_per_sequence(self) -> int:
        """How many special tokens :meth:`assemble` adds."""

    def uncut_lengths(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Return how long each record is in a sequence that nothing is cut from.

        Shape int64 ``[records]``, special tokens included. For reports.
        """
        return store.lengths.astype(np.int64) + self.special_tokens_per_sequence

    @abstractmethod
    def parse(self, text: str) -> Encoding:
        """Encode one text typed by a person, where mask tokens stand for what is to be filled in.

        Raises:
            DataError: the text cannot be encoded; the message names the position.
        """

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens left out."""

    def similarity_groups(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Return a group number per record; a split never divides a group.

        Shape int64 ``[records]``. The default keeps only identical sequences together.
        """
        return store.identical_groups()

    def documents(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Return a document number per record, int64 ``[records]``.

        The records of a document follow one another. By default each record is a document.
        """
        return np.arange(len(store))

    def segment_starts(self, tokens: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.bool_]:
        """Say where a record may be parted in two, as objectives on pairs do.

        Args:
            tokens: of one record as :meth:`tokenize` made them.

        Returns:
            bool ``[n]``, whether a segment may begin at a token, such as a sentence or a line;
            the first one always does. By default no other does. A domain that overrides this
            leaves :attr:`why_indivisible` empty.
        """
        starts = np.zeros(len(tokens), np.bool_)
        starts[:1] = True
        return starts

    def close_neighbours(
        self,
        store: TokenStore,
        queries: npt.NDArray[np.int64],
        references: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Say for each query record whether some reference record is nearly the same.

        This is the leakage that a split reports. Shape bool ``[queries]``. The default counts
        identical sequences.
        """
        groups = store.identical_groups()
        return np.isin(groups[queries], groups[references])

    def held_out(self, store: TokenStore) -> npt.NDArray[np.bool_] | None:
        """Say which records the data itself keeps for validation; None if it leaves the choice.

        Shape bool ``[records]``. The split of the configuration then plays no part.
        """
        return None

    @cached_property
    def prediction_sets(self) -> tuple[AllowedTokens, ...]:
        """The sets of tokens among which hidden ones are predicted: the domain's range as one.

        A domain whose slots differ in what can stand there, as entities differ from words, gives
        several disjoint sets and overrides :meth:`prediction_set`.
        """
        low, high = self.vocabulary.ranges[self.name]
        return (AllowedTokens.of(range(low, high), len(self.vocabulary)),)

    def prediction_set(self, ids: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int32]:
        """Return for each id the number of its set in :attr:`prediction_sets`, like ``ids``."""
        return np.zeros(ids.shape, np.int32)

    def allowed_at(self, labels: npt.NDArray[np.integer[Any]]) -> AllowedTokens | AllowedPerTarget:
        """Return what may be predicted at targets with these true ids, int ``[m]``."""
        if len(self.prediction_sets) == 1:
            return self.prediction_sets[0]
        return AllowedPerTarget(self.prediction_sets, self.prediction_set(labels))

    @property
    def evaluation_policy(self) -> MaskingPolicy:
        """What validation hides of every held-out record: a uniform 15 % by default."""
        from seqmlm.masking.policy import UNIFORM_MASKS

        return UNIFORM_MASKS

    selection_measure: ClassVar[str] = ""
    """The one of :meth:`validation_measures` that chooses between models, higher is better; where
    it is empty, the validation loss chooses."""

    about_measures: ClassVar[str] = ""
    """What of :meth:`validation_measures` people should know who compare them, for reports."""

    def validation_measures(
        self, model: Model, store: TokenStore, records: npt.NDArray[np.int64], *, max_length: int
    ) -> Mapping[str, float]:
        """Return by name what the domain judges a model by, besides the loss; nothing by default.

        Called at every evaluation of a run, so its cost must be bounded; no random choices.

        Args:
            model: as trained so far.
            store: all records of the run.
            records: int64, those held out.
            max_length: tokens of a sequence at most, as in training.
        """
        return {}

    def similar_units(self) -> Iterable[tuple[tuple[int, ...], tuple[int, ...], float]]:
        """Yield units, a unit that may stand for each, and its weight above 0.

        Units are tuples of token ids. For the corruptor ``similar``; a domain without a table of
        its own leaves this alone.

        Raises:
            ConfigError: the domain has no such table.
        """
        raise ConfigError(
            f"similar corruptor: domain {self.registered_name!r} brings no table of similar units. "
            "Choose table = 'type' (units of the same type, in graphs and code), table = 'corpus' "
            "(units in similar surroundings, in text and code), or the path of a file, table = "
            "'similar.tsv', with lines of unit TAB candidate [TAB weight]."
        )

    def spelled_units(self, words: Sequence[str]) -> list[tuple[tuple[int, ...] | None, ...]]:
        """Return the units that words of a table are in a sequence, one for each way of writing.

        Every word has the same ways in the same order, so that what is written in one way is
        replaced by what is written in that way. None where it is not exactly one unit of known
        tokens. By default there is one way: as given.
        """
        return [(self._unit_of(word),) for word in words]

    def why_no_unit(self, word: str) -> str:
        """Say of a word without any unit in :meth:`spelled_units` what is wrong with it."""
        try:
            encoding = self.parse(word)
        except DataError as error:
            return str(error)
        if encoding.num_units > 1:
            return f"{word!r} is {encoding.num_units} units; it must be one."
        return f"{word!r} has a part that is not in the vocabulary."

    def _unit_of(self, word: str) -> tuple[int, ...] | None:
        try:
            encoding = self.parse(word)
        except DataError:
            return None
        if encoding.num_units != 1:
            return None
        return tuple(encoding.ids[encoding.unit_ids == 0].tolist())

    def save_tokenizer(self, folder: Path) -> None:  # noqa: B027
        """Write what :attr:`options` and the vocabulary do not hold; nothing by default."""

    def load_tokenizer(self, folder: Path) -> None:  # noqa: B027
        """Read what :meth:`save_tokenizer` wrote; nothing by default."""

    def import_tokenizer(self, folder: Path, *, rows: int) -> None:
        """Take over the tokenizer of a Hugging Face folder.

        Args:
            folder: with files such as ``tokenizer.json`` or ``vocab.txt``.
            rows: of the model's token embedding; as many tokens as the vocabulary gets.

        Raises:
            CheckpointError: the files are missing, damaged, or do not fit the domain or the rows.
            ConfigError: the domain has no use for such tokenizers.
        """
        raise ConfigError(f"domain {self.name!r} cannot take over the tokenizer of {folder}.")

    def export_tokenizer(self, folder: Path, *, max_length: int | None, has_segments: bool) -> None:
        """Write files that ``AutoTokenizer`` of Hugging Face loads.

        Args:
            folder: to write to.
            max_length: most tokens of a sequence of the model, if there is a limit.
            has_segments: whether the model tells the sequences of a pair apart.

        Raises:
            ConfigError: such tokenizers cannot do what the domain does.
        """
        raise ConfigError(
            f"domain {self.name!r} has no tokenizer of the form that Hugging Face loads."
        )


def build_domain(settings: Mapping[str, Any], *, where: str = "domain") -> Domain:
    """Construct the domain ``settings["name"]`` with the other settings as its options.

    Raises:
        ConfigError: an unknown name or option; the message begins with ``where``.
    """
    domain: Domain = DOMAINS.build(settings, where=where)
    domain.registered_name = settings["name"]
    return domain
