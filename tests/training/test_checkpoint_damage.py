"""Checkpoints that were mutated, exchanged, half-written or forged are never used."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
from pathlib import Path

import pytest

from seqmlm.errors import CheckpointError
from seqmlm.training.checkpoint import load_newest
from tests.training.saved_steps import FILES, assert_is_step, save_step, sign


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and make the manifest agree, as only an attacker would."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "MANIFEST.json").write_text(sign(manifest))


def truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip_bit(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def zero_tail(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))  # zeros over zeros would be no damage
    start = chance.randrange(end)
    path.write_bytes(data[:start] + bytes(len(data) - start))


def remove(path: Path, chance: random.Random) -> None:
    path.unlink()


def exchange(path: Path, chance: random.Random) -> None:
    other = path.with_name(chance.choice([name for name in FILES if name != path.name]))
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


def take_from_older(path: Path, chance: random.Random) -> None:
    shutil.copy(path.parent.with_name("step-00000100") / path.name, path)


MUTATIONS = [truncate, flip_bit, zero_tail, remove, exchange, take_from_older]


def test_every_damage_is_noticed_and_the_previous_checkpoint_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(0)
    save_step(tmp_path, 100)
    newest = save_step(tmp_path, 200)
    intact = tmp_path / "intact"
    shutil.copytree(newest, intact)
    for _ in range(200):
        mutation, name = chance.choice(MUTATIONS), chance.choice(FILES)
        mutation(newest / name, chance)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "seqmlm"):
            assert_is_step(load_newest(tmp_path), 100)
        assert len(caplog.messages) == 1, (mutation, name)
        assert caplog.messages[0].startswith("checkpoint step-00000200 rejected: ")
        assert caplog.messages[0].endswith("; using step-00000100, 100 steps are repeated")
        shutil.rmtree(newest)
        shutil.copytree(intact, newest)
    assert_is_step(load_newest(tmp_path), 200)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("power_cut", ["zero-filled", "truncated"])
def test_what_a_power_cut_leaves_of_unsynced_files_is_rejected(
    tmp_path: Path, name: str, power_cut: str
) -> None:
    save_step(tmp_path, 1)
    path = save_step(tmp_path, 2) / name
    size = path.stat().st_size
    path.write_bytes(bytes(size) if power_cut == "zero-filled" else b"")
    assert_is_step(load_newest(tmp_path), 1)


def test_the_warning_names_file_and_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1000, 1100, 1200):
        save_step(tmp_path, step)
    flip_bit(tmp_path / "step-00001200" / "optimizer.safetensors", random.Random(0))
    (tmp_path / "step-00001100" / "state.json").unlink()
    with caplog.at_level(logging.WARNING, "seqmlm"):
        assert_is_step(load_newest(tmp_path), 1000)
    assert caplog.messages == [
        "checkpoint step-00001200 rejected: optimizer.safetensors: sha256 differs; "
        "using step-00001000, 200 steps are repeated",
        "checkpoint step-00001100 rejected: state.json: missing; "
        "using step-00001000, 100 steps are repeated",
    ]


def test_no_intact_checkpoint_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    (save_step(tmp_path, 1) / "MANIFEST.json").unlink()
    (save_step(tmp_path, 2) / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        CheckpointError,
        match=r"None of the 2 checkpoints .*step-00000002: model\.safetensors: 0 bytes instead of "
        r"\d+; step-00000001: MANIFEST\.json: missing",
    ):
        load_newest(tmp_path)


def test_a_checkpoint_under_another_name_is_rejected(tmp_path: Path) -> None:
    save_step(tmp_path, 1).rename(tmp_path / "step-00000002")
    with pytest.raises(CheckpointError, match="not that of the folder's name"):
        load_newest(tmp_path)


def header_of(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


FORGED = {
    "empty": ("model.safetensors", b"", "header is not valid JSON"),
    "huge header": ("model.safetensors", b"\xff" * 16, "header of 18,446,744,073,709,551,615"),
    "short": ("model.safetensors", header_of(b"{}")[:9], "header is not valid JSON"),
    "list": ("model.safetensors", header_of(b"[]"), "header is not a JSON object"),
    "deep header": ("model.safetensors", header_of(b"[" * 100_000), "header is not valid JSON"),
    "many tensors": (
        "optimizer.safetensors",
        header_of(b"{" + b",".join(b'"%x":1' % i for i in range(100_001)) + b"}"),
        "100,001 tensors; at most 100,000",
    ),
    "overflow": (
        "model.safetensors",
        header_of(b'{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}'),
        "rror",
    ),
    "deep state": ("state.json", b"[" * 100_000, r"state\.json: not valid JSON"),
    "state is a list": ("state.json", b"[]", r"state\.json: not a JSON object"),
    "state without step": ("state.json", b"{}", r"state\.json: must hold exactly step"),
    "pickle": ("state.json", b"\x80\x04.", r"state\.json: not valid JSON"),
}


@pytest.mark.parametrize(("name", "data", "message"), FORGED.values(), ids=FORGED.keys())
def test_a_forged_file_with_a_right_sha256_is_refused(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    forge(save_step(tmp_path, 1), name, data)
    with pytest.raises(CheckpointError, match=message):
        load_newest(tmp_path)


FORGED_MANIFESTS = {
    "path outside": {"../../etc/passwd": {"bytes": 1, "sha256": ""}},
    "no files": {},
    "list": [],
    "no size": {name: {"sha256": ""} for name in FILES[:3]},
    "text as size": {name: {"bytes": "1", "sha256": ""} for name in FILES[:3]},
    "no entry": dict.fromkeys(FILES[:3]),
}


@pytest.mark.parametrize("files", FORGED_MANIFESTS.values(), ids=FORGED_MANIFESTS.keys())
def test_a_forged_manifest_is_refused(tmp_path: Path, files: object) -> None:
    manifest = sign({"format": 1, "writer": "seqmlm 0.1.0", "files": files})
    (save_step(tmp_path, 1) / "MANIFEST.json").write_text(manifest)
    with pytest.raises(CheckpointError, match=r"MANIFEST\.json: (must list exactly|\S+ has no)"):
        load_newest(tmp_path)
