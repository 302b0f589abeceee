"""Which files git ignores: .gitignore at every level, as gitignore(5) says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from seqmlm.errors import DataError


@dataclass(frozen=True)
class IgnoreRules:
    """The patterns that hold inside a folder.

    Args:
        levels: folder and patterns, outermost first; patterns further in overrule.
    """

    levels: tuple[tuple[Path, GitIgnoreSpec], ...] = ()

    @classmethod
    def above(cls, folder: Path) -> IgnoreRules:
        """Return what the repository says of a folder inside it: the rules of its parents.

        Without a repository nothing outside the folder counts, and nothing for a folder that the
        repository ignores as a whole: who names it wants it.
        """
        folder = folder.resolve()
        roots = [parent for parent in (folder, *folder.parents) if (parent / ".git").exists()]
        if not roots:
            return cls()
        rules = cls().with_file(roots[0], roots[0] / ".git" / "info" / "exclude")
        for parent in reversed(folder.parents):
            if parent.is_relative_to(roots[0]):
                rules = rules.inside(parent)
        return cls() if rules.ignores(folder, is_folder=True) else rules

    def inside(self, folder: Path) -> IgnoreRules:
        """Return the rules with those of a folder's own ``.gitignore``, if it has one."""
        return self.with_file(folder, folder / ".gitignore")

    def with_file(self, folder: Path, path: Path) -> IgnoreRules:
        """Return the rules with those of a file, which hold below ``folder``.

        Raises:
            DataError: the file cannot be read.
        """
        if not path.is_file():
            return self
        try:
            lines = path.read_bytes().decode(errors="surrogateescape").splitlines()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
        patterns = GitIgnoreSpec.from_lines(filter(_is_pattern, lines))
        return IgnoreRules((*self.levels, (folder, patterns)))

    def ignores(self, path: Path, *, is_folder: bool) -> bool:
        """Say whether git ignores a path; those inside an ignored folder are not asked about."""
        for folder, patterns in reversed(self.levels):
            relative = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
            include = patterns.check_file(relative).include
            if include is not None:
                return include
        return False


def _is_pattern(line: str) -> bool:
    """Whether a line can be read; to git, too, one that cannot be matches nothing."""
    try:
        GitIgnoreSpec.from_lines([line])
    except (ValueError, re.error):
        return False
    return True
