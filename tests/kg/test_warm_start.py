"""A graph that starts from a model of text: what its words already mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from seqmlm.config import configure
from seqmlm.model.model import Model
from seqmlm.training.loop import train

SHAPE = ("model.layers=1", "model.hidden_size=16", "model.heads=2")
STEPS = ("training.steps=1", "training.tokens_per_batch=400", "training.device=cpu")
SENTENCES = "the old king has a daughter\nthe young queen has a brother\nan old brother\n" * 20


def test_words_and_layers_come_from_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
    (tmp_path / "sentences.txt").write_text(SENTENCES)
    graph = tmp_path / "graph"
    graph.mkdir()
    triples = ["king\thas\tdaughter", "queen\thas\tbrother", "brother\tlikes\tking"]
    (graph / "train.tsv").write_text("\n".join(triples) + "\n")
    (graph / "valid.tsv").write_text("queen\tlikes\tking\n")
    text_settings = ["domain.vocabulary_size=300", "data.validation_fraction=0", *SHAPE, *STEPS]
    train(
        configure(
            domain="text", sources=[str(tmp_path / "sentences.txt")], overrides=text_settings
        ),
        tmp_path / "text",
    )
    train(
        configure(
            domain="kg",
            sources=[str(graph)],
            overrides=[
                f"training.init={json.dumps(str(tmp_path / 'text'))}",
                "optimizer.learning_rate=1e-12",
                "optimizer.warmup_steps=0",
                *STEPS,
            ],
        ),
        tmp_path / "links",
    )
    text, links = Model.load(tmp_path / "text"), Model.load(tmp_path / "links")
    shared = set(text.vocabulary.tokens) & set(links.vocabulary.tokens)
    words = {token for token in shared if token in ("Ġking", "Ġbrother", "Ġhas")}
    assert words
    rows, other_rows = (model.encoder.token_embedding.weight for model in (links, text))
    for word in words:
        row = rows[links.vocabulary.id_of(word)]
        torch.testing.assert_close(row, other_rows[text.vocabulary.id_of(word)])
    layers, other_layers = (model.encoder.layers.state_dict() for model in (links, text))
    assert layers.keys() == other_layers.keys()
    for name, weight in layers.items():
        torch.testing.assert_close(weight, other_layers[name])
    told = json.loads((tmp_path / "links" / "warm_start.json").read_text())
    assert told["source_domain"] == "text"
    assert told["matched_tokens"] == len(shared)
