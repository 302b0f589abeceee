"""Natural language as a domain: what is read, which tokens form a word, what belongs together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from seqmlm.data.report import ReadReport
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain, Record, TokenBlock
from seqmlm.encoding import NOT_MASKABLE, Encoding, IntArray
from seqmlm.errors import ConfigError, DataError
from seqmlm.model.model_folder import find_model_folder
from seqmlm_domains.text.pretrained import (
    PretrainedTokenizer,
    load_pretrained,
    read_pretrained,
)
from seqmlm_domains.text.reader import (
    WIKITEXT_HEADING,
    DocumentLayout,
    FileFormat,
    TextReader,
    is_later_passage,
)
from seqmlm_domains.text.spelling import spelled_units
from seqmlm_domains.text.tokenizer import TextTokenizer, load_tokenizer
from seqmlm_domains.text.training import (
    ChineseUnits,
    TokenizerKind,
    TokenizerSettings,
    train_tokenizer,
)

SAMPLES: Final = Path(__file__).parent / "samples"
"""Small real texts that ship with the package; sources in its ``ATTRIBUTION.md``."""

_DOCUMENTS_AT_LEAST = 20  # a document of more than a twentieth of the corpus is parted
_STRETCHES = 100  # so many of them would be the corpus


class TextDomain(Domain):
    """Documents, their words as units; the vocabulary is learned from the data.

    Args:
        tokenizer: see :class:`~seqmlm_domains.text.training.TokenizerSettings`, as for the next
            four.
        vocabulary_size: most tokens, special tokens included.
        lowercase: whether case is dropped.
        unmaskable_words: placeholders in the data, such as ``<unk>``, that are never masked.
        chinese_units: ``character``, or ``word`` as found by jieba (extra ``chinese``).
        file_format: see :class:`~seqmlm_domains.text.reader.TextReader`, as for the rest.
        documents: what is one document in plain text: ``file``, ``line`` or ``heading``.
        heading: regular expression of a line that begins a document.
        text_field: field of JSON Lines, or column of CSV and TSV.
        passage_characters: a longer document becomes several records.
        tokenizer_folder: with ``tokenizer = "pretrained"``, the run or model folder of an imported
            model whose tokenizer is used; not needed again once the model is saved.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    name: ClassVar[str] = "text"
    summary: ClassVar[str] = "Text, JSON Lines or CSV files, with a vocabulary learned from them"
    learns_vocabulary: ClassVar[bool] = True
    why_indivisible: ClassVar[str] = ""
    settings_for_documents: ClassVar[str] = "domain.documents=heading or domain.documents=line"

    def __init__(
        self,
        *,
        tokenizer: TokenizerKind = "bpe",
        vocabulary_size: int = 8_000,
        lowercase: bool = False,
        unmaskable_words: Sequence[str] = (),
        chinese_units: ChineseUnits = "character",
        file_format: FileFormat = "auto",
        documents: DocumentLayout = "file",
        heading: str = WIKITEXT_HEADING,
        text_field: str = "text",
        passage_characters: int = 2_000,
        tokenizer_folder: str = "",
    ) -> None:
        if isinstance(unmaskable_words, str):
            raise ConfigError(
                f"domain.unmaskable_words is {unmaskable_words!r}; it is a list of words."
            )
        self._settings = TokenizerSettings(
            kind=tokenizer,
            vocabulary_size=vocabulary_size,
            lowercase=lowercase,
            unmaskable_words=tuple(unmaskable_words),
            chinese_units=chinese_units,
        )
        self._reader = TextReader(
            file_format=file_format,
            documents=documents,
            heading=heading,
            text_field=text_field,
            passage_characters=passage_characters,
        )
        self._choose_token_dtype(vocabulary_size)
        self._tokenizer_folder = tokenizer_folder
        if tokenizer_folder and tokenizer != "pretrained":
            raise ConfigError(
                f"domain.tokenizer_folder = {tokenizer_folder!r}, but domain.tokenizer is "
                f"{tokenizer!r}: set it to 'pretrained', or leave the folder out."
            )
        if tokenizer_folder and Path(tokenizer_folder).is_dir():
            self.load_tokenizer(find_model_folder(Path(tokenizer_folder)))

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that rebuild this domain, but for its vocabulary."""
        settings, reader = self._settings, self._reader
        folder = self._tokenizer_folder
        return ({"tokenizer_folder": folder} if folder else {}) | {
            "tokenizer": settings.kind,
            "vocabulary_size": settings.vocabulary_size,
            "lowercase": settings.lowercase,
            "unmaskable_words": list(settings.unmaskable_words),
            "chinese_units": settings.chinese_units,
            "file_format": reader.file_format,
            "documents": reader.documents,
            "heading": reader.heading,
            "text_field": reader.text_field,
            "passage_characters": reader.passage_characters,
        }

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        """Return settings for a model of 1.8 M parameters, which a CPU can train."""
        return {
            "model": {"layers": 4, "hidden_size": 128, "heads": 4},
            "data": {"max_length": 256},
            "objectives": [{"name": "mlm", "policy": {"rate": 0.15}}],
        }

    @classmethod
    def bundled_run(cls) -> dict[str, Any]:
        """Return a run on 100,000 characters of Shakespeare, a character a token.

        Under three minutes on one core: 1.5 nats on held-out scenes, where counting reaches 1.7.
        """
        return {
            "domain": {"tokenizer": "character", "passage_characters": 126},
            "model": {"layers": 3, "hidden_size": 128, "heads": 4},
            "data": {
                "sources": [str(SAMPLES / "shakespeare_100k.txt.gz")],
                "max_length": 128,
                "validation_fraction": 0.1,
            },
            "objectives": [
                {
                    "name": "mlm",
                    "policy": {
                        "rate": 0.2,
                        "corruptor": {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0},
                    },
                }
            ],
            "optimizer": {"learning_rate": 5e-3, "weight_decay": 0.1},
            "training": {
                "steps": 1000,
                "tokens_per_batch": 2048,
                "evaluate_every": 250,
                "checkpoint_every": 500,
            },
        }

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield documents of text, JSON Lines and CSV files; long ones as several records."""
        return self._reader.read(sources, report)

    def fit_tokenizer(self, records: Iterable[Record]) -> None:
        """Learn the vocabulary; about 1 to 3 MB of text a second, 15 for characters."""
        tokenizer = train_tokenizer(self._settings, _Contents(records))
        self._use(TextTokenizer(tokenizer.to_str(), self._settings))

    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        """Return ids with word marks; about 1.5 to 3 MB of text a second on one core.

        Records without a token that can be masked are dropped, unknown tokens counted.
        """
        tokens = self._tokenizer.encode([record.content for record in records])
        owners = np.repeat(np.arange(len(records)), tokens.lengths)
        unknown = tokens.ids == self.vocabulary.special.unknown
        unknown_counts = np.bincount(owners[unknown], minlength=len(records))
        maskable = np.bincount(owners[self._is_maskable(tokens.ids)], minlength=len(records))
        for index, record in enumerate(records):
            if not maskable[index]:
                reason = "nothing but unknown or unmaskable words"
                report.drop(reason if record.content else "empty document", record.place)
            elif unknown_counts[index]:
                report.note("unknown token", record.place, int(unknown_counts[index]))
        kept = maskable > 0
        marked = self._marked(tokens.ids, tokens.starts_word)
        return TokenBlock(marked[kept[owners]], np.where(kept, tokens.lengths, 0))

    def token_ids(
        self, tokens: npt.NDArray[np.unsignedinteger[Any]]
    ) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the ids of stored tokens, without the marks where words begin."""
        return tokens & self.token_dtype(self._word_mark - 1)

    def assemble(
        self,
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        *,
        max_length: int,
        generator: np.random.Generator | None = None,
    ) -> Encoding:
        """Return ``[CLS]``, a window of at most ``max_length - 2`` tokens, and ``[SEP]``.

        A word that the window cuts is a unit of the tokens inside.

        Raises:
            ConfigError: ``max_length`` leaves no room for a token.
        """
        generators = [] if generator is None else [generator]
        return self.assemble_all([tokens], max_length=max_length, generators=generators)[0]

    def assemble_all(
        self,
        records: Sequence[npt.NDArray[np.unsignedinteger[Any]]],
        *,
        max_length: int,
        generators: Iterable[np.random.Generator],
    ) -> list[Encoding]:
        """See :meth:`Domain.assemble_all`; without generators the first window of each record."""
        room = max_length - self.special_tokens_per_sequence
        if room < 1:
            raise ConfigError(
                f"data.max_length is {max_length}; [CLS], [SEP] and one token need at least 3."
            )
        windows = list(records)
        for index, (tokens, generator) in enumerate(zip(records, generators, strict=False)):
            if len(tokens) > room:
                windows[index] = tokens[generator.integers(len(tokens) - room + 1) :]
        is_cut = [len(tokens) > room for tokens in records]
        return self._encodings([window[:room] for window in windows], is_cut)

    @property
    def special_tokens_per_sequence(self) -> int:
        """Two: ``[CLS]`` and ``[SEP]``."""
        return 2

    def parse(self, text: str) -> Encoding:
        """Encode a typed text such as ``The capital of [MASK] is Paris.``

        Raises:
            DataError: nothing is left to encode, or the text is not valid Unicode.
        """
        ids, starts_word, offsets = self._tokenizer.encode_typed(text)
        if not len(ids):
            raise DataError(f"input: {text!r} holds no token.")
        (encoding,) = self._encodings([self._marked(ids, starts_word)], [False])
        frame = np.zeros((1, 2), np.int32)
        return replace(encoding, offsets=np.concatenate([frame, offsets, frame]))

    def decode(self, ids: Sequence[int]) -> str:
        """Return normalised text, special tokens left out, unknown ones as U+FFFD."""
        return self._tokenizer.decode(ids)

    def documents(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Return the document of each passage."""
        is_later = [is_later_passage(name) for name in store.names()]
        is_later[:1] = [False]  # whatever its title looks like
        return np.cumsum(np.logical_not(is_later), dtype=np.int64) - 1

    def segment_starts(self, tokens: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.bool_]:
        """Say where sentences and lines begin."""
        starts_word = (tokens & self._word_mark) != 0
        return self._tokenizer.sentence_starts.find(self.token_ids(tokens), starts_word)

    def spelled_units(self, words: Sequence[str]) -> list[tuple[tuple[int, ...] | None, ...]]:
        """Return four spellings: with and without a blank before it, and a capital letter."""
        return spelled_units(self._tokenizer, words)

    def similarity_groups(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Keep the passages of a document together.

        A document of more than a twentieth of the corpus, which no split could hold out, is
        parted into consecutive stretches of a hundredth.
        """
        document = self.documents(store)
        sizes = np.bincount(document, weights=store.lengths)
        starts = store.offsets[:-1]
        position = starts - starts[np.flatnonzero(np.diff(document, prepend=-1))][document]
        stretch = position * _STRETCHES // max(1, len(store.tokens))
        stretch[sizes[document] * _DOCUMENTS_AT_LEAST <= len(store.tokens)] = 0
        return np.unique(document * _STRETCHES + stretch, return_inverse=True)[1].astype(np.int64)

    def save_tokenizer(self, folder: Path) -> None:
        """Write ``tokenizer.json``, its checksum and the settings it was learned with."""
        self._tokenizer.save(folder)

    def load_tokenizer(self, folder: Path) -> None:
        """Read what :meth:`save_tokenizer` wrote.

        Raises:
            CheckpointError: a file is missing or damaged.
            ConfigError: the tokenizer was learned with other options.
        """
        if self._settings.kind == "pretrained":
            self._use_pretrained(load_pretrained(folder))
        else:
            self._use(load_tokenizer(folder, self._settings))

    def import_tokenizer(self, folder: Path, *, rows: int) -> None:
        """Take over ``tokenizer.json``, or ``vocab.txt`` of BERT, with the words it knows."""
        self._use_pretrained(read_pretrained(folder, rows=rows))

    def export_tokenizer(self, folder: Path, *, max_length: int | None, has_segments: bool) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
        self._tokenizer.export(folder, max_length=max_length, has_segments=has_segments)

    def _choose_token_dtype(self, num_values: int) -> None:
        """Leave room for a mark above the values of stored tokens.

        The highest bit of a stored token says that it begins a word: where Chinese words begin
        cannot be told from the ids.
        """
        self.token_dtype = np.uint16 if num_values <= 2**15 else np.uint32
        self._word_mark = 1 << (8 * np.dtype(self.token_dtype).itemsize - 1)

    def _use(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = tokenizer.vocabulary

    def _use_pretrained(self, tokenizer: PretrainedTokenizer) -> None:
        self._settings = tokenizer.settings
        self._choose_token_dtype(len(tokenizer.vocabulary))
        self._use(tokenizer)

    def _is_maskable(self, ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        low, high = self.vocabulary.ranges[self.name]
        maskable: npt.NDArray[np.bool_] = (ids >= low) & (ids < high)
        return maskable

    def _unit_ids(self, content: IntArray, starts_word: npt.NDArray[np.bool_]) -> IntArray:
        """Number the words.

        One with an unknown token inside is one unit; one with nothing else gets no number.
        """
        positions = np.flatnonzero(self._is_maskable(content))
        words = np.cumsum(starts_word)[positions]
        begins = np.ones(len(words), np.bool_)
        begins[1:] = words[1:] != words[:-1]
        unit_ids = np.full(len(content), NOT_MASKABLE, np.int32)
        unit_ids[positions] = np.cumsum(begins) - 1
        return unit_ids

    def _marked(
        self, ids: npt.NDArray[np.integer[Any]], starts_word: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Tokens as they are stored."""
        tokens = ids.astype(self.token_dtype)
        tokens[starts_word] |= self.token_dtype(self._word_mark)
        return tokens

    def _encodings(
        self, contents: Sequence[npt.NDArray[np.unsignedinteger[Any]]], is_cut: Sequence[bool]
    ) -> list[Encoding]:
        """Put stored tokens between ``[CLS]`` and ``[SEP]`` and number their words."""
        special = self.vocabulary.special
        # The first one is marked, so that no word goes on from one record to the next.
        first = np.array([special.start | self._word_mark], self.token_dtype)
        last = np.array([special.end], self.token_dtype)
        tokens = np.concatenate([part for own in contents for part in (first, own, last)])
        ids = (tokens & self.token_dtype(self._word_mark - 1)).astype(np.int32)
        unit_ids = self._unit_ids(ids, tokens >= self._word_mark)
        lengths = [len(own) + self.special_tokens_per_sequence for own in contents]
        bounds = list(accumulate(lengths, initial=0))
        units_before = np.maximum.accumulate(unit_ids)[bounds[:-1]] + 1
        unit_ids -= np.where(unit_ids >= 0, np.repeat(units_before, lengths), 0)
        segment_ids = np.zeros_like(ids)
        return [
            Encoding(ids[start:end], unit_ids[start:end], segment_ids[start:end], is_cut=cut)
            for (start, end), cut in zip(pairwise(bounds), is_cut, strict=True)
        ]


class _Contents:
    """The texts of records that can be iterated anew."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records

    def __iter__(self) -> Iterator[str]:
        return (record.content for record in self._records)
