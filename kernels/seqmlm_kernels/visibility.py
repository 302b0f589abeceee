"""Who may attend to whom: three integers per token, one rule, shared by every backend.

Query i may attend to key j of the same packed sequence iff

    (group[j] < 0 and step[j] <= reach[i]) or (group[j] >= 0 and group[j] == group[i])

and, in a layer with a window, ``|position[i] - position[j]| <= window``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Visibility:
    """Three int32 per token that say which keys a query may attend to.

    A token with ``group < 0`` is a content token: whoever reaches its step sees it. A token with
    ``group >= 0`` is a pseudo token: only its own group sees it, and its step is not read.

    ==============================  =========  ==========  =====
    token                           step       reach       group
    ==============================  =========  ==========  =====
    bidirectional (MLM)             0          0           -1
    causal, t-th of its sequence    t          t           -1
    prefix-LM context / response t  0 / t + 1  0 / t + 1   -1
    pseudo-masked block s: true     s          s           -1
    pseudo-masked block s: [P]      not read   s - 1       s
    ==============================  =========  ==========  =====

    Every token of the table sees itself. The pseudo-masked rows are those of UniLM-v2 (Bao et
    al. 2020, arXiv 2002.12804).

    Args:
        step: [T] int32, when a content token becomes visible.
        reach: [T] int32, the last step a query sees.
        group: [T] int32, -1 or the group of a pseudo token.

    Raises:
        TypeError: a field is not an int32 tensor.
        ValueError: the fields are not [T] for one T, or are not on one device.
    """

    step: Tensor
    reach: Tensor
    group: Tensor

    def __post_init__(self) -> None:
        for name in ("step", "reach", "group"):
            field = getattr(self, name)
            if not isinstance(field, Tensor) or field.dtype != torch.int32:
                given = field.dtype if isinstance(field, Tensor) else type(field).__name__
                raise TypeError(f"Visibility: {name} is {given}, it must be a torch.int32 tensor.")
            if field.ndim != 1 or field.shape != self.step.shape:
                raise ValueError(
                    f"Visibility: {name} has shape {tuple(field.shape)} and step "
                    f"{tuple(self.step.shape)}; all three must be [tokens]."
                )
            if field.device != self.step.device:
                raise ValueError(
                    f"Visibility: {name} is on {field.device} and step on {self.step.device}; "
                    "all three must be on one device."
                )

    @classmethod
    def bidirectional(cls, length: int, *, device: torch.device | str = "cpu") -> Visibility:
        """Everything sees everything of its sequence, for ``length`` tokens.

        A batch of one kind passes ``visibility=None`` instead, which is faster; this is for the
        bidirectional rows of a mixed batch.
        """
        zeros = torch.zeros(length, dtype=torch.int32, device=device)
        return cls(step=zeros, reach=zeros, group=torch.full_like(zeros, -1))

    @classmethod
    def causal(cls, cu_seqlens: Tensor) -> Visibility:
        """Each token sees itself and what precedes it in its sequence.

        Args:
            cu_seqlens: [B + 1] integer, boundaries of the packed sequences, the last one T.
        """
        step = sequence_positions(cu_seqlens)
        return cls(step=step, reach=step, group=torch.full_like(step, -1))


def sequence_positions(cu_seqlens: Tensor) -> Tensor:
    """Index of each packed token within its own sequence: [T] int32.

    Args:
        cu_seqlens: [B + 1] integer, boundaries of the packed sequences, the last one T.
    """
    starts = cu_seqlens[:-1].repeat_interleave(cu_seqlens.diff())
    return (torch.arange(len(starts), device=starts.device) - starts).to(torch.int32)


def visible_pairs(
    step: Tensor, reach: Tensor, group: Tensor, *, queries: slice = slice(None)
) -> Tensor:
    """Dense form of the rule: [..., L] integers to [..., Lq, L] bool, queries before keys.

    Args:
        step, reach, group: as in `Visibility`.
        queries: the tokens that ask; all of them by default.
    """
    key_step, key_group = step.unsqueeze(-2), group.unsqueeze(-2)
    content = (key_group < 0) & (key_step <= reach[..., queries].unsqueeze(-1))
    pseudo = (key_group >= 0) & (key_group == group[..., queries].unsqueeze(-1))
    return content | pseudo


def pairs_within_window(positions: Tensor, window: int, *, queries: slice = slice(None)) -> Tensor:
    """Whether two positions are at most ``window`` apart: [..., L] to [..., Lq, L] bool.

    Args:
        positions: of the tokens.
        window: the largest distance.
        queries: as in `visible_pairs`.
    """
    distances = (positions[..., queries].unsqueeze(-1) - positions.unsqueeze(-2)).abs()
    # Compared with a number that its dtype cannot hold, no distance is small enough.
    return distances <= min(window, torch.iinfo(distances.dtype).max)
