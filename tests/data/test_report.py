from __future__ import annotations

import json

from seqmlm.data.report import ReadReport


def filled() -> ReadReport:
    report = ReadReport(read=10, truncated=2)
    for number in range(1, 5):
        report.drop("no sequence", f"a.fa, record {number}")
    report.drop("too short", "a.fasta, record 9")
    report.note("letter J read as X", "a.fasta, record 10", count=7)
    return report


def test_used_truncated_and_dropped_add_up_to_read() -> None:
    report = filled()
    assert report.used == 3
    assert report.used + report.truncated + report.dropped.total() == report.read


def test_lines_give_counts_and_the_first_three_places() -> None:
    assert filled().lines() == [
        "10 records read, 3 used, 2 truncated, 5 dropped",
        "  dropped: no sequence: 4 (first: a.fa, record 1; a.fa, record 2; a.fa, record 3)",
        "  dropped: too short: 1 (first: a.fasta, record 9)",
        "  note: letter J read as X: 7 (first: a.fasta, record 10)",
    ]


def test_a_report_without_incidents_is_one_line() -> None:
    assert ReadReport(read=1234).lines() == ["1,234 records read, 1,234 used"]


def test_json_round_trip_keeps_everything() -> None:
    again = ReadReport.from_json(json.loads(json.dumps(filled().to_json())))
    assert again == filled()
