"""Source code as a domain: identifiers are the units, with their roles and declared types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from seqmlm.data.report import ReadReport
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain, Record, TokenBlock
from seqmlm.encoding import NOT_MASKABLE, Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.masking.policy import MaskingPolicy
from seqmlm_domains.code.default_settings import (
    identifiers_hidden,
    identifiers_hidden_among_all,
    run_on_standard_library,
    small_model,
)
from seqmlm_domains.code.file_groups import FileGroups, files_of_passages
from seqmlm_domains.code.languages import LANGUAGES, language_of
from seqmlm_domains.code.learned_vocabulary import LearnedVocabulary
from seqmlm_domains.code.parsed_files import ParsedFiles
from seqmlm_domains.code.reader import CodeReader, CodeRecord
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_file import with_plain_line_ends
from seqmlm_domains.code.stored_tokens import (
    ID_BITS,
    Marks,
    align,
    begin_identifiers,
    ids_of,
    roles_of,
    store,
    types_of,
)
from seqmlm_domains.code.syntax import ParsedText, parse_text
from seqmlm_domains.code.tokenizer import BoolArray, CodeTokenizer, Tokens
from seqmlm_domains.code.type_vocabulary import (
    TypeVocabulary,
    check_type_vocabulary_size,
    count_types,
)
from seqmlm_domains.code.typed_text import TypedText
from seqmlm_domains.code.vocabulary_training import PieceCounts, check_vocabulary_size, train

Maskable = Literal["identifiers", "everything"]
Content = Literal["whole", "condensed"]
SplitBy = Literal["file", "folder"]


class CodeDomain(Domain):
    """Files of repositories, their identifiers as units; the vocabulary is learned from them.

    Args:
        vocabulary_size: most tokens, special tokens and bytes included.
        type_vocabulary_size: most declared types that are told apart, including two for those
            that are unknown and for none.
        maskable: ``identifiers``, or ``everything``: every other token is then a unit of its own,
            of type :attr:`Role.OTHER`, so that a causal objective predicts it too.
        language: of typed text and standard input, and of records whose name tells of none.
        split_by: what is held out as a whole: a ``file``, or a top-level ``folder`` of the source.
            Near copies are always on one side.
        max_file_bytes: see :class:`~seqmlm_domains.code.reader.CodeReader`, as for the rest.
        max_line_characters: files with longer lines are skipped as minified.
        passage_characters: a longer file becomes several records.
        content: of the files that is read: the ``whole``, or ``condensed``, without comments,
            blank lines and long literals; see :mod:`seqmlm_domains.code.condensed`.
        parse_timeout_s: seconds that parsing a file may take.
        parse_memory_mib: address space of the process that parses, MiB.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    name: ClassVar[str] = "code"
    summary: ClassVar[str] = "Repositories of Python, Java, TypeScript or JavaScript; identifiers"
    learns_vocabulary: ClassVar[bool] = True
    unit_types: ClassVar[Sequence[str]] = tuple(role.name.lower() for role in Role)
    why_indivisible: ClassVar[str] = ""
    token_dtype = np.uint64

    def __init__(
        self,
        *,
        vocabulary_size: int = 8_000,
        type_vocabulary_size: int = 1_000,
        maskable: Maskable = "identifiers",
        language: str = "python",
        split_by: SplitBy = "file",
        max_file_bytes: int = 1_000_000,
        max_line_characters: int = 5_000,
        passage_characters: int = 2_000,
        content: Content = "whole",
        parse_timeout_s: float = 20.0,
        parse_memory_mib: int = 2048,
    ) -> None:
        for key, given, allowed in (
            ("maskable", maskable, get_args(Maskable)),
            ("language", language, tuple(LANGUAGES)),
            ("split_by", split_by, get_args(SplitBy)),
            ("content", content, get_args(Content)),
        ):
            if given not in allowed:
                raise ConfigError(f"{key} = {given!r}: it is one of {', '.join(allowed)}.")
        check_vocabulary_size(vocabulary_size)
        check_type_vocabulary_size(type_vocabulary_size)
        reading: dict[str, Any] = {
            "language": language,
            "max_file_bytes": max_file_bytes,
            "max_line_characters": max_line_characters,
            "passage_characters": passage_characters,
            "content": content,
            "parse_timeout_s": parse_timeout_s,
            "parse_memory_mib": parse_memory_mib,
        }
        self._reader = CodeReader(**reading)
        self._parsed_files = ParsedFiles()
        self._options: dict[str, Any] = {
            "vocabulary_size": vocabulary_size,
            "type_vocabulary_size": type_vocabulary_size,
            "maskable": maskable,
            "split_by": split_by,
            **reading,
        }
        self._file_groups = FileGroups()

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that rebuild this domain, but for its vocabulary."""
        return self._options

    @property
    def is_condensed(self) -> bool:
        """Whether comments, blank lines and long literals were left out of what it read."""
        return bool(self._options["content"] == "condensed")

    @property
    def neighbours(self) -> str:
        """See :attr:`Domain.neighbours`."""
        return "a passage of the same file or of a near copy"

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        """Return settings for a model of 2 M parameters, which a CPU can train."""
        return small_model()

    @classmethod
    def bundled_run(cls) -> dict[str, Any]:
        """Return a run on a few packages of the running Python's standard library."""
        return run_on_standard_library()

    @property
    def evaluation_policy(self) -> MaskingPolicy:
        """What validation hides: whole identifiers, drawn uniformly, and nothing else.

        15 % of them; with ``maskable = "everything"`` as many as 6 % of all tokens, about the same.
        """
        if self._is_everything_maskable:
            return identifiers_hidden_among_all(rate=0.06)
        return identifiers_hidden(rate=0.15)

    @property
    def declared_types(self) -> tuple[str, ...]:
        """Simple names without generics, such as ``List``; see :attr:`Domain.declared_types`."""
        return self._learned.types.names

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield the passages of source files; see :mod:`.reader`.

        While there is no vocabulary, what the parser finds is kept for the pass to come.
        """
        return self._reader.read(
            sources,
            report,
            parsed_files=self._parsed_files,
            is_first_pass=not self.has_vocabulary,
        )

    def fit_tokenizer(self, records: Iterable[Record]) -> None:
        """Learn the sub-words of all text, names and the rest, and the declared types."""
        pieces = PieceCounts()
        type_counts: Counter[str] = Counter()
        for record in records:
            text = with_plain_line_ends(record.content)
            pieces.add(text)
            count_types(type_counts, self._parsed(record, text).declared_types)
        content = train(pieces, vocabulary_size=self._options["vocabulary_size"])
        types = TypeVocabulary.learn(type_counts, size=self._options["type_vocabulary_size"])
        self._use(LearnedVocabulary(CodeTokenizer(content, domain=self.name), types))

    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        """Return ids with the marks of identifiers; about 6 MB of source a second on one core.

        Records without anything to mask are dropped. One that :meth:`read` did not make is parsed
        here, in this process.
        """
        texts = [with_plain_line_ends(record.content) for record in records]
        tokens = self._tokenizer.encode(texts)
        marks = self._marks(tokens, list(map(self._parsed, records, texts)))
        owners = np.repeat(np.arange(len(records)), tokens.lengths)
        maskable = np.bincount(owners[self._is_maskable(marks.roles)], minlength=len(records))
        for number in np.flatnonzero(maskable == 0).tolist():
            reason = "no identifier" if texts[number].strip() else "white space alone"
            report.drop(reason, records[number].place)
        kept = maskable > 0
        stored = store(tokens.ids, marks)
        return TokenBlock(stored[kept[owners]], np.where(kept, tokens.lengths, 0))

    def token_ids(
        self, tokens: npt.NDArray[np.unsignedinteger[Any]]
    ) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the ids of stored tokens, without roles and marks."""
        return ids_of(tokens)

    def assemble(
        self,
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        *,
        max_length: int,
        generator: np.random.Generator | None = None,
    ) -> Encoding:
        """Return a start token, a window of at most ``max_length - 2`` tokens, and an end token.

        An identifier that the window cuts is a unit of the tokens inside.

        Raises:
            ConfigError: ``max_length`` leaves no room for a token.
        """
        room = max_length - self.special_tokens_per_sequence
        if room < 1:
            raise ConfigError(
                f"data.max_length is {max_length}; start, end and one token need at least 3."
            )
        if len(tokens) > room:
            start = 0 if generator is None else generator.integers(len(tokens) - room + 1)
            tokens = tokens[start : start + room]
        return self._encoding(tokens)

    @property
    def special_tokens_per_sequence(self) -> int:
        """Two: start and end."""
        return 2

    def parse(self, text: str) -> Encoding:
        """Encode typed code such as ``return <|mask|>.name``, in the language of the options.

        A run of masks stands for one name of as many tokens.

        Raises:
            DataError: nothing is left to encode, or the text is not valid Unicode.
        """
        return self.parse_as(text, self._options["language"])

    def parse_as(self, text: str, language: str) -> Encoding:
        """Encode typed code of any language; see :meth:`parse`."""
        mask = self.vocabulary.special.mask
        typed = TypedText.of(text, mask=self.vocabulary.tokens[mask])
        tokens, part_lengths = typed.encode(self._tokenizer)
        marks = self._marks(tokens, [parse_text(typed.code, language)])
        stored, offsets = typed.with_masks(
            store(tokens.ids, marks),
            tokens.offsets,
            part_lengths,
            mask=np.uint64(mask | Role.OTHER << ID_BITS),
        )
        if not len(stored):
            raise DataError(f"input: {text!r} holds no token.")
        frame = np.zeros((1, 2), np.int32)
        return self._encoding(stored, offsets=np.concatenate([frame, offsets, frame]))

    def encode_texts(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of texts without roles and special tokens, such as those of names."""
        return self._tokenizer.encode(texts)

    def encode_around(
        self, before: str, behind: str
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Return the tokens of the code on either side of a name, ``[n]`` and ``[m]``."""
        mask = self.vocabulary.tokens[self.vocabulary.special.mask]
        # Written as text the mask would be taken for the name, so a part that holds it is a part.
        # What is no Unicode has no tokens either.
        before, behind = (
            part.replace(mask, "").encode(errors="replace").decode() for part in (before, behind)
        )
        tokens, lengths = TypedText.of(before + mask + behind, mask=mask).encode(self._tokenizer)
        return tokens.ids[: lengths[0]], tokens.ids[lengths[0] :]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the source text, special tokens left out; exact for whole records."""
        return self._tokenizer.decode(ids)

    def documents(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Return the file of each passage."""
        return files_of_passages(store)

    def segment_starts(self, tokens: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.bool_]:
        """Say where lines begin, behind their indentation; blank lines belong to the one before."""
        return self._tokenizer.line_starts(ids_of(tokens))

    def similarity_groups(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Keep the passages of a file, and near copies, together; of a folder too if asked."""
        if self._options["split_by"] == "folder":
            return self._file_groups.folders(store)
        return self._file_groups.near_copies(store)

    def close_neighbours(
        self,
        store: TokenStore,
        queries: npt.NDArray[np.int64],
        references: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Say which passages have one of the same file, or of a near copy, among the others."""
        groups = self._file_groups.near_copies(store)
        return np.isin(groups[queries], groups[references])

    def save_tokenizer(self, folder: Path) -> None:
        """Write the learned vocabularies of tokens and types to one JSON file."""
        self._learned.save(folder, options=self._options)

    def load_tokenizer(self, folder: Path) -> None:
        """Read what :meth:`save_tokenizer` wrote.

        Raises:
            CheckpointError: the file is missing or damaged.
            ConfigError: a vocabulary was learned with another size.
        """
        self._use(LearnedVocabulary.load(folder, options=self._options, domain=self.name))

    @property
    def _is_everything_maskable(self) -> bool:
        return bool(self._options["maskable"] == "everything")

    def _use(self, learned: LearnedVocabulary) -> None:
        self._learned = learned
        self.vocabulary = learned.tokenizer.vocabulary

    @property
    def _tokenizer(self) -> CodeTokenizer:
        return self._learned.tokenizer

    def _parsed(self, record: Record, text: str) -> ParsedText:
        if isinstance(record, CodeRecord):
            return ParsedText(record.identifiers, record.declared_types)
        language = language_of(record.name)
        return parse_text(text, self._options["language"] if language is None else language.name)

    def _marks(self, tokens: Tokens, parsed: Sequence[ParsedText]) -> Marks:
        types = [self._learned.types.numbers_of(each.declared_types) for each in parsed]
        return align(tokens, [each.identifiers for each in parsed], types)

    def _is_maskable(self, roles: npt.NDArray[np.int32]) -> BoolArray:
        """Whether tokens that are no special tokens may be masked, given their roles."""
        maskable: BoolArray = np.logical_or(self._is_everything_maskable, roles != Role.OTHER)
        return maskable

    def _encoding(
        self,
        stored: npt.NDArray[np.unsignedinteger[Any]],
        *,
        offsets: npt.NDArray[np.int32] | None = None,
    ) -> Encoding:
        special = self.vocabulary.special
        content, roles = ids_of(stored), roles_of(stored)
        ids = np.empty(len(stored) + 2, np.int32)
        ids[0], ids[-1] = special.start, special.end
        ids[1:-1] = content
        maskable = np.flatnonzero(self._is_maskable(roles) & (content != special.mask))
        begins = (begin_identifiers(stored) | (roles == Role.OTHER))[maskable]
        begins[:1] = True  # of an identifier that the window cuts
        unit_ids = np.full(len(ids), NOT_MASKABLE, np.int32)
        unit_ids[maskable + 1] = np.cumsum(begins) - 1
        return Encoding(
            ids=ids,
            unit_ids=unit_ids,
            segment_ids=np.zeros(len(ids), np.int32),
            offsets=offsets,
            unit_types=roles[maskable][begins],
            declared_types=types_of(stored)[maskable][begins],
        )
