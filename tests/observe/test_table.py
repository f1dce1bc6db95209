"""Rows stay plain: they filter, print, and become data frames."""

import io
import json
import sys

import pytest
from rich.console import Console

from regard._errors import ArgumentError, MissingDependencyError
from regard.observe.table import Table

ROWS = [
    {"layer": f"encoder.{layer}", "statistic": statistic, "head": head, "mean": layer + head / 10, "num_rows": 4}
    for layer in range(3)
    for statistic in ("entropy", "distance")
    for head in range(4)
]


def lines(table: Table) -> list[list[str]]:
    return [line.split() for line in str(table).splitlines()]


def test_a_table_is_the_list_of_its_rows() -> None:
    table = Table(ROWS)
    assert table == ROWS
    assert table[5] is ROWS[5]
    assert json.loads(json.dumps(table)) == ROWS
    assert json.loads(table.json()) == ROWS
    assert table.columns == ["layer", "statistic", "head", "mean", "num_rows"]


def test_numbers_that_json_lacks_become_null() -> None:
    assert json.loads(Table([{"mean": float("nan"), "maximum": float("inf"), "layer": None}]).json()) == [
        {"mean": None, "maximum": None, "layer": None}
    ]


def test_conditions_are_met_together() -> None:
    table = Table(ROWS)
    assert table.where() == ROWS
    assert len(table.where(statistic="entropy")) == 12
    assert len(table.where(layer="encoder.*", head=[0, 3])) == 12
    assert len(table.where(layer=["*.0", "*.2"], statistic=["entropy", "distance"])) == 16
    found = table.where(layer="*.1", statistic="distance", head=2)
    assert isinstance(found, Table)
    assert found == [
        row for row in ROWS if (row["layer"], row["statistic"], row["head"]) == ("encoder.1", "distance", 2)
    ]
    assert Table([*ROWS, {**ROWS[0], "layer": "other", "head": 9}]).where(layer="other", head=1) == []
    assert Table([]).where(layer="anything") == []


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ({"layer": "decoder.*"}, r"layer must be one of \['encoder.0', .*got 'decoder.\*'"),
        ({"statistic": ["entropy", "entrpy"]}, r"statistic must be one of \['entropy', 'distance'\], got 'entrpy'"),
        ({"head": 4}, r"head must be one of \[0, 1, 2, 3\], got 4"),
    ],
)
def test_a_condition_that_nothing_can_meet_is_refused(condition: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Table(ROWS).where(**condition)


def test_a_condition_on_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"Rows with the column 'head' are needed, got the columns \['step'\]"):
        Table([{"step": 1}]).where(head=0)


def test_one_statistic_is_printed_as_a_grid_of_layers_and_heads() -> None:
    found = lines(Table(ROWS).where(statistic="entropy"))
    assert found[0] == ["entropy:", "mean"]
    assert found[1] == ["layer", "0", "1", "2", "3"]
    assert found[3] == ["encoder.1", "1.000", "1.100", "1.200", "1.300"]
    assert len(found) == 5


def test_a_grid_leaves_places_without_a_row_empty() -> None:
    found = lines(Table([{"layer": "a", "head": 0, "mean": 1e-9}, {"layer": "b", "head": 1, "mean": float("nan")}]))
    assert found == [["mean"], ["layer", "0", "1"], ["a", "1e-09"], ["b", "nan"]]


def test_other_rows_are_listed_and_the_rest_counted() -> None:
    found = lines(Table(ROWS))
    assert found[0] == ["layer", "statistic", "head", "mean", "num_rows"]
    assert found[1] == ["encoder.0", "entropy", "0", "0.000", "4"]
    assert len(found) == 22
    assert " ".join(found[-1]) == "and 4 more rows; where(statistic=...) makes a grid"
    assert lines(Table([{"step": 1, "kernel": "flash"}])) == [["step", "kernel"], ["1", "flash"]]


def test_rows_of_several_steps_are_no_grid() -> None:
    twice = Table([{**row, "step": step} for row in ROWS[:4] for step in (1, 2)])
    assert lines(twice)[0] == ["layer", "statistic", "head", "mean", "num_rows", "step"]


def test_text_of_a_wide_table_is_not_cut() -> None:
    wide = Table([{"layer": "x" * 150, "head": head, "mean": 1.0} for head in range(64)])
    assert lines(wide)[2] == ["x" * 150, *["1.000"] * 64]


def test_no_rows_say_so() -> None:
    assert str(Table([])) == "no rows"
    assert repr(Table([])) == "Table(0 rows: )"


def test_a_terminal_shows_the_grid_in_colour() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, color_system="standard", width=100)
    console.print(Table(ROWS).where(statistic="entropy"))
    assert "\x1b[31m2.300" in written.getvalue()  # the largest in red
    assert "\x1b[34m0.000" in written.getvalue()  # the smallest in blue


def test_markup_in_names_is_printed_as_it_is() -> None:
    assert lines(Table([{"kernel": "[bold]x[/bold]"}])) == [["kernel"], ["[bold]x[/bold]"]]


def test_pandas_gets_every_row() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = Table(ROWS).df()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("records") == ROWS
    assert Table([]).df().empty


def test_polars_gets_every_row() -> None:
    polars = pytest.importorskip("polars", reason="needs Polars")
    frame = Table([*ROWS, {"layer": "odd", "mean": 1}]).pl()
    assert isinstance(frame, polars.DataFrame)
    assert frame.head(len(ROWS)).to_dicts() == ROWS
    assert frame.tail(1).to_dicts() == [
        {"layer": "odd", "statistic": None, "head": None, "mean": 1.0, "num_rows": None}
    ]
    assert Table([]).pl().is_empty()


@pytest.mark.parametrize(("package", "method"), [("pandas", "df"), ("polars", "pl")])
def test_a_package_that_is_not_installed_is_named(package: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"Table.{method} needs {package}.*pip install {package}"):
        getattr(Table(ROWS), method)()
