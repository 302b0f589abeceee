"""Embedding whole files: order, interruption, damage, and what is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from seqmlm.domain import Domain
from seqmlm.errors import ConfigError, DataError
from seqmlm.inference import embedding_job
from seqmlm.inference.embedding import Pooling
from seqmlm.inference.embedding_folder import Embeddings, read_embeddings
from seqmlm.inference.embedding_job import EmbeddingOptions, write_embeddings
from seqmlm.model.model import Model

TEXTS = ["some text", "a", "#dropped", "the quick fox", "", "b. c", "ü's name is kept"]
KEPT = ["some text", "a", "the quick fox", "b. c", "last"]
POOLINGS: tuple[Pooling, ...] = ("mean", "cls", "tokens")


class Interrupted(BaseException):
    """As if the process were killed."""


@pytest.fixture(scope="module")
def model(words: Domain, build_model: Callable[..., Model]) -> Model:
    return build_model(words)


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join([*TEXTS[:-1], "ü\tlast"]), encoding="utf-8")
    return str(path)


def interrupt_after(records: int) -> Callable[[int], None]:
    def check(done: int) -> None:
        if done >= records:
            raise Interrupted

    return check


def write(
    model: Model,
    source: str,
    output: Path,
    *,
    on_progress: Callable[[int], None] = lambda records: None,
    **options: Any,
) -> None:
    write_embeddings(
        model, [source], output, options=EmbeddingOptions(**{"shard_records": 2, **options}),
        tokens_per_batch=50, on_progress=on_progress,
    )  # fmt: skip


def written(model: Model, source: str, output: Path, **options: Any) -> Embeddings:
    write(model, source, output, **options)
    return read_embeddings(output)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("shard-*")}


def test_records_are_read_back_in_order_with_their_names(
    model: Model, source: str, tmp_path: Path
) -> None:
    report = write_embeddings(
        model, [source], tmp_path / "out", options=EmbeddingOptions(), tokens_per_batch=50
    )
    found = read_embeddings(tmp_path / "out")
    assert found.names == ["line 1", "line 2", "line 4", "line 6", "ü"]
    assert found.offsets.tolist() == [0, 1, 2, 3, 4, 5]
    torch.testing.assert_close(found.vectors, model.embed(KEPT), rtol=1e-5, atol=1e-5)
    assert (report.read, report.used) == (7, 5)
    assert found.description.report == report.to_json()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shard_records", [1, 2, 3, 5, 100])
def test_shards_of_any_size_hold_the_same(
    model: Model, source: str, tmp_path: Path, pooling: Pooling, shard_records: int
) -> None:
    whole = written(model, source, tmp_path / "whole", pooling=pooling, shard_records=100)
    found = written(model, source, tmp_path / "out", pooling=pooling, shard_records=shard_records)
    assert len(list((tmp_path / "out").glob("shard-*"))) == -(-5 // shard_records)
    assert found.names == whole.names
    assert torch.equal(found.offsets, whole.offsets)
    torch.testing.assert_close(found.vectors, whole.vectors, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_record_is_read_by_position_and_by_name(
    model: Model, source: str, tmp_path: Path, pooling: Pooling
) -> None:
    found = written(model, source, tmp_path / "out", pooling=pooling)
    everything = torch.split(found.vectors, found.offsets.diff().tolist())
    assert len(found) == len(everything) == 5
    for position, (name, expected) in enumerate(zip(found.names, everything, strict=True)):
        expected = expected if pooling == "tokens" else expected[0]
        assert torch.equal(found[position], expected)
        assert torch.equal(found[position - 5], expected)
        assert torch.equal(found[name], expected)
    assert [len(part) for part in found] == [len(found[position]) for position in range(5)]
    with pytest.raises(IndexError):
        found[5]


def test_one_vector_per_token_is_cut_by_the_offsets(
    model: Model, source: str, tmp_path: Path
) -> None:
    found = written(model, source, tmp_path / "out", pooling="tokens")
    assert found.offsets.diff().tolist() == [len(text) for text in KEPT]
    means = torch.stack([part.mean(0) for part in found])
    torch.testing.assert_close(means, model.embed(KEPT), rtol=1e-5, atol=1e-5)


def test_every_record_of_a_repeated_name_is_kept(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("same\tone\nother\ttwo\nsame\tthree")
    found = written(model, str(path), tmp_path / "out")
    assert found.names == ["same", "other", "same"]
    assert found.positions_of("same") == [0, 2]
    assert found.positions_of("absent") == []
    torch.testing.assert_close(found[2], model.embed(["three"])[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(DataError, match=r"2 records are called 'same', at the positions 0, 2"):
        found["same"]
    with pytest.raises(DataError, match="no record is called 'absent'"):
        found["absent"]


def test_half_precision_takes_half_the_space_and_is_close(
    model: Model, source: str, tmp_path: Path
) -> None:
    found = written(model, source, tmp_path / "out", dtype="float16")
    assert found.vectors.dtype == torch.float16
    torch.testing.assert_close(found.vectors.float(), model.embed(KEPT), rtol=1e-3, atol=1e-3)


def test_a_value_too_large_for_half_precision_is_refused(
    words: Domain, build_model: Callable[..., Model], source: str, tmp_path: Path
) -> None:
    model = build_model(words)
    with torch.no_grad():
        dict(model.named_parameters())["encoder.final_norm.weight"].fill_(1e6)
    with pytest.raises(DataError, match=r"record \d.*is not finite in float16. Store float32"):
        write(model, source, tmp_path / "out", dtype="float16")


def test_records_too_long_for_the_model_are_left_out_and_counted(
    words: Domain, build_model: Callable[..., Model], source: str, tmp_path: Path
) -> None:
    """One such record ended a job of hours once."""
    model = build_model(words, positions="learned", max_positions=12)
    found = written(model, source, tmp_path / "out")
    assert found.names == ["line 1", "line 2", "line 6", "ü"]
    report = found.description.report
    assert report is not None
    assert report["dropped"]["longer than the 12 positions of the model"] == 1
    (place,) = report["examples"]["longer than the 12 positions of the model"]
    assert place.endswith("lines.txt, record 4 (line 4)")


@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), most=st.integers(1, 40))
def test_shards_are_bounded_by_tokens_and_rows(
    model: Model, tmp_path_factory: pytest.TempPathFactory, lengths: list[int], most: int
) -> None:
    folder = tmp_path_factory.mktemp("bounded")
    (folder / "lines.txt").write_text("\n".join("a" * length for length in lengths))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_job, "SHARD_BYTES", most * 16 * 4)  # 16 numbers of 4 bytes a row
        found = written(
            model, str(folder / "lines.txt"), folder / "out", pooling="tokens", shard_records=100
        )
    assert found.offsets.diff().tolist() == lengths
    for shard in (folder / "out").glob("shard-*"):
        offsets = json.loads((shard / "records.json").read_text())["offsets"]
        assert offsets[-1] <= most or len(offsets) == 2


@pytest.mark.parametrize("pooling", ["mean", "tokens"])
@pytest.mark.parametrize("records", [1, 2, 3, 4, 5])
def test_an_interrupted_job_goes_on_and_computes_no_shard_twice(
    model: Model, source: str, tmp_path: Path, records: int, pooling: Pooling
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    write(model, source, whole, pooling=pooling)
    with pytest.raises(Interrupted):
        write(model, source, output, pooling=pooling, on_progress=interrupt_after(records))
    done = inodes(output)
    assert len(done) == (records - 1) // 2  # the last of them was not written yet
    with pytest.raises(DataError, match="is not complete: give the command"):
        read_embeddings(output)
    write(model, source, output, pooling=pooling)
    assert done.items() <= inodes(output).items()
    assert contents(output) == contents(whole)


def kill_within_a_shard(patch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def check(done: int) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    return check


def kill_before_the_manifest(patch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The second shard's vectors are on disk then, under a temporary name."""
    shards: list[str] = []
    path = "seqmlm.inference.embedding_shard"
    original = Path.write_text

    def write_text(self: Path, *arguments: Any, **options: Any) -> int:
        if self.name == "MANIFEST.json":
            shards.append(self.parent.name)
            if len(shards) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *arguments, **options)

    patch.setattr(f"{path}.Path.write_text", write_text)
    return lambda records: None


@pytest.mark.parametrize("kill", [kill_within_a_shard, kill_before_the_manifest])
def test_a_killed_process_loses_nothing_that_was_complete(
    model: Model, source: str, tmp_path: Path, kill: Callable[..., Callable[[int], None]]
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    write(model, source, whole)
    child = os.fork()
    if not child:
        write(model, source, output, on_progress=kill(pytest.MonkeyPatch()))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    done = inodes(output)
    assert set(done) == {"shard-00000"}
    assert len(list(output.glob(".tmp-*"))) == (kill is kill_before_the_manifest)
    write(model, source, output)
    assert done.items() <= inodes(output).items()
    assert contents(output) == contents(whole)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped bit in the vectors": lambda shard: flip_a_bit(shard / "vectors.safetensors"),
    "flipped bit in the names": lambda shard: flip_a_bit(shard / "records.json"),
    "shortened vectors": lambda shard: os.truncate(shard / "vectors.safetensors", 100),
    "no names": lambda shard: (shard / "records.json").unlink(),
    "no manifest": lambda shard: (shard / "MANIFEST.json").unlink(),
    "manifest of nothing": lambda shard: (shard / "MANIFEST.json").write_text("{}"),
    "cut manifest": lambda shard: os.truncate(shard / "MANIFEST.json", 20),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_computed_again(
    model: Model, source: str, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "out"
    write(model, source, whole)
    with pytest.raises(Interrupted):
        write(model, source, output, on_progress=interrupt_after(5))
    DAMAGE[damage](output / "shard-00000")
    done = inodes(output)
    write(model, source, output)
    assert "It is computed again" in caplog.text
    assert inodes(output)["shard-00001"] == done["shard-00001"]
    assert contents(output) == contents(whole)


def test_a_flipped_bit_is_noticed_when_a_vector_is_read(
    model: Model, source: str, tmp_path: Path
) -> None:
    """safetensors itself reads it as another number."""
    found = written(model, source, tmp_path / "out")
    path = tmp_path / "out" / "shard-00001" / "vectors.safetensors"
    flip_a_bit(path)
    assert load_file(path)["vectors"].shape == (2, 16)
    found[0]
    with pytest.raises(DataError, match=r"vectors\.safetensors is damaged: size or sha256"):
        found[2]


@pytest.mark.parametrize("change", ["pooling", "dtype", "shard_records", "model", "data"])
def test_unfinished_work_of_another_job_is_refused(
    model: Model, source: str, tmp_path: Path, words: Domain, change: str,
    build_model: Callable[..., Model],
) -> None:  # fmt: skip
    output = tmp_path / "out"
    with pytest.raises(Interrupted):
        write(model, source, output, on_progress=interrupt_after(2))
    before = contents(output)
    if change == "data":
        Path(source).write_text("something else")
    other = build_model(words, layers=1) if change == "model" else model
    changed: dict[str, Any] = {"pooling": "cls", "dtype": "float16", "shard_records": 3}
    options = {change: changed[change]} if change in changed else {}
    with pytest.raises(ConfigError, match="holds the unfinished work of another job"):
        write(other, source, output, **options)
    assert contents(output) == before


def test_a_mistaken_source_leaves_nothing_in_the_way_of_the_right_one(
    model: Model, source: str, tmp_path: Path
) -> None:
    mistaken, output = tmp_path / "empty.txt", tmp_path / "out"
    mistaken.write_text("#\n")
    with pytest.raises(DataError):
        write(model, str(mistaken), output)
    assert not output.exists()
    assert len(written(model, source, output)) > 0


def test_standard_input_is_never_taken_up_again(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of one input was appended to the first part of another once."""
    output = tmp_path / "out"
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\nthree"))
    with pytest.raises(Interrupted):
        write(model, "-", output, on_progress=interrupt_after(2))
    monkeypatch.setattr("sys.stdin", io.StringIO("uno\ndue\ntre"))
    with pytest.raises(ConfigError, match="holds the unfinished work of another job"):
        write(model, "-", output)


def test_what_exists_is_never_overwritten(model: Model, source: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").write_text("precious")
    complete = tmp_path / "complete"
    write(model, source, complete)
    before = contents(complete)
    for output in (precious, tmp_path / "folder", complete):
        with pytest.raises(ConfigError, match="delete it or choose another name"):
            write(model, source, output)
    assert precious.read_text() == (tmp_path / "folder" / "precious").read_text() == "precious"
    assert contents(complete) == before


def test_sources_without_a_record_are_refused(model: Model, tmp_path: Path) -> None:
    source = tmp_path / "empty.txt"
    source.write_text("#\n")
    with pytest.raises(DataError, match=r"empty\.txt: no usable record"):
        write(model, str(source), tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pooling": "max"}, "pooling = 'max': it is one of mean, cls, tokens"),
        ({"dtype": "int8"}, "dtype = 'int8': it is one of float32, float16"),
        ({"shard_records": 0}, "shard_records = 0: must be at least 1"),
    ],
    ids=["pooling", "dtype", "shard_records"],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        EmbeddingOptions(**options)


def test_other_folders_are_not_embeddings(model: Model, source: str, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    for folder in (tmp_path / "absent", tmp_path / "model", Path(source)):
        with pytest.raises(DataError, match="holds no embeddings"):
            read_embeddings(folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is damaged: it is not JSON"),
        ("[]", "is damaged: it is not a JSON object"),
        ("{}", "is not the index of embeddings"),
        ('{"format": 9}', "has format 9; this version of seqmlm reads up to 1"),
    ],
    ids=["empty", "list", "object", "newer"],
)
def test_a_damaged_index_is_refused(
    model: Model, source: str, tmp_path: Path, content: str, says: str
) -> None:
    write(model, source, tmp_path / "out")
    (tmp_path / "out" / "index.json").write_text(content)
    with pytest.raises(DataError, match=says):
        read_embeddings(tmp_path / "out")


def test_a_folder_that_moved_is_read_where_it_is(model: Model, source: str, tmp_path: Path) -> None:
    expected = written(model, source, tmp_path / "out").vectors
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    assert torch.equal(read_embeddings(tmp_path / "elsewhere").vectors, expected)
