"""Saving, loading and pruning checkpoints, and what is refused."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmlm.atomic_files import remove_leftovers
from seqmlm.errors import CheckpointError
from seqmlm.training.checkpoint import load_newest, prune, save
from seqmlm.training.restore import check_identity
from tests.training.saved_steps import FILES, assert_is_step, names, save_step, sign, state_of


def test_the_newest_checkpoint_loads_with_every_value(tmp_path: Path) -> None:
    for step in (90, 100):
        save_step(tmp_path, step)
    assert names(tmp_path) == ["step-00000090", "step-00000100"]
    assert names(tmp_path / "step-00000100") == sorted(FILES)
    assert_is_step(load_newest(tmp_path), 100)


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_checkpoints_loads_nothing(tmp_path: Path, exists: bool) -> None:
    assert load_newest(tmp_path if exists else tmp_path / "absent") is None


def test_a_checkpoint_written_by_hand_in_format_1_loads(tmp_path: Path) -> None:
    """Pins the format on disk: written byte by byte here, without the code under test."""
    folder = tmp_path / "step-00000007"
    folder.mkdir()
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    header += b" " * (-len(header) % 8)
    tensors = len(header).to_bytes(8, "little") + header + bytes.fromhex("0000803f 000000c0")
    state = b'{"step":7,"epoch":0,"batch":7,"tokens":70,"seconds":1.5,"config":{},"identity":{}}'
    contents = {FILES[0]: tensors, FILES[1]: b"\x08" + b"\0" * 7 + b"{}      ", FILES[2]: state}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    files = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in contents.items()
    }
    manifest = sign({"format": 1, "writer": "seqmlm 0.1.0", "files": files})
    (folder / "MANIFEST.json").write_text(manifest)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.model["w"].tolist() == [1.0, -2.0]
    assert (loaded.state.step, loaded.state.seconds, loaded.optimizer) == (7, 1.5, {})


def test_a_newer_format_is_refused_and_not_skipped(tmp_path: Path) -> None:
    save_step(tmp_path, 1)
    manifest_path = save_step(tmp_path, 2) / "MANIFEST.json"
    manifest = json.loads(manifest_path.read_text())
    manifest_path.write_text(sign({**manifest, "format": 2, "writer": "seqmlm 9.9"}))
    with pytest.raises(CheckpointError, match=r"written by seqmlm 9\.9 in checkpoint format 2;"):
        load_newest(tmp_path)


def test_a_damaged_format_number_is_damage_and_not_a_newer_format(tmp_path: Path) -> None:
    save_step(tmp_path, 1)
    manifest_path = save_step(tmp_path, 2) / "MANIFEST.json"
    text = manifest_path.read_text()
    assert '"format": 1' in text
    manifest_path.write_text(text.replace('"format": 1', '"format": 3'))
    assert_is_step(load_newest(tmp_path), 1)


def test_an_intact_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    save_step(tmp_path, 1)
    with pytest.raises(CheckpointError, match="exists already"):
        save_step(tmp_path, 1)
    assert_is_step(load_newest(tmp_path), 1)


def test_a_damaged_checkpoint_gives_way_to_the_repeated_step(tmp_path: Path) -> None:
    save_step(tmp_path, 1)
    (save_step(tmp_path, 2) / "model.safetensors").write_bytes(b"")
    save_step(tmp_path, 2)
    assert_is_step(load_newest(tmp_path), 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_tensors_that_share_memory_are_refused_by_name(tmp_path: Path) -> None:
    weight = torch.ones(4, 2)
    tied = {"embedding": weight, "head": weight[1:]}
    with pytest.raises(CheckpointError, match="'embedding' and 'head' share memory"):
        save(tmp_path, state_of(1), model=tied, optimizer={})
    assert names(tmp_path) == []


def test_parts_of_one_buffer_and_transposed_tensors_are_saved(tmp_path: Path) -> None:
    buffer = torch.arange(6.0)
    model = {"a": buffer[:2], "b": buffer[2:], "c": torch.arange(6.0).view(2, 3).t()}
    save(tmp_path, state_of(1), model=model, optimizer={})
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert all(torch.equal(loaded.model[name], tensor) for name, tensor in model.items())


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    many = {f"{i:0200d}": torch.empty(0) for i in range(5000)}
    with pytest.raises(CheckpointError, match=r"header of 1,[\d,]+ bytes; at most 1,048,576"):
        save(tmp_path, state_of(1), model=many, optimizer={})
    assert names(tmp_path) == []


HARMLESS = {
    "log level": {"logging": {"level": "debug"}},
    "more steps": {"training": {"steps": 1000}},
    "output folder": {"output": "elsewhere"},
    "checkpoint interval": {"training": {"checkpoint_every": 7}},
    "plots": {"plots": True},
}


@pytest.mark.parametrize("edit", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_change_outside_the_identity_is_accepted(tmp_path: Path, edit: dict[str, Any]) -> None:
    save_step(tmp_path, 1)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    given = replace(state_of(1), config={**state_of(1).config, **edit})
    assert given.config != loaded.state.config
    check_identity(loaded.state.identity, given.identity)


def test_pruning_keeps_the_newest_that_verify(tmp_path: Path) -> None:
    for step in range(1, 6):
        save_step(tmp_path, step)
    (tmp_path / "step-00000004" / "state.json").unlink()
    prune(tmp_path, keep=2)
    assert names(tmp_path) == ["step-00000003", "step-00000005"]


def test_pruning_deletes_nothing_while_the_newest_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        save_step(tmp_path, step)
    (tmp_path / "step-00000003" / "state.json").unlink()
    with caplog.at_level(logging.WARNING, "seqmlm"):
        prune(tmp_path, keep=1)
    assert len(names(tmp_path)) == 3
    assert caplog.messages == [
        "checkpoint step-00000003 does not verify, none is deleted: state.json: missing"
    ]


def test_a_half_pruned_checkpoint_is_never_selected_and_goes_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        save_step(tmp_path, step)

    def killed_after_one_file(path: Path) -> None:
        (path / "state.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed_after_one_file)
    with pytest.raises(KeyboardInterrupt):
        prune(tmp_path, keep=1)
    monkeypatch.undo()
    assert names(tmp_path) == [".trash-step-00000001", "step-00000002"]
    assert_is_step(load_newest(tmp_path), 2)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["step-00000002"]
