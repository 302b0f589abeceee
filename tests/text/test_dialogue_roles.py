"""Who speaks: what the encoder may know of it, and what it is good for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from seqmlm.data.packing import pack
from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.encoding import Encoding
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.prefix_lm import PrefixLanguageModelling
from seqmlm.objectives.rows import Row, TrainedObjective
from seqmlm_domains.text.dialogue import DialogueDomain
from seqmlm_domains.text.dialogue_reader import Turn

Models = Callable[..., Model]

STORY = [("ann", "where is tom"), ("bob", "not here"), ("cy", "i saw him"), ("ann", "where")]
LETTERS = "abcd"
STEPS = 100


def learned(turns: Sequence[Turn], roles: int = 4) -> DialogueDomain:
    domain = DialogueDomain(tokenizer="character", roles=roles)
    domain.fit_tokenizer([Record("r", json.dumps(turns), "test", 1)])
    return domain


def encoded(domain: DialogueDomain, turns: Sequence[Turn]) -> Encoding:
    """The dialogue with its last turn as response."""
    block = domain.tokenize([Record("r", json.dumps(turns), "test", 1)], ReadReport(read=1))
    return domain.assemble(block.tokens, max_length=100)


def row_of(domain: DialogueDomain, turns: Sequence[Turn]) -> tuple[Row, int]:
    """The row of prefix language modelling, and where its response begins."""
    encoding = encoded(domain, turns)
    (row,) = PrefixLanguageModelling(domain).rows(encoding, np.random.default_rng(0))
    assert encoding.response_start is not None
    return row, encoding.response_start


@pytest.fixture(scope="module")
def story() -> DialogueDomain:
    return learned([*STORY, ("z", "z")])


@pytest.fixture(scope="module")
def model(story: DialogueDomain, build_model: Models) -> Model:
    return build_model(story, segments=2, roles=story.num_roles)


def test_the_response_alone_is_predicted_to_its_end(story: DialogueDomain) -> None:
    row, start = row_of(story, STORY)
    targets = row.targets["prefix_lm"]
    assert story.decode(targets.labels.tolist()) == "where"
    assert targets.labels[-1] == story.vocabulary.special.end
    assert targets.positions.tolist() == list(range(start - 1, len(row.ids) - 1))


def test_the_context_does_not_know_the_response(story: DialogueDomain, model: Model) -> None:
    """Bit for bit: hidden states and logits; and the response is causal."""
    row, start = row_of(story, STORY)
    before = model(pack([row]))
    for changed in range(start, len(row.ids) - 1):
        ids = row.ids.copy()
        ids[changed] = story.vocabulary.id_of("z")
        after = model(pack([replace(row, ids=ids)]))
        assert torch.equal(before[:changed], after[:changed])
        assert not torch.equal(before[changed:], after[changed:])


def test_the_context_sees_itself_from_both_sides(story: DialogueDomain, model: Model) -> None:
    row, start = row_of(story, STORY)
    ids = row.ids.copy()
    ids[start - 2] = story.vocabulary.id_of("z")
    changed = (model(pack([row])) != model(pack([replace(row, ids=ids)]))).any(dim=1)
    assert changed.all()


@pytest.mark.parametrize("names", list(permutations(["ann", "bob", "cy"])), ids="-".join)
def test_the_names_of_the_speakers_change_nothing(
    story: DialogueDomain, model: Model, names: tuple[str, ...]
) -> None:
    """Only the order in which they appear matters."""
    renamed = dict(zip(["ann", "bob", "cy"], names, strict=True))
    row, _ = row_of(story, STORY)
    other, _ = row_of(story, [(renamed[speaker], text) for speaker, text in STORY])
    assert torch.equal(model(pack([row])), model(pack([other])))


def test_who_speaks_a_turn_changes_the_response(story: DialogueDomain, model: Model) -> None:
    row, start = row_of(story, STORY)
    swapped = [(speaker, STORY[at][1]) for at, speaker in enumerate(["bob", "ann", "cy", "ann"])]
    other, _ = row_of(story, swapped)
    assert np.array_equal(row.ids, other.ids)
    assert not torch.equal(model(pack([row]))[start:], model(pack([other]))[start:])


def test_a_model_without_role_embeddings_does_not_see_who_speaks(
    story: DialogueDomain, build_model: Models
) -> None:
    blind = build_model(story, segments=2)
    row, _ = row_of(story, STORY)
    other, _ = row_of(story, [(str(number), text) for number, (_, text) in enumerate(STORY)])
    assert row.role_ids is not None
    assert row.role_ids.tolist() != np.asarray(other.role_ids).tolist()
    assert torch.equal(blind(pack([row])), blind(pack([other])))


def own_words() -> list[list[Turn]]:
    """Two speakers say a letter each, and one of them says hers again: every such dialogue."""
    return [
        [("ann", first), ("bob", second), (speaker, first if speaker == "ann" else second)]
        for first, second in permutations(LETTERS, 2)
        for speaker in ("ann", "bob")
    ]


def trained_on_own_words(roles: int) -> Model:
    """A tiny model after some steps on all of these dialogues."""
    domain = learned([("x", letter) for letter in LETTERS], roles=2)
    objective = PrefixLanguageModelling(domain)
    batch = pack([row_of(domain, turns)[0] for turns in own_words()])
    torch.manual_seed(0)
    config = EncoderConfig(
        vocabulary_size=len(domain.vocabulary),
        mask_token=domain.vocabulary.special.mask,
        layers=2,
        hidden_size=64,
        heads=2,
        segments=2,
        roles=roles,
    )
    model = Model(domain, config, trained_objectives=[TrainedObjective.of(objective)])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        found = objective.loss(model, model(batch), batch)
        optimizer.zero_grad()
        (found.total / found.count).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def share_of_right_answers(model: Model) -> float:
    assert isinstance(model.domain, DialogueDomain)
    contexts = [
        model.domain.parse_dialogue(context, responder=responder)
        for *context, (responder, _) in own_words()
    ]
    answers = model.generate(contexts, temperature=0, max_tokens=2)
    right = [
        answer.text == f"\n{word}" and answer.is_finished
        for (answer,), (*_, (_, word)) in zip(answers, own_words(), strict=True)
    ]
    return sum(right) / len(right)


def test_an_answer_that_depends_on_who_said_what_needs_roles() -> None:
    """Without, both speakers' dialogues read alike, so at most one in two is right."""
    assert share_of_right_answers(trained_on_own_words(roles=2)) == 1
    assert share_of_right_answers(trained_on_own_words(roles=0)) <= 0.5
