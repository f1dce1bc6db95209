"""SVG as escaped text: elements, a drawing with a title, and what a person sees of a chart besides the drawing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from regard.viewer.report.numbers import Number

__all__ = ["Figure", "Key", "Raw", "drawing", "element", "short"]


class Raw(str):
    """Markup that is escaped already; templates put it out as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        """Tell Jinja that nothing is left to escape."""
        return self


@dataclass(frozen=True, kw_only=True)
class Key:
    """One entry of a legend: what it names and the CSS class that colours it."""

    name: str
    style: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its title, legend and note."""

    title: str
    svg: Raw
    legend: Sequence[Key] = field(default_factory=tuple)
    note: str = ""
    wide: bool = False


def short(value: Number) -> str:
    """Return a coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def element(tag: str, *children: str, **attributes: str | Number | None) -> Raw:
    """Return ``<tag …>children</tag>``; text children and attribute values are escaped, ``Raw`` children are not.

    Args:
        tag: name of the element.
        *children: text, or markup made by this function.
        **attributes: ``class_`` for class and ``stroke_width`` for stroke-width; None leaves one out.
    """
    told = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value if isinstance(value, str) else short(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    body = "".join(child if isinstance(child, Raw) else escape(child) for child in children)
    return Raw(f"<{tag}{told}>{body}</{tag}>") if body else Raw(f"<{tag}{told}/>")


def drawing(*children: Raw, width: Number, height: Number, title: str, description: str = "", style: str = "") -> Raw:
    """Return an SVG that scales with the page and that a screen reader calls by ``title`` and ``description``."""
    label = f"{title}. {description}" if description else title
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {short(width)} {short(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
        class_=style or None,
    )
