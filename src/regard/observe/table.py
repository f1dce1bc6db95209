"""Plain rows that a person can filter, print and turn into a data frame."""

import fnmatch
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import orjson
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from regard._errors import ArgumentError, MissingDependencyError

__all__ = ["Table", "grid", "plain_text"]

_MAX_ROWS = 20
_WIDTH = 10_000  # of plain text, which nothing cuts
_SHADES = ("blue", "cyan", "green", "yellow", "red")
_DIGITS = 3


class Table(list[dict[str, Any]]):
    """Rows of plain values, one dictionary each; a list that also filters, prints and converts itself.

    Printed, rows of one statistic become a grid of layers and heads, coloured from the smallest value to the largest on
    a terminal; other rows are listed, the first 20 of them. Values are numbers, texts, booleans or None.

    Example:
        >>> table = Table([{"layer": "block.0", "statistic": "entropy", "head": head, "mean": 0.5} for head in (0, 1)])
        >>> print(table.where(layer="block.*"))
        entropy: mean
        layer     0     1
        block.0  0.500  0.500
        >>> table.where(head=1)
        Table(1 row: layer, statistic, head, mean)
    """

    @property
    def columns(self) -> list[str]:
        """Names of the columns in order of appearance."""
        return list(dict.fromkeys(name for row in self for name in row))

    def where(
        self,
        *,
        layer: str | Iterable[str] | None = None,
        statistic: str | Iterable[str] | None = None,
        head: int | Iterable[int] | None = None,
    ) -> "Table":
        """Return the rows that meet every given condition.

        Args:
            layer: pattern of dotted names, or several of which one must fit; ``*`` matches anything.
            statistic: name, or several.
            head: index, or several.

        Raises:
            ArgumentError: the rows have no such column, or a layer, statistic or head that is named occurs nowhere.
        """
        found = self
        for name, wanted in (("layer", layer), ("statistic", statistic), ("head", head)):
            if wanted is not None:
                found = Table(found._of(name, [wanted] if isinstance(wanted, str | int) else list(wanted), self))
        return found

    def df(self) -> Any:
        """Return a ``pandas.DataFrame``.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return _frames("pandas", "df").DataFrame.from_records(list(self), columns=self.columns)

    def pl(self) -> Any:
        """Return a ``polars.DataFrame``.

        Raises:
            MissingDependencyError: Polars is not installed.
        """
        rows = {name: [row.get(name) for row in self] for name in self.columns}
        return _frames("polars", "pl").DataFrame(rows, strict=False)

    def json(self) -> str:
        """Return a JSON array of objects; numbers that are not finite become null, which JSON has no other word for."""
        return orjson.dumps(list(self)).decode()

    def __repr__(self) -> str:
        return f"Table({len(self)} row{'' if len(self) == 1 else 's'}: {', '.join(self.columns)})"

    def __str__(self) -> str:
        return plain_text(self)

    def __rich__(self) -> RenderableType:
        if not self:
            return Text("no rows")
        value = self._grid_value()
        return self._list() if value is None else self._grid(value)

    def _of(self, name: str, wanted: Sequence[str | int], everything: "Table") -> list[dict[str, Any]]:
        if self and name not in self.columns:
            raise ArgumentError(f"Rows with the column {name!r} are needed, got the columns {self.columns}.")

        def fits(row: Mapping[str, Any], one: str | int) -> bool:
            there = row.get(name)
            return fnmatch.fnmatchcase(str(there), str(one)) if name == "layer" else there == one

        known = list(dict.fromkeys(row.get(name) for row in everything))
        for one in wanted:
            if everything and not any(fits(row, one) for row in everything):
                raise ArgumentError(f"{name} must be one of {known}, got {one!r}.")
        return [row for row in self if any(fits(row, one) for one in wanted)]

    def _grid_value(self) -> str | None:
        """Return the column that a grid of layers and heads shows, None where the rows make no such grid."""
        columns = self.columns
        value = next((name for name in ("mean", "score", "weight") if name in columns), None)
        if value is None or not {"layer", "head"} <= set(columns):
            return None
        if len({row.get("statistic") for row in self}) != 1:
            return None
        places = {(row["layer"], row["head"]) for row in self}
        return value if len(places) == len(self) else None

    def _grid(self, value: str) -> RenderableType:
        title = f"{self[0]['statistic']}: {value}" if "statistic" in self[0] else value
        cells = {(row["layer"], row["head"]): row[value] for row in self}
        return Group(Text(title, style="bold"), grid(cells))

    def _list(self) -> RenderableType:
        shown = _empty_table()
        for name in self.columns:
            numeric = all(isinstance(row.get(name), int | float) for row in self)
            shown.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
        for row in self[:_MAX_ROWS]:
            shown.add_row(*(Text(_cell(row.get(name))) for name in self.columns))
        more = len(self) - _MAX_ROWS
        if more <= 0:
            return shown
        hint = "; where(statistic=...) makes a grid" if {"statistic", "layer", "head"} <= set(self.columns) else ""
        return Group(shown, Text(f"and {more} more rows{hint}", style="dim"))


def grid(cells: Mapping[tuple[str, int], float], *, show: Callable[[float | None], str] | None = None) -> RichTable:
    """Return a drawing of (layer, head) -> value, coloured from the smallest to the largest value.

    Args:
        cells: the values; places without one stay empty.
        show: from a value, or None for no value, to its text; three digits by default.
    """
    show = show or _cell
    layers = list(dict.fromkeys(layer for layer, _ in cells))
    heads = sorted({head for _, head in cells})
    known = [value for value in cells.values() if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    shown = _empty_table()
    shown.add_column("layer", no_wrap=True)
    for head in heads:
        shown.add_column(str(head), justify="right", no_wrap=True)
    for layer in layers:
        values = [cells.get((layer, head)) for head in heads]
        shown.add_row(Text(layer), *(Text(show(value), style=_shade(value, low, high)) for value in values))
    return shown


def plain_text(drawing: Any) -> str:
    """Return what rich draws, without colours and without spaces at the ends of lines."""
    written = io.StringIO()
    Console(file=written, width=_WIDTH, color_system=None, force_terminal=False, legacy_windows=False).print(drawing)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


def _empty_table() -> RichTable:
    return RichTable(box=None, pad_edge=False, padding=(0, 1), header_style="bold")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.{_DIGITS}f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.{_DIGITS}g}"
    return "" if value is None else str(value)


def _shade(value: float | None, low: float, high: float) -> str:
    if value is None or not math.isfinite(value) or high <= low:
        return ""
    return _SHADES[min(len(_SHADES) - 1, int((value - low) / (high - low) * len(_SHADES)))]


def _frames(package: str, method: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingDependencyError(
            f"Table.{method} needs {package}, which is not installed; pip install {package}."
        ) from error
