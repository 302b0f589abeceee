"""What the kernel tests share: the backends held against the reference, and how close they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

# (relative, absolute) error against the reference in fp64 on the same rounded inputs. A gradient
# sums over rows, hence its own, wider column.
TOLERANCES = {
    torch.float64: {"value": (1e-10, 1e-10), "gradient": (1e-9, 1e-9)},
    torch.float32: {"value": (1e-5, 2e-6), "gradient": (1e-4, 1e-5)},
    torch.bfloat16: {"value": (2e-2, 2e-2), "gradient": (4e-2, 4e-2)},
}

AssertClose = Callable[..., None]


@pytest.fixture(scope="session", params=["torch"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that must agree with the reference."""
    return str(request.param)


@pytest.fixture(scope="session", params=["reference", "torch"])
def any_backend(request: pytest.FixtureRequest) -> str:
    """Every backend, for values known from first principles."""
    return str(request.param)


@pytest.fixture(scope="session")
def assert_close() -> AssertClose:
    """Compare with the fp64 reference by the table of tolerances, NaN being an error."""

    def compare(actual: Tensor, expected: Tensor, kind: str, dtype: torch.dtype) -> None:
        relative, absolute = TOLERANCES[dtype][kind]
        torch.testing.assert_close(actual.double(), expected.double(), rtol=relative, atol=absolute)

    return compare
