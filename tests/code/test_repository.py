from __future__ import annotations

import os
from pathlib import Path

import pytest

from seqmlm.data.report import ReadReport
from seqmlm.errors import DataError
from seqmlm_domains.code.repository import find_source_files
from tests.code.sources import WriteTree


def found_in(*sources: str | Path) -> tuple[list[str], ReadReport]:
    report = ReadReport()
    return [file.name for file in find_source_files(sources, report)], report


def test_a_folder_gives_its_source_files_in_sorted_order(write_tree: WriteTree) -> None:
    root = write_tree({"b.py": "", "a/c.java": "", "a/B.TSX": "", "notes.txt": ""})
    names, report = found_in(root)
    assert names == ["b.py", "a/B.TSX", "a/c.java"]
    assert report.notes == {"file without the suffix of a language skipped": 1}


@pytest.mark.parametrize(
    ("ignore", "ignored"),
    [
        ("build/\n", ["build/a.py", "src/build/a.py"]),
        ("/build\n", ["build/a.py"]),
        ("*.py\n!keep.py\n", ["build/a.py", "src/a.py", "src/build/a.py", "src/sub/a.py"]),
        ("src/**/a.py\n", ["src/a.py", "src/build/a.py", "src/sub/a.py"]),
        ("src/*\n!src/keep.py\n", ["src/a.py", "src/build/a.py", "src/sub/a.py"]),
        ("src/\n!src/keep.py\n", ["src/a.py", "src/build/a.py", "src/keep.py", "src/sub/a.py"]),
        ("# a.py\n\n", []),
        ("!\n[z-a]\n\\\n/build\n", ["build/a.py"]),
    ],
    ids=[
        *("folder", "anchored", "negation", "two stars", "kept in a listed folder"),
        *("not kept in an ignored folder", "comment", "lines that are no pattern"),
    ],
)
def test_patterns_of_gitignore(write_tree: WriteTree, ignore: str, ignored: list[str]) -> None:
    every = ["build/a.py", "src/a.py", "src/build/a.py", "src/keep.py", "src/sub/a.py"]
    root = write_tree({".gitignore": ignore} | dict.fromkeys(every, ""))
    assert sorted(found_in(root)[0]) == sorted(set(every) - set(ignored))


def test_an_inner_gitignore_overrules_an_outer_one(write_tree: WriteTree) -> None:
    files = dict.fromkeys(["a.py", "in/a.py", "in/b.py", "in/deep/a.py"], "")
    root = write_tree({".gitignore": "a.py\n", "in/.gitignore": "!/a.py\nb.py\n"} | files)
    names, report = found_in(root)
    assert names == ["in/a.py"]
    assert report.notes["file that git ignores skipped"] == 3


def test_rules_above_the_folder_hold_inside_a_repository(write_tree: WriteTree) -> None:
    files = dict.fromkeys(["pkg/a.py", "pkg/made.py", "pkg/own.py"], "")
    rules = {".gitignore": "made.py\n", ".git/info/exclude": "own.py\n"}
    root = write_tree(rules | files)
    assert found_in(root / "pkg")[0] == ["a.py"]


def test_rules_above_the_folder_do_not_hold_outside_a_repository(write_tree: WriteTree) -> None:
    root = write_tree({".gitignore": "a.py\n", "pkg/a.py": ""})
    assert found_in(root / "pkg")[0] == ["a.py"]


def test_a_folder_that_is_named_is_read_though_git_ignores_it(write_tree: WriteTree) -> None:
    root = write_tree({".git/HEAD": "", ".gitignore": "vendor/\n", "vendor/lib/a.py": ""})
    assert found_in(root / "vendor" / "lib")[0] == ["a.py"]


def test_hidden_files_and_folders_are_skipped(write_tree: WriteTree) -> None:
    root = write_tree({"a.py": "", ".b.py": "", ".venv/c.py": ""})
    names, report = found_in(root)
    assert names == ["a.py"]
    assert report.notes == {"hidden folder skipped": 1, "hidden file skipped": 1}


def test_links_are_skipped_so_that_they_cannot_loop(write_tree: WriteTree) -> None:
    root = write_tree({"a.py": "", "in/b.py": ""})
    (root / "in" / "up").symlink_to(root, target_is_directory=True)
    os.symlink("self.py", root / "self.py")
    names, report = found_in(root)
    assert names == ["a.py", "in/b.py"]
    assert report.notes == {"link skipped": 2}


def test_a_pattern_gives_the_files_it_matches(write_tree: WriteTree) -> None:
    root = write_tree({"a.py": "", "in/b.py": "", "in/c.java": ""})
    names, _ = found_in(f"{root}/**/*.py")
    assert names == [f"{root}/a.py", f"{root}/in/b.py"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.py", "does not exist"),
        ("*.rs", "No file matches"),
        ("notes.txt", r"'\.txt' is the suffix of no language"),
        ("empty", "no source file in the folder"),
    ],
)
def test_a_source_that_cannot_be_used_is_named(
    write_tree: WriteTree, source: str, message: str
) -> None:
    root = write_tree({"notes.txt": "", "empty/notes.txt": ""})
    with pytest.raises(DataError, match=message):
        found_in(root / source)
