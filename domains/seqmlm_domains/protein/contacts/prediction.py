"""Contact maps from attention: ESM's regression over the heads, or the mean of all heads."""

# H heads of a layer, N residues

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.analysis.attention import attention_weights
from seqmlm.analysis.layers import attention_blocks, recorded_layers
from seqmlm.data.packing import pack
from seqmlm.encoding import Encoding
from seqmlm.model.model import Model
from seqmlm.model.pair_head import PairHead, corrected_maps
from seqmlm.objectives.rows import Row

FloatArray = npt.NDArray[np.float32]

PROBABILITY: Final = "probability"
CORRECTED_ATTENTION: Final = "corrected attention"


@dataclass(frozen=True)
class ContactMap:
    """How likely any two residues of a protein are to touch.

    Args:
        name: of the protein.
        sequence: one-letter codes.
        scores: float32 ``[N, N]``, symmetric, higher is more likely.
        measure: what they are: ``probability``, or ``corrected attention``, which ranks only.
    """

    name: str
    sequence: str
    scores: FloatArray
    measure: str

    def best_pairs(self, *, min_separation: int, most: int) -> list[tuple[int, int, float]]:
        """Return pairs i < j of residues, counted from 0, with their score, best first.

        Args:
            min_separation: least j - i.
            most: how many; fewer in a short protein.
        """
        first, second = np.triu_indices(len(self.sequence), k=min_separation)
        scores = self.scores[first, second]
        order = np.argsort(-scores, kind="stable")[:most]
        chosen = first[order], second[order], scores[order]
        return list(zip(*(values.tolist() for values in chosen), strict=True))


def contact_measure(model: Model) -> str:
    """Return what :func:`predict_contacts` gives: ``probability`` with a pair head."""
    return CORRECTED_ATTENTION if model.pair_head is None else PROBABILITY


def predict_contacts(model: Model, name: str, encoding: Encoding) -> ContactMap:
    """Return the contact map of one protein.

    Attention between residues is made symmetric and corrected by the average product (Rao et al.
    2021). A model with the regression of an imported ESM-2 turns it into probabilities, as
    ``EsmModel.predict_contacts`` does; of another one the mean over all layers and heads ranks the
    pairs. Attention is computed anew by its definition, because fast backends never hold it.
    Memory: H x N x N floats a few times; one layer at a time.

    Args:
        model: of proteins.
        name: of the protein.
        encoding: with the special tokens at its ends, which form no pairs.

    Raises:
        DataError: the protein is too long for the model.
    """
    config = model.encoder.config
    head = model.pair_head
    residues = len(encoding) - 2
    total = torch.zeros(residues, residues, device=model.device)
    with model.inference(), recorded_layers(model.encoder) as record:
        model(pack([Row.of(encoding)]).to(model.device))
        blocks = attention_blocks(model.encoder)
        for layer, (hidden, context) in enumerate(record.attention_inputs):
            weights = attention_weights(blocks[layer], hidden, context)
            total = total + _layer_scores(head, layer, weights[:, 1:-1, 1:-1])
        if head is None:
            total = total / (config.layers * config.heads)
        else:
            total = torch.sigmoid(total + head.bias)
    sequence = model.domain.decode(encoding.ids.tolist())
    return ContactMap(name, sequence, total.float().cpu().numpy(), contact_measure(model))


def _layer_scores(head: PairHead | None, layer: int, weights: Tensor) -> Tensor:
    maps = corrected_maps(weights)
    return maps.sum(0) if head is None else head.layer_logits(layer, maps)
