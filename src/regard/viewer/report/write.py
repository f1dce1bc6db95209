"""Write ``report.html``."""

from pathlib import Path
from typing import Any

from regard._errors import MissingDependencyError
from regard.records import Run, write_bytes
from regard.viewer.report import sections

__all__ = ["render", "write_report"]

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(run: Run) -> Path:
    """Write the report of ``run`` into its folder, atomically, and return its path.

    The page is one file: no network, no script, inline style and SVG; light and dark follow the reader's system, and it
    prints. What the run has not recorded is said in its place.

    Raises:
        RecordError: a file of the run is damaged.
        MissingDependencyError: Jinja2 is not installed.
    """
    path = run.folder / "report.html"
    write_bytes(path, render(run).encode())
    return path


def render(run: Run) -> str:
    """Return the page as text."""
    content: dict[str, Any] = {
        "headline": sections.headline(run),
        "data": sections.data(run),
        "training": sections.training(run),
        "attention": sections.attention(run),
        "evaluation": sections.evaluation(run),
        "checks": sections.checks(run),
        "diagnosis": sections.diagnosis(run),
        "readiness": sections.readiness(run),
        "reproduce": sections.reproduce(run),
    }
    page: str = _environment().get_template("report.html.j2").render(**content)
    return page


def _environment() -> Any:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError("The report needs Jinja2, got none; pip install 'regard[train]'.") from error
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
