"""Where a process computes, and what a single process needs no others for."""

from __future__ import annotations

import pytest
import torch

from seqmlm.errors import ConfigError
from seqmlm.training.distributed import Processes, choose_device, processes


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_a_machine_without_a_gpu_computes_on_the_cpu(name: str) -> None:
    assert choose_device(name) == torch.device("cpu")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_a_gpu_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"device = '{name}': this machine has 0 usable CUDA"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "mps", "meta", "cuda:x"])
def test_unknown_devices_are_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ConfigError, match="it is 'auto', 'cpu', 'cuda' or 'cuda:N'"):
        choose_device(name)


def test_a_single_process_needs_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with processes("cpu") as alone:
        assert alone == Processes(0, 1, torch.device("cpu"))
        assert alone.is_main
        values = torch.tensor([1.0, 2.0])
        assert torch.equal(alone.sum(values), values)
        assert alone.any(3) == 3
        alone.wait_for_main()
        module = torch.nn.Linear(2, 2)
        assert alone.parallelise(module) is module
    assert not torch.distributed.is_initialized()
