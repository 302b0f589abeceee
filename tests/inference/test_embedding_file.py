"""Embedding whole files: order, interruption, and what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seqmlm.domain import Domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference import embedding_file
from seqmlm.inference.embedding import Pooling
from seqmlm.inference.embedding_file import read_embeddings, write_embeddings
from seqmlm.model.model import Model

TEXTS = ["some text", "a", "#dropped", "the quick fox", "", "b. c", "ü's name is kept"]
KEPT = ["some text", "a", "the quick fox", "b. c", "last"]


class Interrupted(BaseException):
    """As if the process were killed."""


@pytest.fixture(scope="module")
def model(words: Domain, build_model: Callable[..., Model]) -> Model:
    return build_model(words)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(embedding_file, "RECORDS_PER_SAVE", 2)
    path = tmp_path / "lines.txt"
    path.write_text("\n".join([*TEXTS[:-1], "ü\tlast"]), encoding="utf-8")
    return str(path)


def interrupt_after(records: int) -> Callable[[int], None]:
    def check(done: int) -> None:
        if done >= records:
            raise Interrupted

    return check


def write(model: Model, source: str, output: Path, pooling: Pooling = "mean") -> None:
    write_embeddings(model, [source], output, pooling=pooling, tokens_per_batch=50)


def test_records_are_read_back_in_order_with_their_names(
    model: Model, source: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.safetensors"
    report = write_embeddings(model, [source], output, pooling="mean", tokens_per_batch=50)
    found = read_embeddings(output)
    assert found.names == ["line 1", "line 2", "line 4", "line 6", "ü"]
    assert found.offsets.tolist() == [0, 1, 2, 3, 4, 5]
    torch.testing.assert_close(found.vectors, model.embed(KEPT), rtol=1e-5, atol=1e-5)
    assert (report.read, report.used) == (7, 5)
    assert not output.with_name("out.safetensors.partial").exists()


def test_one_vector_per_token_is_cut_by_the_offsets(
    model: Model, source: str, tmp_path: Path
) -> None:
    output = tmp_path / "out.safetensors"
    write(model, source, output, "tokens")
    found = read_embeddings(output)
    assert found.offsets.diff().tolist() == [len(text) for text in KEPT]
    means = torch.stack([
        part.mean(0) for part in torch.split(found.vectors, found.offsets.diff().tolist())
    ])  # fmt: skip
    torch.testing.assert_close(means, model.embed(KEPT), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "tokens"])
@pytest.mark.parametrize("records", [2, 4, 5])
def test_an_interrupted_job_goes_on_where_it_was(
    model: Model, source: str, tmp_path: Path, records: int, pooling: Pooling
) -> None:
    whole, output = tmp_path / "whole.safetensors", tmp_path / "out.safetensors"
    write(model, source, whole, pooling)
    with pytest.raises(Interrupted):
        write_embeddings(
            model, [source], output, pooling=pooling, tokens_per_batch=50,
            on_progress=interrupt_after(records),
        )  # fmt: skip
    with (tmp_path / "out.safetensors.partial" / "vectors.bin").open("ab") as file:
        file.write(b"half a block")
    counted: list[int] = []
    write_embeddings(
        model, [source], output, pooling=pooling, tokens_per_batch=50, on_progress=counted.append
    )
    assert counted == [done for done in (2, 4, 5) if done > records]
    expected, found = read_embeddings(whole), read_embeddings(output)
    assert found.names == expected.names
    assert torch.equal(found.offsets, expected.offsets)
    assert torch.equal(found.vectors, expected.vectors)


@pytest.mark.parametrize("change", ["pooling", "model", "data"])
def test_partial_work_of_another_job_is_refused(
    model: Model, source: str, tmp_path: Path, words: Domain, change: str,
    build_model: Callable[..., Model],
) -> None:  # fmt: skip
    output = tmp_path / "out.safetensors"
    with pytest.raises(Interrupted):
        write_embeddings(
            model, [source], output, pooling="mean", tokens_per_batch=50,
            on_progress=interrupt_after(2),
        )  # fmt: skip
    if change == "data":
        Path(source).write_text("something else")
    other = build_model(words, layers=1) if change == "model" else model
    with pytest.raises(ConfigError, match=r"out\.safetensors\.partial holds the partial work of"):
        write(other, source, output, "cls" if change == "pooling" else "mean")


def test_standard_input_is_never_taken_up_again(
    model: Model, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of one input was appended to the first part of another once."""
    output = tmp_path / "out.safetensors"
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\nthree"))
    with pytest.raises(Interrupted):
        write_embeddings(
            model, ["-"], output, pooling="mean", tokens_per_batch=50,
            on_progress=interrupt_after(2),
        )  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO("uno\ndue\ntre"))
    with pytest.raises(ConfigError, match="holds the partial work of another job"):
        write(model, "-", output)


def test_shortened_partial_work_is_refused(model: Model, source: str, tmp_path: Path) -> None:
    """Missing vectors came back as zeros once."""
    output = tmp_path / "out.safetensors"
    with pytest.raises(Interrupted):
        write_embeddings(
            model, [source], output, pooling="mean", tokens_per_batch=50,
            on_progress=interrupt_after(2),
        )  # fmt: skip
    (tmp_path / "out.safetensors.partial" / "vectors.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"vectors\.bin is damaged: delete .*partial"):
        write(model, source, output)


def test_an_existing_output_is_never_overwritten(model: Model, source: str, tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    output.write_text("precious")
    with pytest.raises(ConfigError, match="exists; delete it or choose another name"):
        write(model, source, output)
    assert output.read_text() == "precious"


def test_sources_without_a_record_are_refused(model: Model, tmp_path: Path) -> None:
    source = tmp_path / "empty.txt"
    source.write_text("#\n")
    with pytest.raises(DataError, match=r"empty\.txt: no usable record"):
        write(model, str(source), tmp_path / "out.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"text"], ids=["absent", "empty", "text"])
def test_other_files_are_not_embedding_files(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "some.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"some\.safetensors is not an embedding file"):
        read_embeddings(path)


def test_weights_are_not_an_embedding_file(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())
    with pytest.raises(DataError, match="is not an embedding file"):
        read_embeddings(tmp_path / "model" / "model.safetensors")
