"""Every command on the result of a training run, and the Python interface beside it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import seqmlm
from seqmlm.inference.embedding_shard import write_shard
from seqmlm.model.model import Model

if TYPE_CHECKING:
    from tests.e2e.conftest import Cli, Outcome

    Read = Callable[[Path], object]

MASKED = "MKT<mask>YIAKQRQ<mask>"


@pytest.fixture(scope="module")
def model(trained: Path) -> Model:
    return seqmlm.load(str(trained))


@pytest.fixture(scope="module")
def sequences(tiny_fasta: Path) -> dict[str, str]:
    lines = tiny_fasta.read_text().splitlines()
    return {name[1:]: text for name, text in zip(lines[::2], lines[1::2], strict=True)}


def as_json(outcome: Outcome) -> Any:
    """Standard output, which must be one JSON document and nothing else."""
    assert outcome.exit_code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_training_leaves_everything_that_was_promised(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()} - {".lock"}
    assert names == {
        "config.toml", "environment.json", "metrics.jsonl", "train.log", "status.json",
        "evaluation.json", "plots", "checkpoints", "data.json", "model",
    }  # fmt: skip
    assert {path.name for path in (trained / "plots").iterdir()} == {
        "loss.png",
        "learning_rate.png",
    }
    for line in (trained / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line).keys() >= {"step", "split", "loss", "tokens", "seconds"}


def test_training_says_what_counting_achieves_and_prints_json_on_demand(
    train: Cli, tmp_path: Path, trained: Path
) -> None:
    table = train(tmp_path / "table").stdout
    assert "The model is" in table
    assert "unigram" in table
    report = as_json(train(tmp_path / "json", "--json"))
    assert report == json.loads((trained / "evaluation.json").read_text())


def test_without_validation_the_json_result_is_null(train: Cli, tmp_path: Path) -> None:
    """Failed before: nothing was printed, which is no JSON."""
    options = ("--set", "data.validation_fraction=0", "--steps", 2, "--json")
    assert as_json(train(tmp_path / "run", *options)) is None


def test_quiet_prints_results_only_but_logs_all(
    cli: Cli, tiny_config: str, tiny_fasta: Path, tmp_path: Path
) -> None:
    """Failed before: the log of a quiet run was empty."""
    command = ("--config", tiny_config, "--data", tiny_fasta, "--output", tmp_path / "run")
    outcome = cli("-q", "train", *command, "--steps", 2)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert "64 records read, 64 used" in (tmp_path / "run" / "train.log").read_text()


def test_a_dry_run_writes_nothing_and_computes_a_loss(
    cli: Cli, tiny_config: str, tiny_fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("train", "--config", tiny_config, "--data", tiny_fasta, "--dry-run")
    assert outcome.exit_code == 0
    assert "64 records read, 64 used" in outcome.stdout
    assert "nothing was trained or written" in outcome.stdout
    loss = float(outcome.stdout.split("mlm ")[1].split()[0])
    assert loss == pytest.approx(math.log(20), abs=0.3)
    assert list(tmp_path.iterdir()) == []


def test_evaluation_repeats_the_numbers_of_training(cli: Cli, trained: Path) -> None:
    recorded = json.loads((trained / "evaluation.json").read_text())
    assert as_json(cli("evaluate", trained, "--json")) == recorded
    table = cli("evaluate", trained)
    assert f"{recorded['targets']} hidden tokens of {recorded['sequences']}" in table.stdout


def test_evaluation_does_not_depend_on_the_batch_size(cli: Cli, trained: Path) -> None:
    small = as_json(cli("evaluate", trained, "--json", "--tokens-per-batch", 1))
    large = json.loads((trained / "evaluation.json").read_text())
    for one, other in zip(small["results"], large["results"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_evaluation_on_other_data_uses_all_of_them(
    cli: Cli, trained: Path, make_fasta: Callable[..., None], tmp_path: Path
) -> None:
    make_fasta(tmp_path / "other.fasta", families=3, members=2, seed=9)
    report = as_json(cli("evaluate", trained, "--data", tmp_path / "other.fasta", "--json"))
    assert report["sequences"] == 6


def test_fill_mask_agrees_with_python(cli: Cli, trained: Path, model: Model) -> None:
    masks = as_json(cli("fill-mask", trained, MASKED, "--top-k", 4, "--json"))
    expected = [
        [{"token": item.token, "probability": item.probability} for item in mask]
        for mask in model.fill_mask(MASKED, top_k=4)
    ]
    assert masks == expected
    assert [len(mask) for mask in masks] == [4, 4]
    text = cli("fill-mask", trained, MASKED, "--top-k", 4).stdout.splitlines()
    assert text[0].startswith(f"mask 1:  {masks[0][0]['token']} {masks[0][0]['probability']:.3f}")


def test_probabilities_of_all_residues_add_up_to_one(model: Model) -> None:
    for mask in model.fill_mask(MASKED, top_k=20):
        assert sum(item.probability for item in mask) == pytest.approx(1, abs=1e-6)
        assert {item.token for item in mask} == set("ACDEFGHIKLMNPQRSTVWY")


def test_scores_agree_with_python(
    cli: Cli, trained: Path, model: Model, tiny_fasta: Path, sequences: dict[str, str]
) -> None:
    outcome = cli("score", trained, tiny_fasta, "--json")
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [row["name"] for row in rows] == list(sequences)
    texts = list(sequences.values())[:5]
    likelihoods = model.pseudo_log_likelihood(texts)
    perplexities = model.pseudo_perplexity(texts)
    for row, text, likelihood, perplexity in zip(
        rows, texts, likelihoods, perplexities, strict=False
    ):
        assert row["scored_tokens"] == len(text)
        assert row["pseudo_log_likelihood"] == pytest.approx(likelihood, abs=1e-4)
        assert row["pseudo_perplexity"] == pytest.approx(perplexity, abs=1e-4)
        assert perplexity == pytest.approx(math.exp(-likelihood / len(text)))


def test_scores_of_standard_input_are_those_of_the_file(
    cli: Cli, trained: Path, tiny_fasta: Path
) -> None:
    from_file = cli("score", trained, tiny_fasta)
    from_pipe = cli("score", trained, "-", stdin=tiny_fasta.read_bytes())
    assert from_pipe.exit_code == 0
    assert from_pipe.stdout == from_file.stdout
    assert from_file.stdout.splitlines()[0].split("\t")[0] == "name"
    assert "64 records read, 64 used" in from_pipe.stderr


def test_a_record_that_cannot_be_scored_is_null_in_json(
    cli: Cli, trained: Path, tmp_path: Path
) -> None:
    """Failed before: NaN was printed, which is no JSON."""
    (tmp_path / "x.fasta").write_text(">x\nXXX\n")
    outcome = cli("score", trained, tmp_path / "x.fasta", "--json")
    row = json.loads(outcome.stdout, parse_constant=pytest.fail)
    assert (row["scored_tokens"], row["pseudo_perplexity"]) == (0, None)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_embeddings_agree_with_python(
    pooling: Any,
    cli: Cli,
    trained: Path,
    model: Model,
    tiny_fasta: Path,
    sequences: dict[str, str],
    tmp_path: Path,
) -> None:
    output = tmp_path / "vectors"
    outcome = cli("embed", trained, tiny_fasta, "--output", output, "--pooling", pooling)
    assert (outcome.exit_code, outcome.stdout) == (0, f"{output}\n")
    found = seqmlm.read_embeddings(output)
    assert found.names == list(sequences)
    expected = model.embed(list(sequences.values()), pooling=pooling)
    torch.testing.assert_close(found.vectors, expected, rtol=1e-5, atol=1e-6)


def test_embeddings_per_token_have_a_vector_for_each_residue(
    cli: Cli,
    trained: Path,
    model: Model,
    tiny_fasta: Path,
    sequences: dict[str, str],
    tmp_path: Path,
) -> None:
    output = tmp_path / "tokens"
    outcome = cli("embed", trained, tiny_fasta, "--output", output, "--pooling", "tokens")
    assert outcome.exit_code == 0
    found = seqmlm.read_embeddings(output)
    assert found.offsets.diff().tolist() == [len(text) for text in sequences.values()]
    name, text = next(iter(sequences.items()))
    mean = found[name].mean(dim=0, keepdim=True)
    torch.testing.assert_close(mean, model.embed([text]), rtol=1e-5, atol=1e-6)


def test_an_interrupted_embedding_goes_on_and_gives_the_same_files(
    cli: Cli, trained: Path, tiny_fasta: Path, tmp_path: Path
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "vectors"
    command = ("embed", trained, tiny_fasta, "--shard-records", 10, "--dtype", "float16")
    assert cli(*command, "--output", whole).exit_code == 0
    shards: list[Path] = []

    def interrupted(folder: Path, *arguments: Any) -> None:
        shards.append(folder)
        if len(shards) == 4:
            raise KeyboardInterrupt
        write_shard(folder, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqmlm.inference.embedding_job.write_shard", interrupted)
        assert cli(*command, "--output", output).exit_code == 130
        assert [path.name for path in output.glob("shard-*")]
        resumed = cli(*command, "--output", output)
    assert (resumed.exit_code, len(shards)) == (0, 4 + 4), "three of seven shards were done already"
    assert "3 of 7 shards were there already" in resumed.stderr
    assert "64 records read, 64 used" in resumed.stderr
    files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    assert files == [
        path.relative_to(output) for path in sorted(output.rglob("*")) if path.is_file()
    ]
    assert all((whole / name).read_bytes() == (output / name).read_bytes() for name in files)


def test_training_on_a_prepared_store_is_training_on_the_file(
    cli: Cli, train: Cli, tiny_fasta: Path, tmp_path: Path, trained: Path, numbers: Read
) -> None:
    store = tmp_path / "stores" / "tiny"
    prepared = cli(
        *("prepare", tiny_fasta, "--domain", "protein", "--output", store),
        *("--set", "domain.cluster_threshold=0.3"),
    )
    assert prepared.exit_code == 0
    residues = sum(map(len, tiny_fasta.read_text().splitlines()[1::2]))
    assert prepared.stdout == f"{store}: 64 records, {residues:,} tokens\n"
    assert "64 records read, 64 used" in prepared.stderr
    train(tmp_path / "run", data=store)
    assert numbers(tmp_path / "run") == numbers(trained)


def test_several_sources_are_one_corpus(
    train: Cli, tiny_fasta: Path, tmp_path: Path, trained: Path, numbers: Read
) -> None:
    lines = tiny_fasta.read_text().splitlines(keepends=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.fasta").write_text("".join(lines[:40]))
    (tmp_path / "data" / "b.fasta").write_text("".join(lines[40:]))
    train(tmp_path / "folder", data=tmp_path / "data")
    train(tmp_path / "pattern", data=tmp_path / "data" / "*.fasta")
    assert numbers(tmp_path / "folder") == numbers(tmp_path / "pattern") == numbers(trained)


def test_a_run_folder_its_model_and_a_copy_load_the_same(
    trained: Path, model: Model, tmp_path: Path
) -> None:
    copy = shutil.copytree(trained / "model", tmp_path / "copy")
    assert seqmlm.load(str(trained / "model")).fingerprint() == model.fingerprint()
    assert seqmlm.load(str(copy)).fingerprint() == model.fingerprint()


def test_domains_are_listed(cli: Cli) -> None:
    rows = as_json(cli("domains", "--json"))
    protein = next(row for row in rows if row["name"] == "protein")
    assert protein["class"] == "seqmlm_domains.protein.domain:ProteinDomain"
    assert protein["summary"] in cli("domains").stdout


def test_doctor_shows_versions_and_backends(cli: Cli) -> None:
    report = cli("doctor").stdout
    assert torch.__version__ in report
    for backend in ("reference", "torch", "triton"):
        assert f"backend     {backend}: " in report


def test_the_bundled_run_needs_no_data(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("train", "--domain", "protein", "--dry-run", "--device", "cpu")
    assert outcome.exit_code == 0
    assert "2,070 records read, 2,070 used" in outcome.stdout
