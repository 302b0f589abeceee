"""Which files git ignores: .gitignore at every level, as gitignore(5) says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec


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
        """Return the rules with those of a file, which hold below ``folder``."""
        if not path.is_file():
            return self
        lines = path.read_bytes().decode(errors="surrogateescape").splitlines()
        return IgnoreRules((*self.levels, (folder, GitIgnoreSpec.from_lines(lines))))

    def ignores(self, path: Path, *, is_folder: bool) -> bool:
        """Say whether git ignores a path; those inside an ignored folder are not asked about."""
        for folder, patterns in reversed(self.levels):
            relative = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
            include = patterns.check_file(relative).include
            if include is not None:
                return include
        return False
