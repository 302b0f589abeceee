"""Source code as a domain: identifiers are the units, their roles the types of units."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from seqmlm.atomic_files import write_file
from seqmlm.data.report import ReadReport
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain, Record, TokenBlock
from seqmlm.encoding import NOT_MASKABLE, Encoding
from seqmlm.errors import CheckpointError, ConfigError, DataError
from seqmlm.masking.policy import MaskingPolicy
from seqmlm_domains.code.languages import LANGUAGES, language_of
from seqmlm_domains.code.near_copies import join, near_copy_groups, root
from seqmlm_domains.code.reader import CodeReader, CodeRecord, file_of
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_file import with_plain_line_ends
from seqmlm_domains.code.stored_tokens import (
    ID_BITS,
    align,
    begin_identifiers,
    ids_of,
    roles_of,
    store,
)
from seqmlm_domains.code.syntax import IdentifierArray, find_identifiers
from seqmlm_domains.code.tokenizer import BoolArray, CodeTokenizer
from seqmlm_domains.code.typed_text import TypedText
from seqmlm_domains.code.vocabulary_training import check_vocabulary_size, train

Maskable = Literal["identifiers", "everything"]
SplitBy = Literal["file", "folder"]

TOKENIZER_FILE: Final = "code_tokenizer.json"

SAMPLE_PACKAGES: Final = (
    *("asyncio", "collections", "concurrent", "email", "html", "http", "importlib", "json"),
    *("logging", "multiprocessing", "unittest", "urllib", "xml"),
)
"""Of the standard library of Python, which every installation has: 2 MB."""

_IDENTIFIERS: Final[dict[str, Any]] = {
    "per": "unit",
    "selector": {"name": "unit"},
    "corruptor": {"name": "mixed", "mask": 1.0, "random": 0.0, "keep": 0.0},
}
"""Of a masking policy: whole identifiers, uniformly, behind mask tokens."""


class CodeDomain(Domain):
    """Files of repositories, their identifiers as units; the vocabulary is learned from them.

    Args:
        vocabulary_size: most tokens, special tokens and bytes included.
        maskable: ``identifiers``, or ``everything``: every other token is then a unit of its own,
            of type :attr:`Role.OTHER`, so that a causal objective predicts it too.
        language: of typed text and standard input, and of records whose name tells of none.
        split_by: what is held out as a whole: a ``file``, or a top-level ``folder`` of the source.
            Near copies are always on one side.
        max_file_bytes: see :class:`~seqmlm_domains.code.reader.CodeReader`, as for the rest.
        max_line_characters: files with longer lines are skipped as minified.
        passage_characters: a longer file becomes several records.
        parse_timeout_s: seconds that parsing a file may take.
        parse_memory_mib: address space of the process that parses, MiB.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    name: ClassVar[str] = "code"
    summary: ClassVar[str] = "Repositories of Python, Java, TypeScript or JavaScript; identifiers"
    learns_vocabulary: ClassVar[bool] = True
    token_dtype = np.uint32

    def __init__(
        self,
        *,
        vocabulary_size: int = 8_000,
        maskable: Maskable = "identifiers",
        language: str = "python",
        split_by: SplitBy = "file",
        max_file_bytes: int = 1_000_000,
        max_line_characters: int = 5_000,
        passage_characters: int = 2_000,
        parse_timeout_s: float = 20.0,
        parse_memory_mib: int = 2048,
    ) -> None:
        for key, given, allowed in (
            ("maskable", maskable, get_args(Maskable)),
            ("language", language, tuple(LANGUAGES)),
            ("split_by", split_by, get_args(SplitBy)),
        ):
            if given not in allowed:
                raise ConfigError(f"{key} = {given!r}: it is one of {', '.join(allowed)}.")
        check_vocabulary_size(vocabulary_size)
        reading: dict[str, Any] = {
            "language": language,
            "max_file_bytes": max_file_bytes,
            "max_line_characters": max_line_characters,
            "passage_characters": passage_characters,
            "parse_timeout_s": parse_timeout_s,
            "parse_memory_mib": parse_memory_mib,
        }
        self._reader = CodeReader(**reading)
        self._options: dict[str, Any] = {
            "vocabulary_size": vocabulary_size,
            "maskable": maskable,
            "split_by": split_by,
            **reading,
        }
        self._file_groups: tuple[str, npt.NDArray[np.int64]] | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that rebuild this domain, but for its vocabulary."""
        return self._options

    @property
    def neighbours(self) -> str:
        """See :attr:`Domain.neighbours`."""
        return "a passage of the same file or of a near copy"

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        """Return settings for a model of 2 M parameters, which a CPU can train."""
        return {
            "model": {"layers": 4, "hidden_size": 128, "heads": 4},
            "data": {"max_length": 256},
            "objectives": [{"name": "mlm", "policy": {**_IDENTIFIERS, "rate": 0.2}}],
            "optimizer": {"learning_rate": 2e-3},
        }

    @classmethod
    def bundled_run(cls) -> dict[str, Any]:
        """Return a run on a few packages of the running Python's standard library."""
        library = Path(sysconfig.get_path("stdlib"))
        sample = [str(library / package) for package in SAMPLE_PACKAGES]
        return {
            "domain": {"vocabulary_size": 4_000},
            "model": {"layers": 2, "hidden_size": 128, "heads": 4},
            "data": {"sources": sample, "max_length": 128, "validation_fraction": 0.1},
            "optimizer": {"learning_rate": 4e-3},
            "training": {
                "steps": 1000,
                "tokens_per_batch": 4096,
                "evaluate_every": 250,
                "checkpoint_every": 500,
            },
        }

    @property
    def evaluation_policy(self) -> MaskingPolicy:
        """What validation hides: whole identifiers, drawn uniformly, and nothing else.

        15 % of them; with ``maskable = "everything"`` as many as 6 % of all tokens, about the same.
        """
        if not self._is_everything_maskable:
            settings = _IDENTIFIERS | {"rate": 0.15}
        else:
            types = [int(role) for role in Role if role != Role.OTHER]
            settings = _IDENTIFIERS | {"rate": 0.06, "selector": {"name": "typed", "types": types}}
        return MaskingPolicy.from_settings(settings, where="domain.evaluation_policy")

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield the passages of source files; see :mod:`.reader`."""
        return self._reader.read(sources, report)

    def fit_tokenizer(self, records: Iterable[Record]) -> None:
        """Learn the sub-words of all text, names and the rest."""
        size = self._options["vocabulary_size"]
        texts = (with_plain_line_ends(record.content) for record in records)
        self._use(CodeTokenizer(train(texts, vocabulary_size=size), domain=self.name))

    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        """Return ids with the roles of identifiers; about 2 MB of source a second on one core.

        Records without anything to mask are dropped. One that :meth:`read` did not make is parsed
        here, in this process.
        """
        texts = [with_plain_line_ends(record.content) for record in records]
        tokens = self._tokenizer.encode(texts)
        roles, begins = align(tokens, list(map(self._identifiers, records, texts)))
        owners = np.repeat(np.arange(len(records)), tokens.lengths)
        maskable = np.bincount(owners[self._is_maskable(roles)], minlength=len(records))
        for number in np.flatnonzero(maskable == 0).tolist():
            reason = "no identifier" if texts[number].strip() else "white space alone"
            report.drop(reason, records[number].place)
        kept = maskable > 0
        stored = store(tokens.ids, roles, begins)
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
        roles, begins = align(tokens, [find_identifiers(typed.code, language)])
        stored, offsets = typed.with_masks(
            store(tokens.ids, roles, begins),
            tokens.offsets,
            part_lengths,
            mask=np.uint32(mask | Role.OTHER << ID_BITS),
        )
        if not len(stored):
            raise DataError(f"input: {text!r} holds no token.")
        frame = np.zeros((1, 2), np.int32)
        return self._encoding(stored, offsets=np.concatenate([frame, offsets, frame]))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the source text, special tokens left out; exact for whole records."""
        return self._tokenizer.decode(ids)

    def documents(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Return the file of each passage."""
        begins = [file_of(name) == name for name in store.names()]
        begins[:1] = [True]
        return np.cumsum(begins, dtype=np.int64) - 1

    def segment_starts(self, tokens: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.bool_]:
        """Say where lines begin, behind their indentation; blank lines belong to the one before."""
        return self._tokenizer.line_starts(ids_of(tokens))

    def similarity_groups(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Keep the passages of a file, and near copies, together; of a folder too if asked."""
        document = self.documents(store)
        groups = self._near_copies(store, document).copy()
        if self._options["split_by"] == "folder":
            first_file: dict[str, int] = {}
            for file, name in zip(document.tolist(), store.names(), strict=True):
                folder = name.partition("/")[0]
                join(groups, first_file.setdefault(folder, file), file)
            groups = np.array([root(groups, file) for file in range(len(groups))])
        return groups[document]

    def close_neighbours(
        self,
        store: TokenStore,
        queries: npt.NDArray[np.int64],
        references: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Say which passages have one of the same file, or of a near copy, among the others."""
        document = self.documents(store)
        groups = self._near_copies(store, document)[document]
        return np.isin(groups[queries], groups[references])

    def save_tokenizer(self, folder: Path) -> None:
        """Write the learned vocabulary to one JSON file."""
        content = {
            "vocabulary_size": self._options["vocabulary_size"],
            "tokenizer": json.loads(self._tokenizer.content),
        }
        text = json.dumps(content, ensure_ascii=False) + "\n"
        write_file(folder / TOKENIZER_FILE, text, error=CheckpointError)

    def load_tokenizer(self, folder: Path) -> None:
        """Read what :meth:`save_tokenizer` wrote.

        Raises:
            CheckpointError: the file is missing or damaged.
            ConfigError: the vocabulary was learned with another size.
        """
        path = folder / TOKENIZER_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            made_with = content["vocabulary_size"]
            tokenizer = CodeTokenizer(
                json.dumps(content["tokenizer"], ensure_ascii=False), domain=self.name
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}.") from error
        if made_with != self._options["vocabulary_size"]:
            raise ConfigError(
                f"{path} was learned with vocabulary_size = {made_with}, but the configuration "
                f"says {self._options['vocabulary_size']}. Give the same, or prepare the data "
                "again."
            )
        self._use(tokenizer)

    @property
    def _is_everything_maskable(self) -> bool:
        return bool(self._options["maskable"] == "everything")

    def _use(self, tokenizer: CodeTokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = tokenizer.vocabulary

    def _identifiers(self, record: Record, text: str) -> IdentifierArray:
        if isinstance(record, CodeRecord):
            return record.identifiers
        language = language_of(record.name)
        return find_identifiers(
            text, self._options["language"] if language is None else language.name
        )

    def _is_maskable(self, roles: npt.NDArray[np.int32]) -> BoolArray:
        """Whether tokens that are no special tokens may be masked, given their roles."""
        maskable: BoolArray = np.logical_or(self._is_everything_maskable, roles != Role.OTHER)
        return maskable

    def _near_copies(
        self, store: TokenStore, document: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Group of every file; kept, for a split asks twice."""
        if self._file_groups is None or self._file_groups[0] != store.fingerprint:
            starts = store.offsets[np.flatnonzero(np.diff(document, prepend=-1))]
            ends = [*starts[1:].tolist(), len(store.tokens)]
            files = (
                ids_of(store.tokens[start:end])
                for start, end in zip(starts.tolist(), ends, strict=True)
            )
            self._file_groups = store.fingerprint, near_copy_groups(files)
        return self._file_groups[1]

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
        )
