"""The templates of a book's pages, which share their looks with the report."""

from pathlib import Path
from typing import Any

from regard._errors import MissingDependencyError

__all__ = ["environment"]

_OWN = Path(__file__).parent / "templates"
_SHARED = Path(__file__).parent.parent / "report" / "templates"


def environment() -> Any:
    """Return the environment that renders the templates.

    Raises:
        MissingDependencyError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError("A page needs Jinja2, got none; pip install 'regard[train]'.") from error
    return Environment(
        loader=FileSystemLoader([_OWN, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
