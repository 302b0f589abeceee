"""Checkpoint tensors back into a model and an optimizer, after checking that they belong there."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from seqmlm.errors import CheckpointError, UnknownNameError

_ENTRY = re.compile(r"(tensor|scalar)/([^/]+)/(.+)")
_MAX_NAMES_SHOWN = 4
_ABSENT = "absent"
_logger = logging.getLogger("seqmlm")


def check_identity(
    saved: Mapping[str, str | int | float],
    given: Mapping[str, str | int | float],
    *,
    allow: Collection[str] = (),
) -> None:
    """Refuse to resume a run whose numbers would not continue those of the checkpoint.

    Args:
        saved: identity in the checkpoint: fingerprints of vocabulary and data, model shape, seed,
            world size, threads, optimizer variant and the like.
        given: the same of this run.
        allow: keys that may differ; each difference is then a warning.

    Raises:
        CheckpointError: a key outside ``allow`` differs; the message shows both values.
        UnknownNameError: ``allow`` has a key that neither side knows.
    """
    keys = sorted({*saved, *given})
    for name in allow:
        if name not in keys:
            raise UnknownNameError("identity key for --allow-drift", name, keys)
    drift = {
        key: f"{key} was {saved.get(key, _ABSENT)!r}, now {given.get(key, _ABSENT)!r}"
        for key in keys
        if saved.get(key, _ABSENT) != given.get(key, _ABSENT)
    }
    for key in sorted(drift.keys() & set(allow)):
        _logger.warning("resuming although %s (allowed)", drift[key])
    refused = [key for key in drift if key not in allow]
    if refused:
        options = " ".join(f"--allow-drift {key}" for key in refused)
        raise CheckpointError(
            f"This run differs from its checkpoint: {'; '.join(drift[key] for key in refused)}. "
            f"Use the saved settings, start a new run, or accept another result with {options}."
        )


@torch.no_grad()
def restore_model(model: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Copy saved tensors into a model's, in place; changes nothing unless all of them fit.

    Args:
        model: the tensors that were passed to ``save``, of the model to restore.

    Raises:
        CheckpointError: names, shapes or data types differ.
    """
    problems = {
        "missing": [name for name in model if name not in saved],
        "unexpected": [name for name in saved if name not in model],
        "different": [
            f"{name} {_describe(saved[name])} instead of {_describe(tensor)}"
            for name, tensor in model.items()
            if name in saved and _describe(saved[name]) != _describe(tensor)
        ],
    }
    found = [f"{kind}: {_first(names)}" for kind, names in problems.items() if names]
    if found:
        raise CheckpointError(
            f"The checkpoint does not fit the model ({'; '.join(found)}). "
            "Use the configuration it was trained with."
        )
    for name, tensor in model.items():
        tensor.copy_(saved[name])


def optimizer_tensors(
    optimizer: Optimizer, named_parameters: Iterable[tuple[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the state of an optimizer as ``tensor/KEY/PARAMETER`` and ``scalar/KEY/PARAMETER``.

    Python numbers become tensors of no dimension. Hyper-parameters are not included: they follow
    from the configuration and the step. The tensors are the optimizer's own, not copies.

    Args:
        named_parameters: ``model.named_parameters()``; has every parameter of the optimizer.

    Raises:
        CheckpointError: a state entry is neither a tensor nor a number.
    """
    names = {parameter: name for name, parameter in named_parameters}
    tensors: dict[str, Tensor] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"tensor/{key}/{names[parameter]}"] = value
            elif isinstance(value, bool | int):
                tensors[f"scalar/{key}/{names[parameter]}"] = torch.tensor(value)
            elif isinstance(value, float):
                tensors[f"scalar/{key}/{names[parameter]}"] = torch.tensor(
                    value, dtype=torch.float64
                )
            else:
                raise CheckpointError(
                    f"{type(optimizer).__name__} keeps {key!r} of {names[parameter]} as "
                    f"{type(value).__name__}; only tensors and numbers can be saved."
                )
    return tensors


def restore_optimizer(
    optimizer: Optimizer,
    named_parameters: Iterable[tuple[str, Tensor]],
    saved: Mapping[str, Tensor],
) -> None:
    """Give an optimizer the state from :func:`optimizer_tensors`, and keep its hyper-parameters.

    Parameters without saved state start afresh, as those that never had a gradient do.

    Raises:
        CheckpointError: an entry belongs to no parameter or does not fit its shape; the
            optimizer is then unchanged.
    """
    parameters = dict(named_parameters)
    states: dict[str, dict[str, Any]] = {}
    for entry, tensor in saved.items():
        match = _ENTRY.fullmatch(entry)
        if match is None or match[3] not in parameters:
            raise CheckpointError(f"optimizer state {entry!r} belongs to no parameter.")
        kind, key, name = match.groups()
        if not _may_belong(kind, tensor, parameters[name]):
            raise CheckpointError(
                f"optimizer state {entry!r} is {_describe(tensor)}; "
                f"its parameter is {_describe(parameters[name])}."
            )
        # A copy: the optimizer updates its state in place.
        value = tensor.item() if kind == "scalar" else tensor.clone()
        states.setdefault(name, {})[key] = value
    names = {parameter: name for name, parameter in parameters.items()}
    content = optimizer.state_dict()
    content["state"] = {
        index: states[names[parameter]]
        for group, described in zip(optimizer.param_groups, content["param_groups"], strict=True)
        for parameter, index in zip(group["params"], described["params"], strict=True)
        if names[parameter] in states
    }
    optimizer.load_state_dict(content)


def _may_belong(kind: str, state: Tensor, parameter: Tensor) -> bool:
    if state.dim() == 0:
        return True
    # Factored optimizers (Adafactor) keep one row and one column instead of the whole shape.
    return (
        kind == "tensor"
        and state.dim() == parameter.dim()
        and all(n in (1, full) for n, full in zip(state.shape, parameter.shape, strict=True))
    )


def _describe(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _first(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES_SHOWN
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
