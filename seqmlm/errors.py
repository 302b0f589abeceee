"""What a user can cause. Anything else that escapes is a bug of ours and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SeqmlmError(Exception):
    """Root of every error a user can cause; the command line prints it as one line.

    The message says what was given, where, what is allowed and what to do.
    """

    exit_code = 1


class ConfigError(SeqmlmError):
    """A setting, an option or an argument is not usable."""

    exit_code = 2


class DataError(SeqmlmError):
    """A data file cannot be used; the message names file, line or record."""

    exit_code = 3


class UnknownNameError(ConfigError):
    """A registry has no entry of the name asked for."""

    def __init__(self, noun: str, name: str, available: Iterable[str]) -> None:
        self.noun, self.name, self.available = noun, name, sorted(available)
        super().__init__(
            f"There is no {noun} called {name!r}.{suggestion(name, self.available)} "
            f"Available: {', '.join(self.available)}."
        )


class CheckpointError(SeqmlmError):
    """A checkpoint or model folder is missing, damaged, or does not fit this run."""


class RunFolderError(ConfigError):
    """The output folder is in use, not empty, or cannot be written."""


class TrainingError(SeqmlmError):
    """Training cannot go on: the loss is not finite, or a process was lost."""


def suggestion(name: str, available: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest available name, or an empty string."""
    closest = difflib.get_close_matches(name, list(available), n=1, cutoff=0.5)
    return f" Did you mean {closest[0]!r}?" if closest else ""
