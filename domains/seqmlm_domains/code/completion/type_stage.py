"""The type stage of a model that was trained by ``typed_mlm``, where names are completed.

As in training, the state of the first mask of a name gives the probabilities of its types, and the
tokens are predicted from their states and the expected embedding of the type. Where the source, or
the caller, says which types are possible, all others have probability zero: of one possible type
the expected embedding is its own, as where the declared type was given in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

import seqmlm_kernels
from seqmlm.errors import CheckpointError
from seqmlm.model.model import Model
from seqmlm.model.model_folder import (
    OBJECTIVES_FILE,
    find_model_folder,
    read_model_config,
    read_weights,
)
from seqmlm.model.type_cascade import TypeCascade
from seqmlm.vocabulary import AllowedTokens
from seqmlm_domains.code.completion.completion import ExpectedType
from seqmlm_domains.code.type_vocabulary import NONE, UNKNOWN

TYPES_TOLD: Final = 3
"""Most types that a completion tells of."""

_TABLE: Final = "type_embedding.weight"


class TypeStage:
    """Expects types at masks and conditions states on them.

    Args:
        cascade: trained with the model.
        types: names, as :attr:`~seqmlm.domain.Domain.declared_types` of the model's domain.
    """

    def __init__(self, cascade: TypeCascade, types: Sequence[str]) -> None:
        self._cascade = cascade.eval()
        self._types = tuple(types)
        self._number_of = {name: number for number, name in enumerate(types)}
        self._any = self.allowed(name for name in types if name != NONE)

    @classmethod
    def load(cls, run: Path, model: Model) -> TypeStage | None:
        """Read the stage that a run has trained; None if it was not trained by ``typed_mlm``.

        Args:
            run: a run folder, or its ``model`` folder.
            model: read from there.

        Raises:
            CheckpointError: there is no model, or its file of the stage is damaged.
        """
        folder = find_model_folder(run)
        content = read_model_config(folder)
        if "objectives_sha256" not in content:
            return None
        path = folder / OBJECTIVES_FILE
        weights = _weights_of_stage(read_weights(path, content["objectives_sha256"]))
        if weights is None:
            return None
        types = model.domain.declared_types
        cascade = TypeCascade(model.encoder.config, num_types=len(types))
        try:
            cascade.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"{path} cannot be loaded: {error}") from error
        return cls(cascade.to(model.device), types)

    def allowed(self, names: Iterable[str]) -> AllowedTokens:
        """Return the set of some types; one that the model does not tell apart is ``<unknown>``."""
        unknown = self._number_of[UNKNOWN]
        return AllowedTokens.of(
            {self._number_of.get(name, unknown) for name in names}, len(self._types)
        )

    def probabilities(
        self, first_states: Tensor, allowed: Sequence[AllowedTokens | None]
    ) -> Tensor:
        """Return the probabilities of the types of some names, float32 ``[names, types]``.

        Args:
            first_states: of the first mask of each, ``[names, hidden_size]``.
            allowed: the types that each may have, any if absent; others have exactly 0.
        """
        scores = self._cascade.scores(first_states)
        words = np.stack([(self._any if own is None else own).words for own in allowed])
        return seqmlm_kernels.masked_softmax(
            scores.clamp_min(torch.finfo(scores.dtype).min),  # that of no type is minus infinity
            torch.from_numpy(words).to(scores.device),
            allowed_index=torch.arange(len(allowed), device=scores.device),
        )

    def conditioned(self, states: Tensor, probabilities: Tensor) -> Tensor:
        """Return states that know the types of their names.

        Args:
            states: of masks, ``[masks, hidden_size]``.
            probabilities: of the types of the name of each mask, ``[masks, types]``.
        """
        table = self._cascade.type_embedding.weight
        conditioned: Tensor = self._cascade(states, probabilities.to(table.dtype) @ table)
        return conditioned

    def told(self, probabilities: Tensor) -> tuple[ExpectedType, ...]:
        """Return the most probable types of a name, best first; those of 0 left out.

        Args:
            probabilities: ``[types]``.
        """
        values, numbers = probabilities.topk(min(TYPES_TOLD, len(self._types)))
        return tuple(
            ExpectedType(self._types[number], value)
            for number, value in zip(numbers.tolist(), values.tolist(), strict=True)
            if value
        )


def _weights_of_stage(weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Those of a type stage among what objectives trained, whatever the run calls it."""
    prefix = next(
        (name.removesuffix(_TABLE) for name in weights if name.endswith(f".{_TABLE}")), None
    )
    if prefix is None:
        return None
    return {
        name.removeprefix(prefix): values
        for name, values in weights.items()
        if name.startswith(prefix)
    }
