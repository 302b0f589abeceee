"""What the tests of completion share."""

from __future__ import annotations

import pytest

from seqmlm_domains.code.completion import cursor_syntax


@pytest.fixture(autouse=True)
def patient_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the parser may not get to a text within the time that an editor waits."""
    monkeypatch.setattr(cursor_syntax, "PARSE_TIMEOUT_S", 60.0)
