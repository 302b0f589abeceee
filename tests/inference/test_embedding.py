"""One vector per text, whatever else is embedded beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError
from seqmlm.inference.batches import hidden_states
from seqmlm.inference.embedding import embed_encodings
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row

Models = Callable[..., Model]
TEXTS = ["some text", "a", "the quick brown fox. jumps over", "b. c", "some text"]


@pytest.fixture(scope="module")
def model(words: Domain, build_model: Models) -> Model:
    return build_model(words, biases=True, normalisation="layer")


def states(model: Model, text: str) -> torch.Tensor:
    with torch.no_grad():
        return model(pack([Row.of(model.domain.parse(text))]))  # type: ignore[no-any-return]


def tokens_of(model: Model, text: str) -> torch.Tensor:
    (vectors,) = embed_encodings(
        model, [model.domain.parse(text)], pooling="tokens", tokens_per_batch=100
    )
    return vectors


def test_the_mean_is_that_of_the_token_vectors(model: Model) -> None:
    found = model.embed(TEXTS)
    assert found.dtype == torch.float32
    assert found.shape == (5, 16)
    for text, vector in zip(TEXTS, found, strict=True):
        torch.testing.assert_close(vector, tokens_of(model, text).mean(0), rtol=1e-5, atol=1e-5)


def test_token_vectors_leave_the_special_tokens_out(model: Model) -> None:
    vectors = tokens_of(model, "a b.")
    torch.testing.assert_close(vectors, states(model, "a b.")[1:-1], rtol=1e-5, atol=1e-5)


def test_cls_is_the_first_token(model: Model) -> None:
    found = model.embed(["a b"], pooling="cls")
    torch.testing.assert_close(found, states(model, "a b")[:1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@settings(max_examples=25)
@given(texts=st.lists(st.text("abc .", max_size=12), max_size=6), tokens=st.integers(1, 60))
def test_vectors_do_not_depend_on_batch_size_or_batch_mates(
    model: Model, pooling: Any, texts: list[str], tokens: int
) -> None:
    found = model.embed(texts, pooling=pooling, tokens_per_batch=tokens)
    assert found.shape == (len(texts), 16)
    for text, vector in zip(texts, found, strict=True):
        alone = model.embed([text], pooling=pooling)[0]
        torch.testing.assert_close(vector, alone, rtol=1e-5, atol=1e-5)


def test_the_empty_text_is_the_mean_of_its_special_tokens(model: Model) -> None:
    torch.testing.assert_close(
        model.embed([""])[0], states(model, "").mean(0), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("pooling", ["max", "tokens", ""])
def test_unknown_pooling_is_refused(model: Model, pooling: Any) -> None:
    """Anything unknown meant the mean once."""
    with pytest.raises(ConfigError, match=f"pooling = '{pooling}': it is 'mean' or 'cls'"):
        model.embed(["a"], pooling=pooling)


@given(lengths=st.lists(st.integers(0, 12), max_size=8), budget=st.integers(1, 40))
@settings(max_examples=25)
def test_batches_hold_every_row_once_and_no_more_tokens_than_allowed(
    model: Model, lengths: list[int], budget: int
) -> None:
    rows = [Row.of(model.domain.parse("a" * length)) for length in lengths]
    seen: list[int] = []
    with model.inference():
        for chosen, batch, hidden in hidden_states(model, rows, tokens_per_batch=budget):
            assert batch.num_rows == len(chosen)
            assert batch.num_tokens <= budget or len(chosen) == 1
            assert hidden.shape == (batch.num_tokens, 16)
            seen += chosen
    assert sorted(seen) == list(range(len(rows)))


def test_vectors_can_be_trained_on(model: Model) -> None:
    """Tensors of inference mode refuse autograd: users feed these to a classifier."""
    layer = torch.nn.Linear(16, 2)
    layer(model.embed(TEXTS)).sum().backward()
    assert layer.weight.grad is not None


def test_embedding_leaves_the_mode_of_the_model_alone(model: Model) -> None:
    model.train()
    vectors = model.embed(["a"])
    assert model.training
    model.eval()
    assert torch.equal(vectors, model.embed(["a"]))
