"""How the checks of :mod:`seqmlm.testing` say what is wrong with a part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from seqmlm.errors import SeqmlmError

FOREIGN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    SeqmlmError,
    TypeError,
    ValueError,
)
"""What broken code raises by itself."""


@contextmanager
def reported(name: str, promise: str) -> Iterator[None]:
    """Say of whatever goes wrong of which part it is, and which of its promises is broken.

    Raises:
        AssertionError: in the place of an assertion, or of what the code of the part raised.
    """
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{name}: {promise}: {error}") from error
    except FOREIGN as error:
        raise AssertionError(
            f"{name}: {promise}: raised {type(error).__name__}: {error}"
        ) from error
