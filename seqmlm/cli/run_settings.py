"""Settings of a run from options of the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def overrides(shortcuts: Mapping[str, object], assignments: Sequence[str] | None) -> list[str]:
    """Return ``KEY=VALUE`` of the options that were given, then of ``--set``, which wins.

    Args:
        shortcuts: what options that stand for a setting were given, by its dotted key; None where
            one was not.
        assignments: of ``--set``.
    """
    given = [f"{key}={value}" for key, value in shortcuts.items() if value is not None]
    return [*given, *(assignments or [])]


def config_to_resume(output: Path | None, *, resume: bool) -> Path | None:
    """Return the configuration of the run to go on with; None without ``--resume``, or without it.

    Raises:
        ConfigError: no folder is given.
        RunFolderError: the folder holds no run.
    """
    if not resume:
        return None
    from seqmlm.errors import ConfigError
    from seqmlm.training.run_folder import require_run

    if output is None:
        raise ConfigError("--resume needs --output: the folder of the run to go on with.")
    require_run(output)
    path = output / "config.toml"
    return path if path.is_file() else None
