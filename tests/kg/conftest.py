"""Small graphs whose right answers are plain to see."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmlm.domain import Record
from seqmlm.model.model import Model
from seqmlm_domains.kg import LinkPredictor
from seqmlm_domains.kg.default_settings import SAMPLES
from seqmlm_domains.kg.domain import KnowledgeGraphDomain
from seqmlm_domains.kg.link_scores import LinkScorer
from seqmlm_domains.kg.scorer import Normalise
from seqmlm_domains.kg.triples import NameAndDescription

NATIONS = SAMPLES / "nations"

FAMILY = (
    ("ann", "parent_of", "bob"),
    ("ann", "parent_of", "cy"),
    ("bob", "child_of", "ann"),
    ("cy", "sibling_of", "bob"),
    ("new_york_city", "part_of", "new_york"),
)

CITIES = ("oslo", "bergen", "paris", "lyon", "rome", "milan", "bern", "basel")
LANDS = ("norway", "france", "italy", "switzerland")
TRAIN = [(city, "lies_in", LANDS[i // 2]) for i, city in enumerate(CITIES)]
TRAIN += [(land, "borders", other) for land in LANDS for other in LANDS if land != other]
VALIDATION = [(land, "has_city", CITIES[2 * i]) for i, land in enumerate(LANDS)]
TRAIN += [(land, "has_city", CITIES[2 * i + 1]) for i, land in enumerate(LANDS)]
TEST = [("norway", "has_city", "trondheim"), ("oslo", "lies_in", "norway")]

SETTINGS = {
    "training.steps": 16,
    "training.evaluate_every": 8,
    "training.device": "cpu",
    "training.tokens_per_batch": 1000,
    "model.layers": 1,
    "model.hidden_size": 16,
    "model.heads": 2,
    "domain.vocabulary_size": 300,
    "domain.relation_share": 0.2,
    "domain.max_description_tokens": 8,
    "domain.max_name_tokens": 6,
}

Written = Callable[..., Path]
BuildDomain = Callable[..., KnowledgeGraphDomain]
BuildScorer = Callable[..., LinkScorer]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write files into a folder: ``written({"train.tsv": "a\\tr\\tb\\n"})`` returns it."""

    def write(files: Mapping[str, str | bytes], folder: str = "graph") -> Path:
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            (target / name).write_bytes(data)
        return target

    return write


@pytest.fixture(scope="session")
def build_domain() -> BuildDomain:
    """A domain that knows triples, the family's if none are given, and perhaps texts.

    With ``id`` entities that only a text mentions are added afterwards.
    """

    def build(
        triples: Sequence[tuple[str, str, str]] = FAMILY,
        *,
        texts: Mapping[str, tuple[str, str]] | None = None,
        relation_names: Mapping[str, str] | None = None,
        **options: Any,
    ) -> KnowledgeGraphDomain:
        rows = [("entity", (key, *text)) for key, text in (texts or {}).items()]
        rows += [("relation", (key, name, "")) for key, name in (relation_names or {}).items()]
        rows += [("train", triple) for triple in triples]
        domain = KnowledgeGraphDomain(**{"vocabulary_size": 300} | options)
        domain.fit_tokenizer(
            [
                Record(kind, "\t".join(fields), "test", number)
                for number, (kind, fields) in enumerate(rows, start=1)
            ]
        )
        known = domain.graph.entities.numbers
        added = {key: text for key, text in (texts or {}).items() if key not in known}
        if added:
            domain.use_graph(
                domain.graph.with_entities(
                    {key: NameAndDescription(*text) for key, text in added.items()}
                )
            )
        return domain

    return build


@pytest.fixture
def build_scorer(build_domain: BuildDomain, build_model: Callable[..., Model]) -> BuildScorer:
    """A scorer of a model that nobody trained; options of the domain may be given."""

    def build(normalise: Normalise = "mean", **options: Any) -> LinkScorer:
        model = build_model(build_domain(**options), layers=1, segments=3)
        for parameter in model.parameters():  # far from even, which untrained weights are
            torch.nn.init.normal_(parameter, std=0.5)
        return LinkScorer.of(model, normalise=normalise, max_length=512)

    return build


@pytest.fixture(scope="session")
def trained_predictor() -> LinkPredictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqmlm.training.loop.plot_run", lambda *arguments, **options: [])
        return LinkPredictor.fit(
            TRAIN,
            validation=VALIDATION,
            entity_texts={
                "oslo": "Oslo",
                "atlantis": NameAndDescription("Atlantis", "a lost land in the sea"),
                "norway": NameAndDescription("Norway", "a cold land"),
            },
            seed=3,
            settings=SETTINGS,
        )


@pytest.fixture
def predictor(trained_predictor: LinkPredictor) -> LinkPredictor:
    """One that a test may extend."""
    return copy.deepcopy(trained_predictor)
