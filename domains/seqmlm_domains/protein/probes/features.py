"""What a probe sees of a protein or residue: embeddings of an encoder, or counts of letters."""

# M examples, F features, N residues of a protein

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmlm.inference.embedding import embed_encodings
from seqmlm.model.model import Model
from seqmlm_domains.protein.probes.task import LabelledProtein, Level
from seqmlm_domains.protein.tokenizer import RESIDUE_RANGE

WINDOW: Final = 15
"""Residues around and including the one that is labelled; that of early predictors of structure."""

LETTERS: Final = RESIDUE_RANGE[1] - RESIDUE_RANGE[0] + 1
"""The standard residues, and one more for all other letters."""


def embeddings(
    model: Model, proteins: Sequence[LabelledProtein], level: Level, *, tokens_per_batch: int
) -> Tensor:
    """Return the last hidden states, float32 ``[M, hidden_size]``: means over a protein, or each.

    Args:
        model: stays as it is.
        proteins: with M labels together.
        level: ``protein`` gives one row for each, ``residue`` one for each residue.
        tokens_per_batch: bounds the memory of the encoder; results do not depend on it.
    """
    vectors = embed_encodings(
        model,
        [protein.encoding for protein in proteins],
        pooling="mean" if level == "protein" else "tokens",
        tokens_per_batch=tokens_per_batch,
    )
    return torch.cat(list(vectors))


def with_random_weights(model: Model, *, seed: int) -> Model:
    """Return an untrained model of the same architecture, on the same device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Model(model.domain, model.encoder.config, backend=model.encoder.backend)
    return fresh.to(model.device).eval()


def composition(proteins: Sequence[LabelledProtein], level: Level) -> Tensor:
    """Return shares of the residues, float32 ``[M, 21]``, of the protein or of a window.

    The window is centred on the labelled residue and ends where the protein does.
    """
    if level == "protein":
        return torch.stack([_one_hot(protein).mean(0) for protein in proteins])
    return torch.cat([_window_shares(_one_hot(protein)) for protein in proteins])


def kmer_shares(proteins: Sequence[LabelledProtein], *, k: int) -> Tensor:
    """Return shares of the k-mers of each protein, float32 ``[M, 21 ** k]``; k is 1, 2 or 3."""
    rows = np.zeros((len(proteins), LETTERS**k), np.float32)
    for row, protein in zip(rows, proteins, strict=True):
        letters = _letters(protein)
        count = len(letters) - k + 1
        if count > 0:
            codes = sum(letters[i : i + count] * LETTERS ** (k - 1 - i) for i in range(k))
            row += np.bincount(codes, minlength=len(row)) / count
    return torch.from_numpy(rows)


def window_residues(proteins: Sequence[LabelledProtein]) -> Tensor:
    """Return which residue stands at each place of the window, float32 ``[M, 21 x 15]``."""
    half = WINDOW // 2
    return torch.cat(
        [
            F.pad(_one_hot(protein), (0, 0, half, half)).unfold(0, WINDOW, 1).flatten(1)
            for protein in proteins
        ]
    )


def _letters(protein: LabelledProtein) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Residues as int64 ``[N]`` from 0; whatever is no standard residue is 20."""
    low, high = RESIDUE_RANGE
    ids = protein.encoding.ids[1:-1].astype(np.int64)
    return np.where((ids >= low) & (ids < high), ids - low, LETTERS - 1)


def _one_hot(protein: LabelledProtein) -> Tensor:
    """Float32 ``[N, 21]``."""
    return F.one_hot(torch.from_numpy(_letters(protein)), LETTERS).float()


def _window_shares(one_hot: Tensor) -> Tensor:
    """Mean over the window around each residue, ``[N, 21]``."""
    half = WINDOW // 2
    sums = F.pad(one_hot, (0, 0, half, half)).unfold(0, WINDOW, 1).sum(-1)
    return sums / sums.sum(-1, keepdim=True)
