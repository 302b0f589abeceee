"""Runs that start from another model: what is taken over, what is not, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmlm.config import RunConfig, configure
from seqmlm.domain import Domain, build_domain
from seqmlm.errors import CheckpointError, ConfigError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.training.loop import train
from seqmlm.training.warm_start import match_tokens, warm_start
from seqmlm.vocabulary import SpecialTokens, Vocabulary

PLUGINS = Path(__file__).parents[1] / "plugins"

BuildModel = Callable[..., Model]
Configure = Callable[..., RunConfig]


class Tokens(Domain):
    """A domain that is nothing but a vocabulary."""

    name = "tokens"
    summary = "For tests"

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    options = {}  # noqa: RUF012
    default_config = read = tokenize = assemble = parse = decode = None  # type: ignore[assignment]
    special_tokens_per_sequence = 2


def vocabulary(*tokens: str) -> Vocabulary:
    """The first five tokens play the parts of special ones."""
    return Vocabulary(
        tokens=tokens, special=SpecialTokens(0, 1, 2, 3, 4), ranges={"tokens": (5, len(tokens))}
    )


OURS = vocabulary("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "<s>", "dog")
THEIRS = vocabulary("<pad>", "<unk>", "<s>", "</s>", "<mask>", "a", "dog", "the")


@pytest.fixture
def model_of() -> BuildModel:
    def build(tokens: Vocabulary, *, head_transform: bool = False, **options: Any) -> Model:
        config = EncoderConfig(
            vocabulary_size=len(tokens),
            mask_token=tokens.special.mask,
            **({"layers": 2, "hidden_size": 8, "heads": 2} | options),
        )
        model = Model(Tokens(tokens), config, head_transform=head_transform)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter))
        return model

    return build


@pytest.fixture
def saved(tmp_path: Path, model_of: BuildModel, monkeypatch: pytest.MonkeyPatch) -> BuildModel:
    """Build a model and save it in ``source``."""
    monkeypatch.chdir(tmp_path)

    def build(tokens: Vocabulary = THEIRS, **options: Any) -> Model:
        model = model_of(tokens, **options)
        model.save(tmp_path / "source")
        return model

    return build


def test_tokens_match_by_text_and_special_ones_by_their_part() -> None:
    ours, theirs = match_tokens(OURS, THEIRS)
    pairs = dict(zip(ours.tolist(), theirs.tolist(), strict=True))
    # "<s>" is an ordinary token here and the start there: not the same.
    assert pairs == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 7, 8: 6}


def test_the_encoder_and_the_rows_of_shared_tokens_are_copied(
    saved: BuildModel, model_of: BuildModel
) -> None:
    source, model = saved(), model_of(OURS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = warm_start(model, "source")
    after, theirs = model.state_dict(), source.state_dict()
    for name in ("encoder.token_embedding.weight", "token_head.bias"):
        assert torch.equal(after[name][[0, 4, 5, 8]], theirs[name][[0, 4, 7, 6]])
        assert torch.equal(after[name][[6, 7]], before[name][[6, 7]])
    rest = set(after) - {"encoder.token_embedding.weight", "token_head.bias"}
    assert all(torch.equal(after[name], theirs[name]) for name in rest)
    assert (report.matched_tokens, report.new_tokens, report.unused_tokens) == (7, 2, 1)
    assert (report.fresh, report.left_out) == ((), ())


def test_tables_keep_the_rows_they_share(saved: BuildModel, model_of: BuildModel) -> None:
    learned = {"positions": "learned", "segments": 2}
    source = saved(max_positions=6, **learned)
    model = model_of(OURS, positions="learned", segments=3, max_positions=9, roles=2)
    report = warm_start(model, "source")
    ours, theirs = model.encoder.position_embedding, source.encoder.position_embedding
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours.weight[:6], theirs.weight)
    assert report.fresh == (
        "encoder.position_embedding.weight[6:]",
        "encoder.segment_embedding.weight[2:]",
        "encoder.role_embedding.weight",
    )


def test_a_head_that_is_not_wanted_is_named(saved: BuildModel, model_of: BuildModel) -> None:
    saved(head_transform=True)
    report = warm_start(model_of(OURS), "source")
    assert report.left_out == (
        "token_head.dense.bias", "token_head.dense.weight", "token_head.norm.weight",
    )  # fmt: skip
    assert "not used: token_head.dense.bias" in "\n".join(report.lines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 3}, r"model\.layers = 3 \(there 2\)"),
        ({"hidden_size": 16}, r"model\.hidden_size = 16 \(there 8\)"),
        ({"heads": 4}, r"model\.heads = 4 \(there 2\)"),
        ({"normalisation_placement": "post"}, r"normalisation_placement = 'post' \(there 'pre'\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_shape_is_refused(
    options: dict[str, Any], message: str, saved: BuildModel, model_of: BuildModel
) -> None:
    saved()
    with pytest.raises(
        ConfigError, match=f"training.init = 'source': a model of another.*{message}"
    ):
        warm_start(model_of(OURS, **options), "source")


def test_damaged_weights_are_refused(saved: BuildModel, model_of: BuildModel) -> None:
    saved()
    path = Path("source/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="is damaged"):
        warm_start(model_of(OURS), "source")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Configure a small run on melodies, which are read by a plugin."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("melodies.txt").write_text("CDEFGABCDEFG\nGFEDCBAGFEDC\nCEGCEGCEGCEG\nEGBEGBEGB\n" * 9)

    def build(*overrides: str, steps: int = 2) -> RunConfig:
        fixed = (
            "data.split=random data.validation_fraction=0.2 training.tokens_per_batch=100 "
            "training.device=cpu training.checkpoint_every=2"
        )
        return configure(
            domain="music",
            sources=["melodies.txt"],
            overrides=[*fixed.split(), f"training.steps={steps}", *overrides],
        )

    return build


SMALL = ("model.layers=1", "model.hidden_size=16", "model.heads=2", "model.activation=gelu")


def test_a_run_takes_the_shape_and_the_weights_of_another(run: Configure) -> None:
    train(run(*SMALL), "first")
    config = run("training.init=first", "optimizer.learning_rate=1e-30")
    assert (config.model.hidden_size, config.model.activation) == (16, "gelu")
    train(config, "second")
    first, second = Model.load("first").state_dict(), Model.load("second").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    recorded = json.loads(Path("second/warm_start.json").read_text())
    assert recorded["source"] == str(Path("first/model").resolve())
    assert recorded["new_tokens"] == 0
    assert f'init = "{Path("first").resolve()}"' in Path("second/config.toml").read_text()


def test_a_resumed_run_needs_the_other_model_no_more(run: Configure) -> None:
    train(run(*SMALL), "first")
    config = run("training.init=first")
    train(config, "whole")
    train(config, "parts")
    longer = run("training.init=first", steps=4)
    train(longer, "whole", resume=True)
    shutil.rmtree("first")
    train(longer, "parts", resume=True)
    assert Model.load("parts").fingerprint() == Model.load("whole").fingerprint()


def test_settings_that_are_given_win_over_the_shape_of_the_other(run: Configure) -> None:
    train(run(*SMALL), "first")
    config = run("training.init=first", "model.layers=2", "model.dropout=0.1")
    assert (config.model.layers, config.model.dropout) == (2, 0.1)
    with pytest.raises(ConfigError, match=r"model\.layers = 2 \(there 1\)"):
        train(config, "second")
    assert not Path("second/checkpoints/step-00000002").exists()


def test_a_folder_without_a_model_is_refused(run: Configure) -> None:
    with pytest.raises(CheckpointError, match="nowhere: no model here"):
        run("training.init=nowhere")
    Path("hf").mkdir()
    Path("hf/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="seqmlm import-hf"):
        run("training.init=hf")


def test_a_text_model_starts_a_graph_run_of_the_same_width(tmp_path: Path) -> None:
    """Segments, which the graph has more of, keep the larger number."""
    text = vocabulary("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "virus", "causes")
    config = EncoderConfig(vocabulary_size=7, mask_token=4, layers=1, hidden_size=24, heads=2)
    Model(Tokens(text), config).save(tmp_path / "text")
    settings = configure(
        domain="kg", sources=["graph"], overrides=[f"training.init={tmp_path / 'text'}"]
    )
    default = build_domain({"name": "kg"}).default_config()["model"]
    assert settings.model.hidden_size == 24
    assert settings.model.segments == default["segments"]
