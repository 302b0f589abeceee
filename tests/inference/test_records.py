from __future__ import annotations

from pathlib import Path

import pytest

from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain
from seqmlm.errors import DataError
from seqmlm.inference import records
from seqmlm.inference.records import encoded_records


@pytest.mark.parametrize("block", [1, 2, 256])
def test_records_come_in_order_and_uncut_whatever_the_block(
    words: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(records, "RECORDS_PER_BLOCK", block)
    texts = ["first", "", "a rather long line. of many words", "#", "last"]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(texts))
    report = ReadReport()
    found = list(encoded_records(words, [str(path)], report))
    assert [words.decode(encoding.ids.tolist()) for _, encoding in found] == texts[::2]
    assert [record.number for record, _ in found] == [1, 3, 5]
    assert (report.read, report.used, report.dropped.total()) == (5, 3, 2)


def test_a_record_too_long_for_the_model_is_named_and_one_that_just_fits_is_not(
    words: Domain, tmp_path: Path
) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("abc\nabcdef\nabcdefg\n")
    found = encoded_records(words, [str(path)], ReadReport(), longest=8)
    assert [len(next(found)[1]) for _ in range(2)] == [5, 8]
    with pytest.raises(DataError, match=r"lines.txt, record 3 .*: 9 tokens, .* 8 positions"):
        next(found)
