"""`make compile-all` goes on where it was stopped, and tells the worst."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernels.triton.ahead_of_time import Compiled, Variant
from tests.kernels.triton.compile_all import compile_with_progress, keep, kept, worst

SMALL = Compiled(shared_bytes=1024, registers=40, stack_bytes=0, instructions={"ex2": 3})
LARGE = Compiled(shared_bytes=512, registers=255, stack_bytes=300)
VARIANT = Variant("one", "there:is_none", "sm_90", {"q_ptr": "*bf16"}, {"PRECISION": "ieee"}, 8, 2)
OTHER = replace(VARIANT, name="two", num_stages=3)


def test_what_was_kept_whole_is_found_again(tmp_path: Path) -> None:
    keep(tmp_path, "a", SMALL)
    (tmp_path / "b.unfinished").write_text('{"shared_by')
    assert kept(tmp_path) == {"a": SMALL}


def test_what_is_kept_is_not_compiled_again_and_held_to_its_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path, "a", SMALL)
    keep(tmp_path, "b", LARGE)
    keep(tmp_path, "of other sources", LARGE)
    variants = {"a": VARIANT, "b": OTHER}
    compiled, failures = compile_with_progress(variants, tmp_path, num_processes=1)
    assert sorted(compiled, key=lambda one: one[0].name) == [(VARIANT, SMALL), (OTHER, LARGE)]
    assert list(failures) == ["two"]
    assert failures["two"].startswith("bytes of stack: 300, at most ")
    assert capsys.readouterr().out == f"two: {failures['two']}\n"


def test_worst_is_the_most_of_each_number_by_kernel_and_target() -> None:
    on_amd = replace(VARIANT, target="gfx942")
    rows = worst([(VARIANT, SMALL), (OTHER, LARGE), (on_amd, SMALL)])
    assert [tuple(row.values()) for row in rows] == [
        ("is_none", "gfx942", 1, 40, 0, 1024),
        ("is_none", "sm_90", 2, 255, 300, 1024),
    ]
