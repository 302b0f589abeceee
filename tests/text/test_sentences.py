"""Where sentences begin, and which passages form a document."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqmlm.data.prepare import open_store
from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm_domains.text.domain import TextDomain

TEXT = (
    "It rained. Was it 3.14 inches?! She said so.\n"
    "\n"
    " = Title = \n"
    "\u4e0b\u96e8\u4e86\u3002\u6211\u4eec\u8d70\u4e86!\u597d"
)
SENTENCES = [
    "It rained.",
    "Was it 3.14 inches?!",
    "She said so.",
    "= Title =",
    "\u4e0b\u96e8\u4e86\u3002",
    "\u6211\u4eec\u8d70\u4e86!",
    "\u597d",
]


def sentences_of(text: str, **options: str) -> list[str]:
    domain = TextDomain(vocabulary_size=600, **options)  # type: ignore[arg-type]
    records = [Record("r", text, "test", 1)]
    domain.fit_tokenizer(records)
    block = domain.tokenize(records, ReadReport(read=1))
    starts = domain.segment_starts(block.tokens)
    assert starts.dtype == np.bool_
    assert starts[0]
    parts = np.split(block.tokens, np.flatnonzero(starts)[1:])
    return [domain.decode(domain.token_ids(part).tolist()) for part in parts]


@pytest.mark.parametrize("tokenizer", ["bpe", "unigram", "character"])
def test_sentences_begin_after_stops_and_line_ends(tokenizer: str) -> None:
    parts = sentences_of(TEXT, tokenizer=tokenizer)
    assert "".join(parts) == TEXT
    assert [part.strip() for part in parts] == SENTENCES


def test_wordpiece_has_no_blanks_to_go_by() -> None:
    found = sentences_of("One. Two 3.14 three.\n\nFour! Five", tokenizer="wordpiece")
    assert [part.strip() for part in found] == ["One .", "Two 3 .", "14 three .", "Four !", "Five"]


def test_a_line_of_blanks_is_no_sentence() -> None:
    assert sentences_of("One. \nTwo.", tokenizer="character") == ["One. \n", "Two."]


def test_passages_of_a_document_share_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    sentence = "A sentence of some words stands here. "
    for name, sentences in (("a", 6), ("b", 1), ("c", 3)):
        (tmp_path / f"{name}.txt").write_text(sentence * sentences)
    domain = TextDomain(passage_characters=100)
    store = open_store(domain, [str(tmp_path / "*.txt")])
    names = store.names()
    documents = domain.documents(store)
    assert [name[0] for name in names] == ["abc"[number] for number in documents.tolist()]
    assert len(names) > 3
    assert (np.diff(documents) >= 0).all()
