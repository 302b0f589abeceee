"""Rows of UniLM-v2 pseudo-masking (Bao et al. 2020), without the tokens: who may see whom."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmlm_kernels import Visibility

_NOT_READ = torch.iinfo(torch.int32).max
_BLOCK = 5


def pseudo_masked(contexts: list[int], device: torch.device) -> tuple[Visibility, Tensor]:
    """Rows of given contexts, each followed by its masked blocks; and where the rows start.

    An eighth of a context is masked, in blocks of five tokens: behind the context, in which they
    stand as masks, stand the [P] and then the true tokens of each block.
    """
    step, reach, group, lengths = [], [], [], [0]
    for context in contexts:
        row = [(0, 0, -1)] * context
        for block in range(1, context // (8 * _BLOCK) + 1):
            row += [(_NOT_READ, block - 1, block)] * _BLOCK + [(block, block, -1)] * _BLOCK
        step += [fields[0] for fields in row]
        reach += [fields[1] for fields in row]
        group += [fields[2] for fields in row]
        lengths.append(len(row))

    def column(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    visibility = Visibility(step=column(step), reach=column(reach), group=column(group))
    return visibility, column(lengths).cumsum(0).int()
