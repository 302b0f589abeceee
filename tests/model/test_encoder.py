"""The encoder under every option: finite, independent of batch mates, and seeing what it may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.errors import DataError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.encoder import Encoder, attention_context
from seqmlm.model.model import Model
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.rows import Row, RowVisibility

Models = Callable[..., Model]

LEARNED = {"positions": "learned", "max_positions": 40}
TOKEN_DROPOUT = {"token_dropout": True, "mask_token_rate": 0.12}

OPTIONS = st.builds(
    lambda *parts: {key: value for part in parts for key, value in part.items()},
    st.sampled_from([{}, {"normalisation_placement": "post"}]),
    st.sampled_from([{}, {"normalisation": "layer"}]),
    st.sampled_from([{}, {"activation": "gelu"}]),
    st.sampled_from([{}, LEARNED]),
    st.sampled_from([{}, {"key_value_heads": 1}]),
    st.sampled_from([{}, {"window": 2, "global_every": 2}]),
    st.sampled_from([{}, {"segments": 3}]),
    st.sampled_from([{}, {"biases": True}]),
    st.sampled_from([{}, TOKEN_DROPOUT]),
    st.sampled_from([{}, {"embedding_normalisation": True}]),
    st.sampled_from([{}, {"head_transform": True}]),
)

NAMED_OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "bert": {
        **LEARNED,
        "normalisation_placement": "post",
        "normalisation": "layer",
        "activation": "gelu",
        "embedding_normalisation": True,
        "biases": True,
        "segments": 2,
        "head_transform": True,
    },
    "esm-2": {
        **TOKEN_DROPOUT,
        "normalisation": "layer",
        "activation": "gelu",
        "biases": True,
        "head_transform": True,
    },
    "modernbert": {
        "normalisation": "layer",
        "window": 2,
        "global_every": 3,
        "layers": 3,
        "embedding_normalisation": True,
        "first_attention_normalisation": False,
        "local_rotary_base": 100.0,
    },
    "roberta": {
        "positions": "learned",
        "max_positions": 42,
        "position_offset": 2,
        "segments": 1,
        "normalisation_placement": "post",
    },
    "grouped queries": {"heads": 4, "key_value_heads": 2},
}
every_named_option = pytest.mark.parametrize(
    "options", NAMED_OPTIONS.values(), ids=NAMED_OPTIONS.keys()
)

TEXTS = ["some words.", "a", "", "the <mask> fox", "q<mask><mask> and so on", "a b c d e f g h"]


def rows_of(domain: Domain, texts: Sequence[str], segments: int = 1) -> list[Row]:
    rows = [Row.of(domain.parse(text)) for text in texts]
    return [
        replace(row, segment_ids=np.arange(len(row.ids), dtype=np.int32) % segments) for row in rows
    ]


def hidden_of(model: Model, rows: Sequence[Row]) -> list[Tensor]:
    batch = pack(rows)
    with torch.no_grad():
        return list(torch.split(model(batch), batch.cu_seqlens.diff().tolist()))


@settings(max_examples=60)
@given(options=OPTIONS)
def test_forward_and_backward_are_finite_and_reach_every_parameter(
    words: Domain, build_model: Models, options: dict[str, Any]
) -> None:
    model = build_model(words, **options)
    objective = MaskedLanguageModelling(words, {"rate": 0.5})
    rows = [
        replace(row, segment_ids=np.arange(len(row.ids), dtype=np.int32) % max(
            model.encoder.config.segments, 1))
        for seed, text in enumerate(TEXTS)
        for row in objective.rows(words.parse(text), np.random.default_rng(seed))
    ]  # fmt: skip
    batch = pack(rows)
    hidden = model(batch)
    assert hidden.shape == (batch.num_tokens, 16)
    loss = objective.loss(model, hidden, batch)
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert hidden.isfinite().all()
    assert loss.total.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@settings(max_examples=40)
@given(options=OPTIONS, order=st.permutations(range(len(TEXTS))))
def test_a_row_is_the_same_alone_and_in_any_batch(
    words: Domain, build_model: Models, options: dict[str, Any], order: list[int]
) -> None:
    model = build_model(words, **options)
    rows = rows_of(words, TEXTS, max(model.encoder.config.segments, 1))
    together = hidden_of(model, [rows[i] for i in order])
    for position, states in zip(order, together, strict=True):
        (alone,) = hidden_of(model, [rows[position]])
        torch.testing.assert_close(states, alone, rtol=1e-5, atol=1e-5)


@settings(max_examples=40)
@given(options=OPTIONS, chosen=st.lists(st.integers(0, 30), max_size=8))
def test_states_of_some_tokens_are_those_of_a_pass_over_all(
    words: Domain, build_model: Models, options: dict[str, Any], chosen: list[int]
) -> None:
    model = build_model(words, **options)
    batch = pack(rows_of(words, TEXTS, max(model.encoder.config.segments, 1)))
    rows = torch.tensor(chosen, dtype=torch.int64)
    with torch.no_grad():
        found = model(batch, rows=rows)
        torch.testing.assert_close(found, model(batch)[rows], rtol=1e-5, atol=1e-5)


@every_named_option
def test_another_text_in_a_neighbouring_row_changes_nothing_at_all(
    words: Domain, build_model: Models, options: dict[str, Any]
) -> None:
    model = build_model(words, **options)
    before = hidden_of(model, rows_of(words, ["first", "in the middle", "other"]))
    after = hidden_of(model, rows_of(words, ["mates", "in the middle", "rhtoe"]))
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0], after[0])


@every_named_option
def test_no_gradient_flows_into_a_neighbouring_row(
    words: Domain, build_model: Models, options: dict[str, Any]
) -> None:
    model = build_model(words, **options)
    batch = pack(rows_of(words, ["abc", "xyz", "ijk"]))
    hidden = model(batch)
    hidden[5:10].square().sum().backward()
    gradient = model.encoder.token_embedding.weight.grad
    assert gradient is not None
    for letter in "xyz":
        assert gradient[words.vocabulary.id_of(letter)].any()
    for letter in "abcijk":
        assert not gradient[words.vocabulary.id_of(letter)].any()


def causal(row: Row) -> Row:
    step = np.arange(len(row.ids), dtype=np.int32)
    return replace(row, visibility=RowVisibility(step, step, np.full_like(step, -1)))


@pytest.mark.parametrize("backend", ["torch", "reference"])
@every_named_option
def test_causal_rows_see_no_future(
    words: Domain, build_model: Models, options: dict[str, Any], backend: str
) -> None:
    model = build_model(words, backend=backend, **options)
    before, after = (
        hidden_of(model, [causal(row) for row in rows_of(words, [text])])[0]
        for text in ("abcdefgh", "abcdxyz.")
    )
    assert torch.equal(before[:5], after[:5])
    assert not torch.equal(before[5:], after[5:])


def test_rows_with_and_without_visibility_share_a_batch(words: Domain, build_model: Models) -> None:
    model = build_model(words)
    plain, other = rows_of(words, ["bidirectional", "left to right"])
    mixed = hidden_of(model, [plain, causal(other)])
    torch.testing.assert_close(mixed[0], hidden_of(model, [plain])[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mixed[1], hidden_of(model, [causal(other)])[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(mixed[1], hidden_of(model, [other])[0], atol=1e-2)


@pytest.mark.parametrize("window", [0, 3])
def test_rotary_positions_are_relative(words: Domain, build_model: Models, window: int) -> None:
    model = build_model(words, window=window, global_every=2)
    (row,) = rows_of(words, ["relative positions"])
    (expected,) = hidden_of(model, [row])
    for shift in (1, 50):
        (shifted,) = hidden_of(model, [replace(row, position_ids=row.position_ids + shift)])
        torch.testing.assert_close(shifted, expected, rtol=1e-5, atol=1e-5)
    (turned,) = hidden_of(model, [replace(row, position_ids=row.position_ids[::-1].copy())])
    assert not torch.allclose(turned, expected, atol=1e-2)


def test_learned_positions_are_absolute(words: Domain, build_model: Models) -> None:
    model = build_model(words, **LEARNED)
    (row,) = rows_of(words, ["absolute"])
    (expected,) = hidden_of(model, [row])
    (shifted,) = hidden_of(model, [replace(row, position_ids=row.position_ids + 1)])
    assert not torch.allclose(shifted, expected, atol=1e-2)


def test_segments_tell_equal_tokens_apart(words: Domain, build_model: Models) -> None:
    model = build_model(words, segments=2)
    (row,) = rows_of(words, ["aaaa"])
    (same,) = hidden_of(model, [row])
    (other,) = hidden_of(model, [replace(row, segment_ids=np.ones_like(row.segment_ids))])
    assert not torch.allclose(same, other, atol=1e-2)


def test_roles_tell_equal_tokens_apart(words: Domain, build_model: Models) -> None:
    model = build_model(words, roles=3)
    (row,) = rows_of(words, ["aaaa"])
    first, last = (
        hidden_of(model, [replace(row, role_ids=np.full_like(row.ids, role))])[0] for role in (0, 2)
    )
    assert not torch.allclose(first, last, atol=1e-2)


def test_a_row_without_roles_has_role_0_alone_and_beside_a_row_with_roles(
    words: Domain, build_model: Models
) -> None:
    model = build_model(words, roles=2)
    (row,) = rows_of(words, ["aaaa"])
    (alone,) = hidden_of(model, [row])
    others = [replace(row, role_ids=np.full_like(row.ids, role)) for role in (0, 1)]
    beside, zero, _ = hidden_of(model, [row, *others])
    torch.testing.assert_close(beside, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(zero, alone, rtol=1e-5, atol=1e-5)


def test_local_layers_see_no_further_than_their_window(words: Domain, build_model: Models) -> None:
    """Layer 0 is global: in a model of layer 1 alone a change two windows away is not seen."""
    model = build_model(words, layers=2, window=2, global_every=2)
    model.encoder.layers = model.encoder.layers[1:]
    before, after = (
        hidden_of(model, rows_of(words, [text]))[0] for text in ("abcdefgh", "abcdefgx")
    )
    changed = (before != after).any(-1)
    assert changed.tolist() == [False] * 6 + [True] * 4


@pytest.mark.parametrize("texts", [["a" * 39], ["ok", "a" * 60]], ids=["by one", "second row"])
def test_sequences_longer_than_the_learned_positions_are_refused(
    words: Domain, build_model: Models, texts: list[str]
) -> None:
    """An IndexError came out of the embedding once; on a GPU it would be a device assertion."""
    model = build_model(words, **LEARNED)
    with pytest.raises(DataError, match=r"has (41|62) tokens.* learned 40 positions"):
        hidden_of(model, rows_of(words, texts))
    assert len(hidden_of(model, rows_of(words, ["a" * 38]))[0]) == 40


@every_named_option
def test_reference_and_torch_backends_agree_on_a_whole_model(
    words: Domain, build_model: Models, options: dict[str, Any]
) -> None:
    objective = MaskedLanguageModelling(words, {"rate": 0.5})
    batch = pack([
        row
        for seed, text in enumerate(TEXTS)
        for row in objective.rows(words.parse(text), np.random.default_rng(seed))
    ])  # fmt: skip
    results = []
    for backend in ("reference", "torch"):
        model = build_model(words, backend=backend, **options).double()
        hidden = model(batch)
        loss = objective.loss(model, hidden, batch).total
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        results.append((hidden, loss, *(g for g in gradients if g is not None)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


def test_dropout_acts_in_training_alone(words: Domain, build_model: Models) -> None:
    model = build_model(words, dropout=0.5)
    rows = rows_of(words, ["dropout"])
    assert torch.equal(hidden_of(model, rows)[0], hidden_of(model, rows)[0])
    model.train()
    assert not torch.equal(hidden_of(model, rows)[0], hidden_of(model, rows)[0])


def test_residual_branches_start_small() -> None:
    """GPT-2 scales what is added to the residual stream by 1 / sqrt(2 layers)."""
    torch.manual_seed(0)
    config = EncoderConfig(vocabulary_size=33, mask_token=4, layers=8, hidden_size=128, heads=4)
    spread = {name: float(value.std()) for name, value in Encoder(config).state_dict().items()}
    for inner, outer in (
        ("attention.query_key_value", "attention.output"),
        ("feed_forward.expand", "feed_forward.contract"),
    ):
        assert spread[f"layers.3.{inner}.weight"] == pytest.approx(0.02, rel=0.03)
        assert spread[f"layers.3.{outer}.weight"] == pytest.approx(0.02 / 4, rel=0.03)


def test_positions_begin_at_the_offset(build_model: Models, words: Domain) -> None:
    shifted = build_model(words, positions="learned", max_positions=12, position_offset=3)
    plain = build_model(words, positions="learned", max_positions=9)
    plain.load_state_dict(
        {
            name: value[3:] if name == "encoder.position_embedding.weight" else value
            for name, value in shifted.state_dict().items()
        }
    )
    batch = pack([Row.of(words.parse("abc def"))])
    with shifted.inference(), plain.inference():
        assert torch.equal(shifted(batch), plain(batch))
    with pytest.raises(DataError, match="has learned 9 positions"):
        shifted(pack([Row.of(words.parse("abcdefgh"))]))


def test_frequencies_replace_those_of_the_base(build_model: Models, words: Domain) -> None:
    """Heads of size 8 with base 16 turn by 16 ** (-2 i / 8) = 1, 1/2, 1/4, 1/8 a position."""
    options = {"hidden_size": 16, "heads": 2}
    given = build_model(words, **options, rotary_frequencies=(1.0, 0.5, 0.25, 0.125))
    based = build_model(words, **options, rotary_base=16.0)
    other = build_model(words, **options, rotary_base=17.0)
    based.load_state_dict(given.state_dict())
    other.load_state_dict(given.state_dict())
    batch = pack([Row.of(words.parse("abc def"))])
    with torch.inference_mode():
        torch.testing.assert_close(given.eval()(batch), based.eval()(batch))
        assert not torch.allclose(given(batch), other.eval()(batch))


def test_layers_with_a_window_may_have_a_rotary_base_of_their_own(
    build_model: Models, words: Domain
) -> None:
    """The window spans everything here, so that the base alone tells the layers apart."""
    windows = {"layers": 2, "window": 50, "global_every": 2}
    separate = build_model(words, **windows, rotary_base=300.0, local_rotary_base=7.0)
    same = build_model(words, **windows, rotary_base=7.0)
    same.load_state_dict(separate.state_dict())
    batch = pack([Row.of(words.parse("abc def"))])
    with torch.inference_mode():
        hidden = separate.eval().encoder.embed(batch)
        for layer, are_equal in ((0, False), (1, True)):
            results = [
                model.encoder.layers[layer](
                    hidden, attention_context(model.encoder.config, batch, backend="auto")
                )
                for model in (separate, same)
            ]
            assert torch.equal(*results) == are_equal


def test_the_first_attention_may_go_without_a_norm(build_model: Models, words: Domain) -> None:
    model = build_model(words, layers=2, first_attention_normalisation=False)
    names = set(model.state_dict())
    assert "encoder.layers.0.attention_norm.weight" not in names
    assert "encoder.layers.1.attention_norm.weight" in names


def test_one_segment_is_shared_by_all_tokens(build_model: Models, words: Domain) -> None:
    model = build_model(words, segments=1)
    encoding = words.parse("abc def")
    pair = replace(encoding, segment_ids=np.arange(len(encoding), dtype=np.int32) // 4)
    with model.inference():
        assert torch.equal(model(pack([Row.of(encoding)])), model(pack([Row.of(pair)])))
