"""What a garbage collection of a server looks at: it stops every thread while it looks."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqmlm_domains.code.completion.completer import Completer, import_what_operators_need
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
    assert {id(first.model), id(second.model)} <= looked_at

    exchanged = weakref.ref(first.model)
    del first
    gc.collect()
    assert exchanged() is None
    assert second.complete("name = 1\nna", 11, "python")


def test_the_compiler_that_takes_seconds_to_import_is_not_needed_on_a_cpu(
    code_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # importing it raises
    assert Completer.load(code_run, device="cpu").complete("name = 1\nna", 11, "python")
    with pytest.raises(ModuleNotFoundError, match=r"torch\._dynamo"):
        import_what_operators_need(torch.device("cuda"))
