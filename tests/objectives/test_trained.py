"""What a model may be asked: every command follows the one rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from seqmlm.domain import Domain
from seqmlm.errors import ConfigError
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Direction, TrainedObjective
from seqmlm.objectives.trained import causal_direction, require_masks, require_token_predictions

MLM = TrainedObjective("mlm", None, None)
CLM = TrainedObjective("clm", "left_to_right", "causal")
BACKWARDS = TrainedObjective("backwards", "right_to_left", "causal")
PREFIX_LM = TrainedObjective("prefix_lm", "left_to_right", "bidirectional")
RTD = TrainedObjective("rtd", None, None, predicts_tokens=False)
SOP = TrainedObjective("sop", None, None, predicts_tokens=False)


@pytest.mark.parametrize(
    ("objectives", "direction"),
    [
        pytest.param([], None, id="no-record"),
        pytest.param([MLM], None, id="mlm"),
        pytest.param([CLM, MLM], None, id="masks-besides-causal"),
        pytest.param([CLM], "left_to_right", id="clm"),
        pytest.param([PREFIX_LM], "left_to_right", id="prefix_lm"),
        pytest.param([BACKWARDS, CLM], "right_to_left", id="the-first-decides"),
        pytest.param([RTD, CLM], "left_to_right", id="detection-fills-in-nothing"),
    ],
)
def test_a_model_fills_in_masks_or_predicts_in_one_direction(
    objectives: Sequence[TrainedObjective], direction: Direction | None
) -> None:
    assert causal_direction(objectives) == direction
    require_token_predictions(objectives)
    if direction is None:
        require_masks(objectives, "This")
    else:
        with pytest.raises(ConfigError, match=rf"^This needs a model.*causally \({direction}\)"):
            require_masks(objectives, "This")


@pytest.mark.parametrize("objectives", [[RTD], [SOP], [SOP, RTD]], ids=["rtd", "sop", "both"])
def test_a_model_that_predicts_no_tokens_is_asked_for_none(
    objectives: Sequence[TrainedObjective],
) -> None:
    with pytest.raises(ConfigError, match="alone, which predicts no tokens"):
        require_token_predictions(objectives)
    with pytest.raises(ConfigError, match="alone, which predicts no tokens"):
        require_masks(objectives, "This")


@pytest.mark.parametrize(
    ("objectives", "message"),
    [([CLM], "trained causally"), ([PREFIX_LM], "trained causally"), ([RTD], "predicts no tokens")],
    ids=["clm", "prefix_lm", "rtd"],
)
@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda model: model.fill_mask("a<mask>"), id="fill_mask"),
        pytest.param(lambda model: model.infill(["a<mask>"]), id="infill"),
        pytest.param(lambda model: model.pseudo_log_likelihood(["ab"]), id="likelihood"),
        pytest.param(lambda model: model.pseudo_perplexity(["ab"]), id="perplexity"),
    ],
)
def test_what_needs_masks_is_refused_without(
    words: Domain,
    build_model: Callable[..., Model],
    ask: Callable[[Model], object],
    objectives: Sequence[TrainedObjective],
    message: str,
) -> None:
    model = build_model(words)
    model.trained_objectives = tuple(objectives)
    with pytest.raises(ConfigError, match=message):
        ask(model)
