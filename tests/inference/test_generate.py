"""Continuing texts: every step against a full re-run, batches against single texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference.generate import Continuation, stream_text
from seqmlm.inference.sampling import Sampling
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.clm import CausalLanguageModelling
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.prefix_lm import PrefixLanguageModelling, prefix_row
from seqmlm.objectives.rows import Objective, PrefixContext, TrainedObjective

Models = Callable[..., Model]

PREFIXES = ["some words", "a", "", "the end is"]
OPTIONS: dict[str, dict[str, Any]] = {
    "rotary": {},
    "learned": {"positions": "learned", "max_positions": 40},
    "grouped queries": {"heads": 4, "key_value_heads": 2},
    "window": {"window": 3, "global_every": 2},
    "post-norm": {"normalisation_placement": "post", "head_transform": True},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
BOTH_CONTEXTS: list[PrefixContext] = ["causal", "bidirectional"]
both_contexts = pytest.mark.parametrize("context", BOTH_CONTEXTS)


def objectives(domain: Domain) -> dict[str, Objective]:
    return {
        "causal": CausalLanguageModelling(domain),
        "bidirectional": PrefixLanguageModelling(domain),
    }


@pytest.fixture
def trained(words: Domain, build_model: Models) -> Callable[..., Model]:
    """Build a model that says it was trained with some objectives, both by default."""

    def build(*chosen: Objective, domain: Domain = words, **options: Any) -> Model:
        model = build_model(domain, **options)
        known = chosen or tuple(objectives(domain).values())
        model.trained_objectives = tuple(map(TrainedObjective.of, known))
        return model

    return build


def rerun(model: Model, encoding: Encoding, known: int, context: PrefixContext) -> list[float]:
    """Log p of every token after the first ``known``, as the objective itself computes it."""
    predicted = np.arange(known, len(encoding), dtype=np.int32)
    low, high = model.vocabulary.ranges[model.domain.name]
    allowed = [*range(low, high), model.vocabulary.special.end]
    row = prefix_row(
        encoding,
        known if context == "bidirectional" else 1,
        name="rerun",
        predicted=predicted,
        allowed=objectives(model.domain)[context]._allowed,  # type: ignore[attr-defined]
    )
    batch = pack([row])
    targets = batch.targets["rerun"]
    with torch.no_grad():
        hidden = model(batch)[targets.rows]
        features = model.token_head.features(hidden, torch.arange(len(predicted)))
        scores = features @ model.encoder.token_embedding.weight.T + model.token_head.bias
    chances = scores[:, allowed].log_softmax(-1)
    return [
        float(chances[i, allowed.index(label)]) for i, label in enumerate(targets.labels.tolist())
    ]


def encoded(model: Model, prefix: str, found: Continuation) -> tuple[Encoding, int]:
    """Prefix and continuation as one sequence, and the length of the prefix with the start."""
    tokens = model.vocabulary.tokens
    start = [model.vocabulary.special.start, *map(model.vocabulary.id_of, prefix)]
    ids = np.array([*start, *map(tokens.index, found.tokens)], np.int32)
    return Encoding(ids, np.zeros_like(ids), np.zeros_like(ids)), len(start)


@every_option
@both_contexts
def test_every_step_gives_the_probabilities_of_a_full_re_run(
    trained: Callable[..., Model], options: dict[str, Any], context: PrefixContext
) -> None:
    """Prompts of different lengths in one batch, which end at different steps."""
    model = trained(**options)
    continuations = model.generate(PREFIXES, max_tokens=12, samples=3, context=context)
    lengths = set()
    for prefix, samples in zip(PREFIXES, continuations, strict=True):
        for found in samples:
            encoding, known = encoded(model, prefix, found)
            expected = rerun(model, encoding, known, context)
            np.testing.assert_allclose(found.log_probabilities, expected, atol=1e-5, rtol=1e-5)
            assert found.is_finished == (found.tokens[-1] == "<end>")
            assert found.is_finished or len(found.tokens) == 12
            assert found.prefix == prefix
            assert found.text == "".join(t for t in found.tokens if t != "<end>")
            lengths.add(len(found.tokens))
    assert len(lengths) > 1


@both_contexts
def test_a_prefix_is_continued_alike_alone_and_in_a_batch(
    trained: Callable[..., Model], context: PrefixContext
) -> None:
    model = trained(window=3, global_every=2)
    together = model.generate(PREFIXES, max_tokens=8, samples=2, seed=3, context=context)
    for prefix, samples in zip(PREFIXES, together, strict=True):
        (alone,) = model.generate([prefix], max_tokens=8, samples=2, seed=3, context=context)
        for one, other in zip(samples, alone, strict=True):
            assert one.tokens == other.tokens
            np.testing.assert_allclose(one.log_probabilities, other.log_probabilities, atol=1e-5)


def test_the_two_contexts_differ(trained: Callable[..., Model]) -> None:
    model = trained()
    causal, both = (
        model.generate(["some words"], max_tokens=1, temperature=0, context=context)[0][0]
        for context in BOTH_CONTEXTS
    )
    assert causal.log_probabilities[0] != pytest.approx(both.log_probabilities[0], abs=1e-3)
    (default,) = model.generate(["some words"], max_tokens=1, temperature=0)[0]
    assert default == causal


def test_one_forward_pass_a_token_serves_all_rows(trained: Callable[..., Model]) -> None:
    model = trained()
    sizes: list[int] = []
    hook = model.encoder.register_forward_hook(lambda _, args, __: sizes.append(len(args[0].ids)))
    found = model.generate(["abc", "de"], max_tokens=6, samples=2)
    hook.remove()
    lengths = [len(item.tokens) - item.is_finished for samples in found for item in samples]
    # <start> a b c and <start> d e are read once; a row that has ended takes no more part.
    assert sizes[0] == 4 + 3
    going = [sum(length > step for length in lengths) for step in range(5)]
    assert sizes[1:] == [rows for rows in going if rows]


def test_temperature_0_takes_the_most_probable_token_each_time(
    trained: Callable[..., Model],
) -> None:
    model = trained()
    ((found,),) = model.generate(["abc"], max_tokens=5, temperature=0)
    alphabet = [*"abcdefghijklmnopqrstuvwxyz", "<end>"]
    for step, value in enumerate(found.log_probabilities):
        others = []
        for token in alphabet:
            tried = replace(found, tokens=(*found.tokens[:step], token))
            others.append(rerun(model, *encoded(model, "abc", tried), "causal")[-1])
        assert value == pytest.approx(max(others), abs=1e-5)
    assert model.generate(["abc"], max_tokens=5, top_k=1) == [[found]]
    assert model.generate(["abc"], max_tokens=5, top_p=1e-9) == [[found]]


def test_the_seed_decides(trained: Callable[..., Model]) -> None:
    model = trained()
    first = model.generate(["abc"], max_tokens=8, samples=4, seed=1)
    assert first == model.generate(["abc"], max_tokens=8, samples=4, seed=1)
    assert first != model.generate(["abc"], max_tokens=8, samples=4, seed=2)
    assert len({item.text for item in first[0]}) > 1
    (fewer,) = model.generate(["abc"], max_tokens=8, samples=2, seed=1)
    assert [item.tokens for item in fewer] == [item.tokens for item in first[0][:2]]


def test_the_log_likelihood_is_the_sum_over_the_tokens(trained: Callable[..., Model]) -> None:
    ((found,),) = trained().generate(["abc"], max_tokens=4)
    assert found.log_likelihood == pytest.approx(sum(found.log_probabilities))


def test_pieces_of_a_stream_add_up_to_the_text(trained: Callable[..., Model]) -> None:
    model = trained()
    for seed in range(5):
        ((whole,),) = model.generate(["ab c"], max_tokens=9, seed=seed)
        pieces = list(
            stream_text(model, "ab c", max_tokens=9, sampling=Sampling(), seed=seed, context=None)
        )
        assert "".join(pieces) == "ab c" + whole.text
        assert len(pieces) == 1 + len(whole.text)


def train(model: Model, objective: Objective, texts: list[str]) -> None:
    generator = np.random.default_rng(0)
    encodings = [model.domain.parse(text) for text in texts]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(80):
        batch = pack([row for each in encodings for row in objective.rows(each, generator)])
        loss = objective.loss(model, model(batch), batch)
        optimizer.zero_grad()
        (loss.total / loss.count).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()


@both_contexts
def test_a_model_writes_on_and_stops_where_its_texts_end(
    words: Domain, context: PrefixContext
) -> None:
    torch.manual_seed(0)
    objective = objectives(words)[context]
    model = Model(
        words,
        EncoderConfig(vocabulary_size=33, mask_token=4, layers=1, hidden_size=32, heads=2),
        trained_objectives=[TrainedObjective.of(objective)],
    )
    train(model, objective, ["abcdef", "zyx", "mnop"] * 4)
    found = model.generate(["ab", "z", "mno"], max_tokens=20, temperature=0)
    assert [item.prefix + item.text for (item,) in found] == ["abcdef", "zyx", "mnop"]
    assert all(item.is_finished for (item,) in found)
    for (item,) in found:
        assert math.exp(item.log_likelihood) > 0.8


def test_roles_and_segments_of_a_response_are_those_of_the_responder(
    words: Domain, trained: Callable[..., Model]
) -> None:
    """The context of a dialogue ends with an end token of its own, which stays."""

    class Dialogue(type(words)):  # type: ignore[misc]
        def parse(self, text: str) -> Encoding:
            said: Encoding = super().parse(text)
            return replace(said, role_ids=np.ones_like(said.ids), response_start=len(said))

    model = trained(domain=Dialogue(), roles=2, segments=2)
    for context in BOTH_CONTEXTS:
        ((found,),) = model.generate(["hello you"], max_tokens=5, context=context)
        said = words.parse("hello you").ids
        ids = np.array([*said, *map(model.vocabulary.id_of, found.tokens)], np.int32)
        is_response = (np.arange(len(ids)) >= len(said)).astype(np.int32)
        whole = Encoding(ids, np.zeros_like(ids), is_response, role_ids=1 - is_response)
        expected = rerun(model, whole, len(said), context)
        np.testing.assert_allclose(found.log_probabilities, expected, atol=1e-5, rtol=1e-5)


def test_a_saved_model_knows_how_it_continues_texts(
    trained: Callable[..., Model], words: Domain, tmp_path: Path
) -> None:
    model = trained(objectives(words)["bidirectional"])
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    assert loaded.trained_objectives == model.trained_objectives
    assert [item.prefix_context for item in loaded.trained_objectives] == ["bidirectional"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda d: [MaskedLanguageModelling(d, {})], "mlm, which does not predict what comes"),
        (lambda d: [CausalLanguageModelling(d, "right_to_left")], "clm from right to left"),
    ],
    ids=["masked", "right to left"],
)
def test_models_that_do_not_continue_texts_are_refused(
    trained: Callable[..., Model],
    words: Domain,
    build: Callable[[Domain], list[Objective]],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=f"cannot continue a text: it was trained with {message}"):
        trained(*build(words)).generate(["abc"])


def test_a_model_that_does_not_say_how_it_was_trained_is_refused(
    words: Domain, build_model: Models
) -> None:
    with pytest.raises(ConfigError, match="does not say with which objectives"):
        build_model(words).generate(["abc"])


@pytest.mark.parametrize(
    ("prefix", "arguments", "message"),
    [
        ("abc", {"max_tokens": 0}, "max_tokens = 0: must be at least 1"),
        ("abc", {"samples": 0}, "samples = 0: must be at least 1"),
        ("abc", {"top_p": 2.0}, "top_p = 2.0"),
        ("abc", {"context": "bidirectional"}, "context = 'causal' alone"),
        ("abc", {"max_tokens": 38}, "takes 4 of the 40 positions .*; 37 new tokens fit"),
    ],
    ids=["nothing", "no samples", "top_p", "context", "positions"],
)
def test_unusable_arguments_are_refused(
    trained: Callable[..., Model],
    words: Domain,
    prefix: str,
    arguments: dict[str, Any],
    message: str,
) -> None:
    model = trained(objectives(words)["causal"], positions="learned", max_positions=40)
    with pytest.raises(ConfigError, match=message):
        model.generate([prefix], **arguments)
    (samples,) = model.generate([prefix], max_tokens=37)
    assert len(samples) == 1


def test_masks_are_for_infill(trained: Callable[..., Model]) -> None:
    with pytest.raises(DataError, match=r"'a<mask>' holds <mask>.*infill"):
        trained().generate(["a<mask>"])


def test_no_prefixes_give_no_continuations(trained: Callable[..., Model]) -> None:
    assert trained().generate([]) == []
