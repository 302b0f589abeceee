"""The best legal span of a context under start and end scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens ``start`` to ``end`` of a row, both included.

    Args:
        start: position of the first token.
        end: of the last, not before ``start``.
        log_probability: of start and end together, nats.
    """

    start: int
    end: int
    log_probability: float


def best_span(
    log_probabilities: npt.NDArray[np.float64], first: int, last: int, *, max_tokens: int
) -> Span:
    """Return the most probable span inside a context; the earliest and shortest of equal ones.

    Args:
        log_probabilities: float64 ``[tokens, 2]`` of starting and of ending at each token.
        first: first token of the context.
        last: one after its last; more than ``first``.
        max_tokens: longest span, 1 or more.
    """
    start, end = log_probabilities[first:last].T
    best = Span(first, first, -np.inf)
    for extra in range(min(max_tokens, last - first)):
        together = start[: len(start) - extra] + end[extra:]
        position = int(together.argmax())
        if together[position] > best.log_probability:
            best = Span(first + position, first + position + extra, float(together[position]))
    return best


def log_softmax_by_row(scores: Tensor, candidates: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Return the log-softmax of each column over the candidates of each row.

    Args:
        scores: float ``[tokens, k]``.
        candidates: bool ``[tokens]``, at least one in each row.
        cu_seqlens: int32 ``[rows + 1]``.

    Returns:
        Float ``[tokens, k]``, -inf where a token is no candidate.
    """
    lengths = cu_seqlens.diff().long()
    rows = len(lengths)
    if not rows:
        return scores
    row = torch.repeat_interleave(torch.arange(rows, device=scores.device), lengths)
    column = torch.arange(len(scores), device=scores.device) - cu_seqlens.long()[row]
    allowed = scores.masked_fill(~candidates[:, None], -torch.inf)
    padded = scores.new_full((rows, int(lengths.max()), scores.shape[1]), -torch.inf)
    padded = padded.index_put((row, column), allowed)
    return padded.log_softmax(dim=1)[row, column]
