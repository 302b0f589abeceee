"""What the contract tests share: the example plugins, as if they were installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture
def plugins_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example plugin as an installed distribution with a real entry point."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.delitem(sys.modules, "seqmlm_music", raising=False)
