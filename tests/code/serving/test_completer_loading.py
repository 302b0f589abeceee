"""What a garbage collection of a server looks at: it stops every thread while it looks."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqmlm_domains.code.serving.loading import load_completer
from seqmlm_domains.code.serving.settings import ServerSettings


@pytest.fixture(autouse=True)
def _collections_of_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_collections_leave_libraries_out_and_free_a_model_that_was_exchanged(
    code_run: Path,
) -> None:
    first, second = (load_completer(code_run, ServerSettings()) for _ in range(2))
    looked_at = {id(tracked) for tracked in gc.get_objects()}
    assert id(torch.__dict__) not in looked_at
    assert "torch._dynamo" in sys.modules, "else the first completion would take seconds"
    assert {id(first.model), id(second.model)} <= looked_at

    exchanged = weakref.ref(first.model)
    del first
    gc.collect()
    assert exchanged() is None
    assert second.complete("name = 1\nna", 11, "python")
