"""What the tests of the core share: a small domain whose units are words, stores and models."""

from __future__ import annotations

import itertools
import re
import string
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import settings

from seqmlm.data.report import ReadReport
from seqmlm.data.store import StoreWriter, TokenStore
from seqmlm.domain import Domain, Record, TokenBlock
from seqmlm.encoding import Encoding
from seqmlm.errors import DataError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.vocabulary import SpecialTokens, Vocabulary

# No deadline: machines differ. Always the same examples: a red test is red for everyone.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

LONGEST_LINE = 60

WORDS = Vocabulary(
    tokens=("<pad>", "<unk>", "<start>", "<end>", "<mask>", " ", ".", *string.ascii_lowercase),
    special=SpecialTokens(padding=0, unknown=1, start=2, end=3, mask=4),
    ranges={"words": (7, 33)},
)


class WordDomain(Domain):
    """Lower-case text: a letter is a token, a word a unit; blanks and dots are never masked.

    A source is a text file with a record a line, perhaps ``name TAB text``. Lines of more than 60
    characters are cut, empty ones and those starting with ``#`` dropped. Records that begin with
    the same letter are similar.
    """

    name: ClassVar[str] = "words"
    summary: ClassVar[str] = "Lower-case words, for tests"
    token_dtype = np.uint8
    vocabulary = WORDS
    special_tokens_per_sequence = 2

    @property
    def options(self) -> Mapping[str, Any]:
        return {}

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        return {"model": {"layers": 1, "hidden_size": 16, "heads": 2}}

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        for source in map(str, sources):
            lines = (sys.stdin.read() if source == "-" else Path(source).read_text()).splitlines()
            for number, line in enumerate(lines, start=1):
                report.read += 1
                name, separator, content = line.partition("\t")
                yield Record(name if separator else f"line {number}",
                             content if separator else line, source, number)  # fmt: skip

    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        parts = []
        for record in records:
            text = record.content
            if not text or text.startswith("#"):
                report.drop("comment" if text else "empty line", record.place)
                text = ""
            report.truncated += len(text) > LONGEST_LINE
            parts.append(_ids(text[:LONGEST_LINE], record.place))
        tokens = np.array([token for part in parts for token in part], np.uint8)
        return TokenBlock(tokens, np.array([len(part) for part in parts], np.int64))

    def assemble(
        self,
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        *,
        max_length: int,
        generator: np.random.Generator | None = None,
    ) -> Encoding:
        room = max_length - self.special_tokens_per_sequence
        start = 0
        if generator is not None and len(tokens) > room:
            start = int(generator.integers(len(tokens) - room + 1))
        return _encoding(tokens[start : start + room].tolist())

    def parse(self, text: str) -> Encoding:
        return _encoding(_ids(text, "the text"))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(WORDS.tokens[token] for token in ids if token >= WORDS.special.mask)

    def similarity_groups(self, store: TokenStore) -> npt.NDArray[np.int64]:
        return np.array([int(tokens[0]) if len(tokens := store[i]) else 0
                         for i in range(len(store))], np.int64)  # fmt: skip


def _ids(text: str, place: str) -> list[int]:
    pieces = re.findall(r"<mask>|.", text)
    for piece in pieces:
        if piece not in WORDS:
            raise DataError(f"{place}: {piece!r} is not a lower-case letter, blank or dot.")
    return [WORDS.id_of(piece) for piece in pieces]


def _encoding(content: list[int]) -> Encoding:
    ids = np.array([WORDS.special.start, *content, WORDS.special.end], np.int32)
    letter = ids >= WORDS.ranges["words"][0]
    begins = letter & ~np.concatenate([[False], letter[:-1]])
    units = np.where(letter, np.cumsum(begins) - 1, -1).astype(np.int32)
    return Encoding(ids, units, np.zeros_like(ids))


@pytest.fixture(scope="session")
def words() -> Domain:
    """Letters as tokens, words as units."""
    return WordDomain()


@pytest.fixture(scope="session")
def word_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[str]], TokenStore]:
    """Build a store of texts in the domain of words."""
    folder = tmp_path_factory.mktemp("stores")
    counter = itertools.count()

    def build(texts: Sequence[str]) -> TokenStore:
        target = folder / str(next(counter))
        target.mkdir()
        report = ReadReport(read=len(texts))
        records = [Record(f"r{i}", text, "test", i + 1) for i, text in enumerate(texts)]
        block = WordDomain().tokenize(records, report)
        writer = StoreWriter(target, token_dtype=np.uint8)
        writer.append([record.name for record in records], block.tokens, block.lengths)
        writer.finish(report=report, made_from={}, version="0")
        return TokenStore(target)

    return build


@pytest.fixture(scope="session")
def build_model() -> Callable[..., Model]:
    """Build a tiny model with weights large enough that differences would show."""

    def build(
        domain: Domain, *, head_transform: bool = False, backend: str = "auto", **options: Any
    ) -> Model:
        torch.manual_seed(0)
        shape = {"layers": 2, "hidden_size": 16, "heads": 2} | options
        config = EncoderConfig(
            vocabulary_size=len(domain.vocabulary),
            mask_token=domain.vocabulary.special.mask,
            **shape,
        )
        model = Model(domain, config, head_transform=head_transform, backend=backend)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model.eval()

    return build


@pytest.fixture(scope="session")
def chi_square_p() -> Callable[[npt.ArrayLike, npt.ArrayLike], float]:
    """Probability of counts at least as far from the expected ones, Pearson's test."""

    def p_value(observed: npt.ArrayLike, expected: npt.ArrayLike) -> float:
        counts, means = np.asarray(observed, np.float64), np.asarray(expected, np.float64)
        statistic = float(((counts - means) ** 2 / means).sum())
        half = torch.tensor([(len(counts) - 1) / 2, statistic / 2], dtype=torch.float64)
        return float(torch.special.gammaincc(half[0], half[1]))

    return p_value
