"""A fine-tuned model: its weights as every model has them, and its task beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seqmlm.atomic_files import write_file
from seqmlm.domain import Domain
from seqmlm.errors import CheckpointError, RunFolderError
from seqmlm.finetuning.task import TASKS, Task

TASK_FILE = "task.json"
FORMAT_VERSION = 1


def write_task(folder: Path, task: Task[Any, Any], *, max_length: int) -> None:
    """Write ``task.json`` beside a saved model.

    Raises:
        RunFolderError: it cannot be written.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "name": task.name,
        "options": task.options,
        "learned": task.state(),
        "max_length": max_length,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_file(folder / TASK_FILE, text, error=RunFolderError)


def read_task(path: Path, domain: Domain) -> tuple[Task[Any, Any], int]:
    """Return the task of a model, and the tokens that its rows may have.

    Args:
        path: run folder, or model folder.
        domain: of the model.

    Raises:
        CheckpointError: the model has no task, or its file is damaged.
    """
    found = [folder / TASK_FILE for folder in (path / "model", path)]
    present = [file for file in found if file.is_file()]
    if not present:
        raise CheckpointError(
            f"{path} has not been fine-tuned: there is no {TASK_FILE}. Make such a model with "
            f"seqmlm finetune {path} --task NAME --data FILE"
        )
    try:
        content = json.loads(present[0].read_text(encoding="utf-8"))
        version = content["format_version"]
        settings = {"name": content["name"], **content["options"]}
        learned, max_length = content["learned"], int(content["max_length"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{present[0]} is damaged: {error!r}.") from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{present[0]} has format {version}; this version reads up to {FORMAT_VERSION}."
        )
    task: Task[Any, Any] = TASKS.build(settings, domain, where=str(present[0]))
    task.restore(learned)
    return task, max_length
