"""What the checks of the contract share: who is held to it, in which layouts, and how closely."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seqmlm_kernels.dispatch import Backend, BackendUnavailableError

TOLERANCES: Mapping[torch.dtype, float] = {
    torch.float64: 1e-10,
    torch.float32: 2e-5,
    torch.float16: 6e-3,
    torch.bfloat16: 4e-2,
}
"""Largest error, as a share of the largest expected number, or of 1 where that is smaller."""

Layout = Literal["contiguous", "slice of a wider tensor", "every other number", "transposed"]
LAYOUTS: tuple[Layout, ...] = ("slice of a wider tensor", "every other number", "transposed")
Results = dict[str, Tensor]
"""What a call gave, gradients included, by names that messages use."""

# What a backend may raise by mistake. Whatever else is raised is no verdict on the backend.
_MISTAKES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Subject:
    """A backend, and where and in what it computes."""

    backend: Backend
    device: torch.device
    dtype: torch.dtype

    @property
    def accumulator(self) -> torch.dtype:
        """The dtype of losses, normalisers and log-probabilities."""
        return torch.promote_types(self.dtype, torch.float32)

    def normal(self, *shape: int, seed: int) -> Tensor:
        """Random numbers that the dtype can hold, in fp64."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator).to(self.dtype).double().to(self.device)

    def integers(self, values: Sequence[int], *, dtype: torch.dtype = torch.int32) -> Tensor:
        """[n] on the device."""
        return torch.tensor(values, dtype=dtype, device=self.device)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Inside, a broken promise and a mistake are AssertionErrors that begin with ``what``."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{what}: {error}") from error
    except BackendUnavailableError:
        raise
    except _MISTAKES as error:
        raise AssertionError(f"{what}: raised {type(error).__name__}: {error}") from error


def laid_out(x: Tensor, layout: Layout) -> Tensor:
    """The same numbers elsewhere in memory, NaN or -1 around them; differentiable."""
    if layout == "contiguous":
        return x
    gap = torch.full_like(x.detach(), torch.nan if x.is_floating_point() else -1)
    if layout == "every other number":
        return torch.stack((x, gap), dim=-1)[..., 0]
    if layout == "transposed" and x.ndim > 1:
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    # Heads of a token, or units of a row: as queries are a part of what one projection gives.
    dim = min(1, x.ndim - 1)
    return torch.cat((gap, x, gap), dim=dim).narrow(dim, x.shape[dim], x.shape[dim])


def operands_of(
    exact: Mapping[str, Tensor],
    dtype: torch.dtype,
    *,
    layout: Layout = "contiguous",
    differentiated: Sequence[str] = (),
) -> tuple[Results, Results]:
    """Leaves in ``dtype``, and what is made of them in a layout, by name."""
    leaves = {
        name: x.to(dtype, copy=True).requires_grad_(name in differentiated)
        for name, x in exact.items()
    }
    return leaves, {name: laid_out(leaf, layout) for name, leaf in leaves.items()}


def gradients_of(
    outputs: Sequence[Tensor], leaves: Results, above: Sequence[Tensor], layout: Layout
) -> Results:
    """Gradients of the leaves that want one, named after them."""
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    for output in outputs:
        assert output.requires_grad == bool(wanted), (
            f"a result has {'no' if wanted else 'a'} gradient where {list(wanted)} want one"
        )
    if not wanted:
        return {}
    upstream = [
        laid_out(gradient.to(output.dtype), layout).expand_as(output)
        for output, gradient in zip(outputs, above, strict=True)
    ]
    found = torch.autograd.grad(outputs, list(wanted.values()), upstream)
    return {f"gradient of {name}": x for name, x in zip(wanted, found, strict=True)}


def assert_kind(name: str, found: Tensor, shape: Sequence[int], dtype: torch.dtype) -> None:
    """The shape and the dtype are as promised."""
    assert tuple(found.shape) == tuple(shape), (
        f"{name} has shape {list(found.shape)}; it must be {list(shape)}"
    )
    assert found.dtype == dtype, f"{name} is {found.dtype}; it must be {dtype}"


def assert_unchanged(given: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> None:
    """Operands are after a call what they were before."""
    for name, x in given.items():
        assert same_bits(x.detach(), exact[name].to(x.dtype)), f"{name} was written to"


def assert_all_close(found: Results, expected: Results, dtype: torch.dtype) -> None:
    """Results are those of the reference, infinite in the same places."""
    assert found.keys() == expected.keys(), f"gave {list(found)}, not {list(expected)}"
    for name, wanted in expected.items():
        one = found[name]
        assert one.shape == wanted.shape, (
            f"{name} has shape {list(one.shape)}; it must be {list(wanted.shape)}"
        )
        infinite = wanted.isinf()
        same = torch.equal(one.double()[infinite], wanted.double()[infinite])
        assert same, f"{name} must be infinite exactly where the reference is"
        if bool(infinite.all()):
            continue
        largest = max(1.0, float(wanted[~infinite].abs().max()))
        error = float((one.double() - wanted.double())[~infinite].abs().max()) / largest
        assert error <= TOLERANCES[dtype], (  # NaN is not
            f"{name} is off by {error:.3g} of its largest number; {TOLERANCES[dtype]:g} is allowed"
        )


def assert_repeated(
    first: Results, second: Results, why: str, *, where: Tensor | None = None
) -> None:
    """Two runs gave the same bits, in the rows ``where`` or in all."""
    for name, x in first.items():
        one, other = (x, second[name]) if where is None else (x[where], second[name][where])
        assert same_bits(one, other), f"{name} has other bits {why}"


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal numbers, NaN being equal to NaN."""
    if one.is_floating_point():
        return bool(((one == other) | (one.isnan() & other.isnan())).all())
    return torch.equal(one, other)
