"""What the kernel tests share: the backends held against the reference, and how close they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

# Largest error against the reference in fp64 on the same rounded inputs, as a share of the largest
# expected number, or of 1. A gradient sums over rows, hence its own, wider column.
TOLERANCES = {
    torch.float64: {"value": 1e-11, "gradient": 1e-10},
    torch.float32: {"value": 5e-6, "gradient": 2e-5},
    torch.float16: {"value": 3e-3, "gradient": 6e-3},
    torch.bfloat16: {"value": 2e-2, "gradient": 4e-2},
}

AssertClose = Callable[..., None]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are tiny: handing them to several threads takes longer than the arithmetic."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
        finite = expected[expected.isfinite()].double()
        largest = float(finite.abs().max()) if finite.numel() else 0.0
        torch.testing.assert_close(
            actual.double(),
            expected.double(),
            rtol=0.0,
            atol=TOLERANCES[dtype][kind] * max(1.0, largest),
        )

    return compare
