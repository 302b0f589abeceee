"""Surprisal against a softmax by hand, for both kinds of runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from seqmlm.analysis.run import AnalysedRun
from seqmlm.analysis.surprisal import analyse_surprisal, token_surprisal
from seqmlm.data.packing import pack
from seqmlm.errors import DataError

Runs = Callable[..., AnalysedRun]


def letter_nats(run: AnalysedRun, hidden: torch.Tensor, token: int) -> float:
    """Minus log p of a letter among the 26 letters."""
    model = run.model
    logits = model.encoder.token_embedding.weight @ hidden + model.token_head.bias
    return -float(logits.detach()[7:33].log_softmax(0)[token - 7])


def test_a_run_with_masks_scores_each_token_from_all_others(analysed: Runs) -> None:
    run = analysed()
    report = analyse_surprisal(run, [("x", run.model.domain.parse("the fox."))])
    (sequence,) = report.sequences
    assert "".join(sequence.tokens) == "the\N{OPEN BOX}fox."
    assert sequence.units == (0, 0, 0, -1, 1, 1, 1, -1)
    assert [nats is None for nats in sequence.nats] == [unit < 0 for unit in sequence.units]
    (total,) = run.model.pseudo_log_likelihood(["the fox."])
    assert sum(sequence.scored_nats) == pytest.approx(-total, abs=1e-5)
    assert report.predicted_from == "all other tokens"


@pytest.mark.parametrize(
    ("direction", "back"), [("left_to_right", 1), ("right_to_left", -1)], ids=["right", "left"]
)
def test_a_causal_run_scores_each_token_from_those_before_it(
    analysed: Runs, direction: str, back: int
) -> None:
    run = analysed(direction=direction)
    encoding = run.model.domain.parse("the fox.")
    positions, nats = token_surprisal(run, encoding, tokens_per_batch=100)
    assert positions.tolist() == [1, 2, 3, 5, 6, 7]
    with torch.no_grad():
        hidden = run.model(pack([run.row(encoding)]))
    expected = [
        letter_nats(run, hidden[position - back], int(encoding.ids[position]))
        for position in positions
    ]
    assert nats == pytest.approx(np.array(expected), abs=1e-5)


def test_what_follows_does_not_change_causal_surprisal(analysed: Runs) -> None:
    run = analysed(direction="left_to_right")
    found = [
        token_surprisal(run, run.model.domain.parse(text), tokens_per_batch=100)[1][:4]
        for text in ("abcdxyz", "abcdqqq")
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize("text", ["", "...", "<mask>"], ids=["empty", "unmaskable", "mask"])
def test_a_text_without_a_token_to_score_is_refused(analysed: Runs, text: str) -> None:
    run = analysed()
    with pytest.raises(DataError, match="record 7: no token of it can be scored"):
        analyse_surprisal(run, [("record 7", run.model.domain.parse(text))])


def test_json_gives_nats_and_bits(analysed: Runs) -> None:
    run = analysed()
    content = analyse_surprisal(run, [("x", run.model.domain.parse("ab"))]).to_json()
    (sequence,) = content["sequences"]
    assert sequence["mean_bits"] == pytest.approx(sequence["mean_nats"] * 1.442695, rel=1e-6)
    assert [token["token"] for token in sequence["tokens"]] == ["a", "b"]
