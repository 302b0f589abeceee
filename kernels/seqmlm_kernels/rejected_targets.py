"""Count of predictions that could not be scored, kept on the device so that nobody waits for it.

A target outside its allowed set, or a row or set that does not exist, has loss 0 and no gradient.
On the CPU it is an error; on a GPU finding out would make the host wait, so the backends add to
one integer per device and whoever waits anyway, as a training loop does when it logs, reads it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import unset_fake_temporarily

_counters: dict[torch.device, Tensor] = {}


def rejected_targets(device: torch.device) -> Tensor:
    """The counter of a device: [1] int64, on that device.

    Reading it waits for the device; ``zero_()`` starts it anew. Calls within torch.compile and
    replays of CUDA graphs add to it too. The first call on a device allocates, so it must not fall
    within a capture of one's own; torch.compile allocates when it traces, before any capture.
    """
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    if device not in _counters:
        # What is made in inference mode, within torch.func or of fakes cannot be added to later.
        with (
            torch.inference_mode(False),
            temporarily_clear_interpreter_stack(),
            unset_fake_temporarily(),
        ):
            _counters[device] = torch.zeros(1, dtype=torch.int64, device=device)
    return _counters[device]


# What torch.compiler.assume_constant_result does, without its import of the compiler, which takes
# a second: a graph has the counter as a buffer that it writes, like the statistics of a batch norm.
rejected_targets._dynamo_marked_constant = True  # type: ignore[attr-defined]


def count_rejected(rejected: Tensor) -> None:
    """Add how many of ``rejected``, [M] bool, are true to the counter of its device."""
    _add_count(rejected_targets(rejected.device), rejected)


# An operator, since torch.func lets no other function write what it did not make itself.
@torch.library.custom_op("seqmlm_kernels::count_rejected", mutates_args=("counter",))
def _add_count(counter: Tensor, rejected: Tensor) -> None:
    counter.add_(rejected.sum())
