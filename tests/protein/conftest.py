from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from seqmlm.data.report import ReadReport
from seqmlm.data.store import StoreWriter, TokenStore
from seqmlm.domain import Record
from seqmlm_domains.protein.tokenizer import ResidueTokenizer

StoreMaker = Callable[..., TokenStore]


@pytest.fixture
def make_store(tmp_path: Path) -> StoreMaker:
    """Build a store of sequences, named P0, P1, ... unless names are given."""
    counter = itertools.count()

    def make(sequences: Sequence[str], names: Sequence[str] | None = None) -> TokenStore:
        names = names or [f"P{i}" for i in range(len(sequences))]
        records = [
            Record(name, sequence, "test.fasta", number)
            for number, (name, sequence) in enumerate(zip(names, sequences, strict=True), start=1)
        ]
        report = ReadReport()
        block = ResidueTokenizer().tokenize(records, report)
        folder = tmp_path / f"store-{next(counter)}"
        folder.mkdir()
        writer = StoreWriter(folder, token_dtype=np.uint8)
        writer.append(names, block.tokens, block.lengths)
        writer.finish(report=report, made_from={}, version="0")
        return TokenStore(folder)

    return make
