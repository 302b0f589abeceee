"""What a model may be asked, given the objectives that it was trained with: one rule for all."""

from __future__ import annotations

from collections.abc import Sequence

from seqmlm.errors import ConfigError
from seqmlm.objectives.rows import Direction, Objective, TrainedObjective


def causal_direction(objectives: Sequence[Objective | TrainedObjective]) -> Direction | None:
    """Return in which direction tokens are predicted; None if masks are filled in.

    Masks are filled in if any objective that predicts tokens does so, and without a record of
    the objectives, as of an older model; otherwise the first that predicts tokens decides.
    """
    directions = [each.causal_direction for each in objectives if each.predicts_tokens]
    return None if None in directions or not directions else directions[0]


def require_token_predictions(objectives: Sequence[Objective | TrainedObjective]) -> None:
    """Refuse to predict tokens with a head that was not trained on the encoder's states.

    Raises:
        ConfigError: there are objectives, and none of them predicts tokens.
    """
    if objectives and not any(objective.predicts_tokens for objective in objectives):
        raise ConfigError(
            f"This model was trained by {_names(objectives)} alone, which predicts no tokens: its "
            "encoder can embed and be fine-tuned. Train it with mlm as well to fill in or score "
            "tokens."
        )


def require_masks(objectives: Sequence[Objective | TrainedObjective], purpose: str) -> None:
    """Refuse a model that never saw a mask, nor the context on both sides of a token.

    Args:
        objectives: that it was trained with.
        purpose: what needs masks, to begin a sentence with.

    Raises:
        ConfigError: the model predicts no tokens, or in one direction alone.
    """
    require_token_predictions(objectives)
    direction = causal_direction(objectives)
    if direction is not None:
        raise ConfigError(
            f"{purpose} needs a model that fills in masks, and this one was trained causally "
            f"({direction}) by {_names(objectives)} alone. Train one with mlm. Of this one, "
            "`seqmlm score` gives log-likelihoods, and `seqmlm generate` continues texts from "
            "left to right."
        )


def _names(objectives: Sequence[Objective | TrainedObjective]) -> str:
    return " and ".join(objective.name for objective in objectives)
