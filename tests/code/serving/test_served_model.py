"""Whether the model of a process may be left behind at its end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from seqmlm_domains.code.serving import completion_queue
from seqmlm_domains.code.serving.served_model import ServedModel
from seqmlm_domains.code.serving.settings import ServerSettings
from tests.code.serving.scripted_completer import ScriptedCompleter, request


@pytest.mark.asyncio
async def test_a_model_is_busy_until_its_last_forward_pass_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completion_queue, "_LAST_BATCH_S", 0.01)
    completer = ScriptedCompleter(is_held=True)
    model = ServedModel(lambda: completer, ServerSettings())
    assert not model.is_busy
    await model.load()
    assert model.queue is not None
    asked = asyncio.ensure_future(model.queue.complete(request("name"), deadline_s=60))
    await asyncio.to_thread(completer.pass_began.wait, 30)
    model.close()
    assert model.is_busy

    completer.let_go()
    await asked
    for thread in threading.enumerate():
        if thread.name == "seqmlm-inference":
            await asyncio.to_thread(thread.join, 30)
    assert not model.is_busy
