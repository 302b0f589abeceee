"""What is no list of texts is refused by name, never taken for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from seqmlm.domain import Domain
from seqmlm.errors import DataError
from seqmlm.inference.texts import given_texts
from seqmlm.model.model import Model

Models = Callable[..., Model]


@pytest.fixture(scope="module")
def model(words: Domain, build_model: Models) -> Model:
    return build_model(words)


@pytest.mark.parametrize(
    "method", ["embed", "pseudo_log_likelihood", "pseudo_perplexity", "infill"]
)
def test_one_text_is_not_taken_for_a_list_of_its_characters(model: Model, method: str) -> None:
    with pytest.raises(DataError, match=r"'some text' is one text; give a list"):
        getattr(model, method)("some text")


@pytest.mark.parametrize("item", [3, None, b"bytes", ["nested"]], ids=repr)
def test_an_item_that_is_no_text_is_named_by_its_place(model: Model, item: Any) -> None:
    with pytest.raises(DataError, match=r"text 2 is .* must be a string"):
        model.embed(["some text", item])
    with pytest.raises(DataError, match="must be a string"):
        model.fill_mask(item)


def test_texts_may_come_from_anything_that_has_an_order() -> None:
    assert given_texts(("a", "b")) == ["a", "b"]
    assert given_texts([]) == []
