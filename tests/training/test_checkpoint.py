from __future__ import annotations

import errno
import hashlib
import itertools
import json
import logging
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from seqmlm.atomic_files import remove_leftovers
from seqmlm.errors import CheckpointError
from seqmlm.training.checkpoint import Checkpoint, TrainingState, load_newest, prune, save
from seqmlm.training.restore import check_identity

FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "MANIFEST.json"]
KILLS = int(os.environ.get("SEQMLM_KILLS", "50"))


def state_of(step: int) -> TrainingState:
    return TrainingState(
        step=step,
        epoch=step // 10,
        batch=step % 10,
        tokens=512 * step,
        seconds=0.1 * step,
        config={"model": {"layers": 2}, "training": {"steps": 100}},
        identity={"seed": 1, "vocabulary": "sha256:aa", "mask_rate": 0.15},
    )


def tensors_of(step: int, *, size: int = 40) -> dict[str, Tensor]:
    return {"a.weight": torch.full((size, 2), float(step)), "b": torch.tensor([step, -step])}


def save_step(folder: Path, step: int, *, size: int = 40) -> Path:
    optimizer = {f"tensor/exp_avg/{k}": v * 2 for k, v in tensors_of(step, size=size).items()}
    return save(folder, state_of(step), model=tensors_of(step, size=size), optimizer=optimizer)


def assert_is_step(loaded: Checkpoint | None, step: int, *, size: int = 40) -> None:
    """Every value is the one saved at this step."""
    assert loaded is not None
    assert loaded.state == state_of(step)
    expected = tensors_of(step, size=size)
    assert loaded.model.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(loaded.model[name], tensor)
        assert torch.equal(loaded.optimizer[f"tensor/exp_avg/{name}"], tensor * 2)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sign(manifest: dict[str, Any]) -> str:
    """The manifest with a right sha256 of itself, as its documentation defines it."""
    content = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True).encode()
    return json.dumps({**content, "sha256": hashlib.sha256(text).hexdigest()})


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and make the manifest agree, as only an attacker would."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "MANIFEST.json").write_text(sign(manifest))


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


# Damage: mutated, exchanged, missing and half-written files.


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


# Pruning.


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


# Failing system calls, full disks and kills.


def patch_writing_calls(patch: pytest.MonkeyPatch, wrap: Callable[..., Any]) -> None:
    """Replace each function that writes by ``wrap(name, function)``."""
    for name in ("open", "write", "fsync", "replace", "mkdir"):
        patch.setattr(os, name, wrap(f"os.{name}", getattr(os, name)))
    patch.setattr(Path, "write_text", wrap("write_text", Path.write_text))
    patch.setattr("seqmlm.training.checkpoint.save_file", wrap("save_file", save_file))


def failing_calls(first: int, last: float, code: int) -> Callable[..., Any]:
    count = 0

    def wrap(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if not first <= count <= last:
                return original(*args, **kwargs)
            if name == "save_file":
                raise SafetensorError(f"I/O error: {os.strerror(code)} (os error {code})")
            if name == "write_text":
                original(args[0], args[1][: len(args[1]) // 2])
            raise OSError(code, os.strerror(code))

        return call

    return wrap


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EINTR])
@pytest.mark.parametrize("persists", [False, True], ids=["once", "from then on"])
def test_whichever_call_fails_the_previous_checkpoint_is_intact(
    tmp_path: Path, code: int, persists: bool
) -> None:
    save_step(tmp_path, 1)
    for n in range(1, 100):
        failure: CheckpointError | None = None
        with pytest.MonkeyPatch.context() as patch:
            patch_writing_calls(patch, failing_calls(n, float("inf") if persists else n, code))
            try:
                save_step(tmp_path, 2)
            except CheckpointError as error:
                failure = error
        if failure is None:
            break
        assert os.strerror(code) in str(failure)
        assert "step-00000002 cannot be written" in str(failure)
        assert "Needed: 672 bytes. Free: " in str(failure)  # 2 x (40 x 2 floats + 2 int64)
        # Where even undoing fails, the complete new checkpoint may stay, never a part of one.
        loaded = load_newest(tmp_path)
        assert loaded is not None
        assert_is_step(loaded, 2 if persists and loaded.state.step == 2 else 1)
        if loaded.state.step == 2:
            shutil.rmtree(loaded.path)
        # A disk that fails for good does not let the temporary folder be removed either.
        assert len(remove_leftovers(tmp_path)) <= persists
        assert names(tmp_path) == ["step-00000001"]
    # mkdir; 2 save_file; 2 write_text; open and fsync of 4 files and the folder; replace; open
    # and fsync of the parent
    assert n == 1 + 2 + 2 + 10 + 1 + 2 + 1
    assert_is_step(load_newest(tmp_path), 2)


def test_everything_is_synced_before_the_rename_and_the_parent_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []
    opened: dict[int, str] = {}

    def record(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if name == "os.open":
                opened[result] = os.fspath(args[0])
            subject = opened[args[0]] if name == "os.fsync" else args[name == "os.replace"]
            events.append((name.removeprefix("os."), os.fspath(subject)))
            return result

        return call

    def record_save(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        if name not in ("write_text", "save_file"):
            return record(name, original)

        def call(*args: Any) -> Any:
            events.append(("content", str(args[0] if name == "write_text" else args[1])))
            return original(*args)

        return call

    patch_writing_calls(monkeypatch, record_save)
    target = save_step(tmp_path, 1)
    monkeypatch.undo()
    temporary = str(tmp_path / f".tmp-step-00000001-{os.getpid()}")
    trace = [event for event in events if event[0] != "open"]
    rename = trace.index(("replace", str(target)))
    synced = [subject for event, subject in trace[:rename] if event == "fsync"]
    assert set(synced) == {temporary, *(f"{temporary}/{name}" for name in FILES)}
    assert synced[-1] == temporary
    written = [subject for event, subject in trace if event == "content"]
    assert written[-1] == f"{temporary}/MANIFEST.json"
    for name in FILES:
        path = f"{temporary}/{name}"
        assert trace.index(("content", path)) < trace.index(("fsync", path))
    assert trace[rename + 1 :] == [("fsync", str(tmp_path))]


def test_a_file_size_limit_is_a_clear_error_and_training_can_go_on(
    tmp_path: Path, fork: Callable[[Callable[[], None]], int]
) -> None:
    """The kernel's own failure, in a child: a 320 kB file where 100 kB are allowed."""
    save_step(tmp_path, 1)
    reader, writer = os.pipe()

    def save_with_little_space() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            save_step(tmp_path, 2, size=40_000)
        except CheckpointError as error:
            os.write(writer, str(error).encode())
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        save_step(tmp_path, 3)

    child = fork(save_with_little_space)
    os.close(writer)
    with os.fdopen(reader, "rb") as messages:
        message = messages.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "step-00000002 cannot be written" in message
    assert "File too large" in message
    assert "Needed: 640,032 bytes. Free: " in message
    assert "Free some space" in message
    assert names(tmp_path) == ["step-00000001", "step-00000003"]
    assert_is_step(load_newest(tmp_path), 3)


KILLED_SIZE = 12_000  # 96 kB of model and as much of optimizer


def save_continuously(folder: Path, first_step: int, acknowledge: int) -> None:
    """Save and prune for ever; write each step's number once it is durable."""
    for step in itertools.count(first_step):
        save_step(folder, step, size=KILLED_SIZE)
        os.write(acknowledge, step.to_bytes(8, "little"))
        prune(folder, keep=2)


def test_no_acknowledged_checkpoint_is_lost_by_kill_9(
    tmp_path: Path, fork: Callable[[Callable[[], None]], int]
) -> None:
    """Kills at random moments of saving and pruning; ``SEQMLM_KILLS`` sets how many."""
    chance = random.Random(0)
    acknowledged = 0
    save_step(tmp_path, 0, size=KILLED_SIZE)
    start = time.monotonic()
    save_step(tmp_path, 1, size=KILLED_SIZE)
    save_seconds = time.monotonic() - start
    for _ in range(KILLS):
        loaded = load_newest(tmp_path)
        assert loaded is not None
        assert loaded.state.step >= acknowledged
        assert_is_step(loaded, loaded.state.step, size=KILLED_SIZE)
        reader, writer = os.pipe()
        child = fork(partial(save_continuously, tmp_path, loaded.state.step + 1, writer))
        os.close(writer)
        acknowledged = int.from_bytes(os.read(reader, 8), "little")
        time.sleep(chance.uniform(0, 3 * save_seconds))  # the moment of the kill is the experiment
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reader, "rb") as acknowledgements:
            rest = acknowledgements.read()
        acknowledged = int.from_bytes(rest[-8:], "little") if rest else acknowledged
        leftovers = [name for name in names(tmp_path) if not name.startswith("step-")]
        assert len(leftovers) <= 1
        assert len(remove_leftovers(tmp_path)) == len(leftovers)
        assert all(name.startswith("step-") for name in names(tmp_path))
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded.state.step >= acknowledged >= KILLS
