"""The most probable tokens at each mask of a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from seqmlm.data.packing import pack
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference.texts import given_texts
from seqmlm.objectives.rows import Row
from seqmlm.objectives.trained import require_masks

if TYPE_CHECKING:
    from seqmlm.encoding import Encoding
    from seqmlm.model.model import Model


@dataclass(frozen=True, slots=True)
class Filling:
    """One token proposed for a mask.

    Args:
        token: as written in the vocabulary.
        probability: among the tokens the domain lets be predicted, in [0, 1].
    """

    token: str
    probability: float


def fill_mask(model: Model, text: str, *, top_k: int) -> list[list[Filling]]:
    """See :meth:`seqmlm.model.model.Model.fill_mask`."""
    require_masks(model.trained_objectives, "Filling in masks")
    low, high = model.vocabulary.ranges[model.domain.name]
    if not 1 <= top_k <= high - low:
        raise ConfigError(f"top_k = {top_k}: must be from 1 to {high - low}, the tokens there are.")
    encoding, masks = encode_with_masks(model, text)
    with model.inference():
        hidden = model(pack([Row.of(encoding)]).to(model.device))
        log_probabilities, ids = model.token_head.top_k(
            hidden,
            torch.from_numpy(masks).to(model.device),
            top_k,
            allowed=model.allowed_tokens,
            backend=model.encoder.backend,
        )
    return [
        [
            Filling(model.vocabulary.tokens[token], probability)
            for token, probability in zip(tokens, probabilities, strict=True)
        ]
        for tokens, probabilities in zip(
            ids.tolist(), log_probabilities.exp().tolist(), strict=True
        )
    ]


def encode_with_masks(model: Model, text: str) -> tuple[Encoding, npt.NDArray[np.int64]]:
    """Return the encoding of a text and where its masks are, at least one.

    Raises:
        DataError: the text cannot be encoded or holds no mask.
    """
    (text,) = given_texts([text])
    encoding = model.domain.parse(text)
    masks = np.flatnonzero(encoding.ids == model.vocabulary.special.mask)
    if not len(masks):
        mask_token = model.vocabulary.tokens[model.vocabulary.special.mask]
        raise DataError(f"There is no {mask_token} in {text!r}: write it where a token is missing.")
    return encoding, masks
