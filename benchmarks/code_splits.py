"""The files and positions of the completion benchmarks, the same for everyone.

``python``: the protocol ``stdlib-ident-v1`` on the library of CPython 3.11.7, held out by file or
by package, with positions that come with the data. ``java`` and ``typescript``: folders of the
archives held out until a tenth of the files is, positions drawn here.

``python -m benchmarks.code_splits --data FOLDER --split python-file --output FOLDER`` writes the
training files (``learn``), some of them apart for the weights of the mixture (``held_out``), and
the test files (``test``).
"""

from __future__ import annotations

import argparse
import json
import random
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seqmlm_domains.code.languages import LANGUAGES, language_of
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_file import Unusable, source_text
from seqmlm_domains.code.syntax import find_identifiers

PYTHON_VERSION = "3.11.7"
DROPPED_PARTS = {"test", "tests", "idle_test", "lib2to3", "site-packages", "__pycache__"}
LARGEST_FILE = 400_000
POSITIONS = 3000
FOR_WEIGHTS = 40
ARCHIVES = {
    "java": ("java/gson.tar.xz", "java/commons-lang.tar.xz"),
    "typescript": ("typescript/zod.tar.xz", "typescript/date-fns.tar.xz"),
}
SPLITS = ("python-file", "python-package", "java", "typescript")


@dataclass(frozen=True, slots=True)
class Position:
    """One hidden identifier.

    Args:
        file: its path.
        start: first character.
        end: one past the last.
        role: of the protocol for Python, else of ours.
    """

    file: str
    start: int
    end: int
    role: str


@dataclass(frozen=True)
class CodeSplit:
    """Training and test files, and what is asked about the latter.

    Args:
        train: path -> text.
        test: path -> text.
        positions: in order of files.
    """

    train: Mapping[str, str]
    test: Mapping[str, str]
    positions: Sequence[Position]

    @property
    def learned_from(self) -> tuple[list[str], list[str]]:
        """Paths of the training files for the model, and of those for the weights alone."""
        paths = sorted(self.train)
        random.Random(21).shuffle(paths)
        count = min(FOR_WEIGHTS, len(paths) // 10)
        return sorted(paths[count:]), sorted(paths[:count])


def load_split(name: str, data: Path) -> CodeSplit:
    """Return one of :data:`SPLITS`.

    Args:
        name: of the split.
        data: folder with the positions of Python and the archives.

    Raises:
        SystemExit: this is not the Python that the positions were made with.
    """
    if name.startswith("python"):
        return _python(data / f"baseline_positions_{_POSITIONS_OF[name]}_split.json")
    return _archives([data / archive for archive in ARCHIVES[name]])


_POSITIONS_OF = {"python-file": "file", "python-package": "pkg"}


def _python(path: Path) -> CodeSplit:
    library = Path(sysconfig.get_path("stdlib"))
    if (found := sysconfig.get_config_var("py_version")) != PYTHON_VERSION:
        raise SystemExit(
            f"The positions are of the library of CPython {PYTHON_VERSION}; this is {found}."
        )
    asked = json.loads(path.read_text())
    files: dict[str, bytes] = {}
    for file in sorted(library.rglob("*.py")):
        relative = file.relative_to(library)
        if not DROPPED_PARTS.intersection(relative.parts) and file.is_file():
            content = file.read_bytes()
            if 1 <= len(content) <= LARGEST_FILE:
                files[relative.as_posix()] = content
    test = set(asked["test"])
    if missing := test - set(files):
        raise SystemExit(f"{library} lacks {', '.join(sorted(missing))}.")
    positions = [
        Position(file, len(files[file][:start].decode()), len(files[file][:end].decode()), role)
        for file, start, end, role in asked["pos"]
    ]
    return CodeSplit(
        {name: text for name, text in _texts(files).items() if name not in test},
        {name: files[name].decode() for name in asked["test"]},
        positions,
    )


def _archives(paths: Sequence[Path]) -> CodeSplit:
    files: dict[str, bytes] = {}
    for path in paths:
        with tarfile.open(path) as archive:
            for member in archive:
                name = f"{path.name.partition('.')[0]}/{member.name.removeprefix('./')}"
                if member.isfile() and language_of(name) is not None:
                    content = archive.extractfile(member)
                    assert content is not None, "a regular file"
                    files[name] = content.read()
    texts = _texts(files)
    folders = sorted({str(PurePosixPath(name).parent) for name in texts})
    random.Random(13).shuffle(folders)
    test: set[str] = set()
    for folder in folders:
        own = {name for name in texts if str(PurePosixPath(name).parent) == folder}
        # One folder with most of what is to be tested would be a benchmark of itself.
        if len(test) < len(texts) / 10 and len(own) <= len(texts) / 20:
            test |= own
    found = [
        Position(name, start, end, Role(role).name.lower())
        for name in sorted(test)
        for start, end, role in find_identifiers(texts[name], _language(name)).tolist()
    ]
    chosen = sorted(random.Random(14).sample(range(len(found)), min(POSITIONS, len(found))))
    return CodeSplit(
        {name: text for name, text in texts.items() if name not in test},
        {name: texts[name] for name in sorted(test)},
        [found[number] for number in chosen],
    )


def _texts(files: Mapping[str, bytes]) -> dict[str, str]:
    """Those that a completer would read."""
    texts = {}
    for name, content in files.items():
        try:
            texts[name] = source_text(content, name, max_line_characters=5_000)
        except Unusable:
            continue
    return texts


def _language(name: str) -> str:
    language = language_of(name)
    assert language is not None, "only source files were taken"
    assert language.name in LANGUAGES, "the table of suffixes is made from it"
    return language.name


def main() -> None:
    """Write the files of a split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="positions and archives")
    parser.add_argument("--split", choices=SPLITS, required=True)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    split = load_split(given.split, given.data)
    learn, held_out = split.learned_from
    parts = {"learn": learn, "held_out": held_out, "test": list(split.test)}
    for part, names in parts.items():
        for name in names:
            path = given.output / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(split.test[name] if part == "test" else split.train[name])
        print(f"{given.output / part}: {len(names)} files")


if __name__ == "__main__":
    main()
