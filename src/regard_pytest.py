"""What pytest loads at its start: the options of `regard.conformance.pytest`, and nothing else.

It stands beside the package so that a test session which does not use regard does not import it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_addoption"]


def pytest_addoption(parser: "pytest.Parser") -> None:
    """Add `--regard-fast`."""
    group = parser.getgroup("regard")
    group.addoption("--regard-fast", action="store_true", help="check attention with fewer and shorter cases")
