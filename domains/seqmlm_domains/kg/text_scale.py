"""The text of entities without an own token on the scale of those that have one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm_domains.kg.graph import GraphVocabulary


@dataclass(frozen=True)
class TextPrior:
    """Log-likelihood of every word in every slot of a text, whatever is asked.

    Args:
        table: float32 ``[slots, words]``, nats, mean over some queries; word 0 is the end of a
            name, the sub-words follow.
        first_slot: number of the first slot of a text.
        first_subword: vocabulary id of sub-word 0.
    """

    table: npt.NDArray[np.float32]
    first_slot: int
    first_subword: int

    @staticmethod
    def pairs(
        graph: GraphVocabulary, slots: range
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return slot and vocabulary id of each entry of a table, row by row.

        Args:
            graph: whose words they are.
            slots: of a text.
        """
        words = np.array([graph.end_token, *range(graph.first_subword, len(graph.vocabulary))])
        return (
            np.repeat(np.arange(slots.start, slots.stop, dtype=np.int32), len(words)),
            np.tile(words.astype(np.int64), len(slots)),
        )

    def columns(self, slots: npt.NDArray[np.int32], tokens: npt.NDArray[np.int64]) -> Tensor:
        """Return what pairs of slot and token have; 0 for those of no text.

        Args:
            slots: int32 ``[columns]``.
            tokens: int64 ``[columns]``.

        Returns:
            float32 ``[columns, 1]``, nats, on the CPU.
        """
        found = np.zeros((len(slots), 1), np.float32)
        of_text = slots >= self.first_slot
        words = np.maximum(tokens[of_text] - self.first_subword + 1, 0)
        found[of_text, 0] = self.table[slots[of_text] - self.first_slot, words]
        return torch.from_numpy(found)


@dataclass(frozen=True)
class TextScale:
    """Scores of texts beside scores that own tokens have a part in.

    An entity with the likelihood t of its text, and p of the same text under any query, scores
    ``scale * t - prior_share * p + offset``. The share of p keeps a name of rare words from being
    last whatever is asked.

    Args:
        scale: any number; 1 leaves likelihoods as they are.
        prior_share: any number; at ``scale`` the score is a pointwise mutual information.
        offset: nats.
        prior: gives p.
    """

    scale: float
    prior_share: float
    offset: float
    prior: TextPrior

    @classmethod
    def of(cls, content: Mapping[str, Any], table: npt.NDArray[np.float32]) -> TextScale:
        """Rebuild what :meth:`to_json` gave, and the table of the prior."""
        return cls(
            content["scale"],
            content["prior_share"],
            content["offset"],
            TextPrior(table, content["first_slot"], content["first_subword"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the table of the prior is not among them."""
        return {
            "scale": self.scale,
            "prior_share": self.prior_share,
            "offset": self.offset,
            "first_slot": self.prior.first_slot,
            "first_subword": self.prior.first_subword,
        }
