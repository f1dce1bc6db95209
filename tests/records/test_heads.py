"""Head statistics are appended whole, merged at the end, and readable at every moment in between."""

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from regard import RegardError
from regard.records import HEAD_COLUMNS, HeadTable


def rows(*steps: int) -> dict[str, Any]:
    number = len(steps)
    columns: dict[str, Any] = {name: np.zeros(number, dtype=np.float32) for name in HEAD_COLUMNS}
    columns["step"] = np.array(steps, dtype=np.int32)
    columns["layer"] = ["layer.0"] * number
    columns["statistic"] = ["entropy"] * number
    columns["mean"] = np.array(steps, dtype=np.float32) / 10
    columns["se"] = np.full(number, np.nan, dtype=np.float32)
    return columns


@pytest.fixture
def table(tmp_path: Path) -> HeadTable:
    return HeadTable(tmp_path)


def steps(table: HeadTable) -> list[int]:
    found: list[int] = table.query("SELECT step FROM heads ORDER BY step")["step"].tolist()
    return found


def test_parts_can_be_read_before_the_end_and_the_whole_after(table: HeadTable, tmp_path: Path) -> None:
    table.append(rows(1, 2))
    table.append(rows(3))
    assert steps(table) == [1, 2, 3]
    table.finish()
    assert steps(table) == [1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["heads.parquet"]


def test_missing_numbers_come_back_as_nan(table: HeadTable) -> None:
    table.append(rows(1))
    found = table.query("SELECT mean, se FROM heads")
    assert found["mean"].tolist() == pytest.approx([0.1])
    assert np.isnan(found["se"]).all()


def test_truncating_cuts_inside_a_part(table: HeadTable) -> None:
    table.append(rows(1, 2, 3))
    table.append(rows(4, 5))
    table.truncate(2)
    assert steps(table) == [1, 2]
    table.append(rows(3))
    assert steps(table) == [1, 2, 3]


def test_parts_are_read_in_any_number(table: HeadTable) -> None:
    for step in range(1, 13):
        table.append(rows(step))
    table.truncate(6)
    for step in range(7, 10):
        table.append(rows(step))
    table.finish()
    assert steps(table) == list(range(1, 10))


def test_a_table_without_rows_says_so(table: HeadTable) -> None:
    assert not table.exists
    with pytest.raises(RegardError, match="A run with head statistics is needed"):
        table.query("SELECT 1 FROM heads")


def test_a_finished_table_goes_on_after_truncation(table: HeadTable, tmp_path: Path) -> None:
    table.append(rows(1, 2, 3))
    table.finish()
    table.truncate(2)
    table.append(rows(3, 4))
    assert steps(table) == [1, 2, 3, 4]
    table.finish()
    assert steps(table) == [1, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["heads.parquet"]


def test_a_wrong_query_is_named(table: HeadTable) -> None:
    table.append(rows(1))
    with pytest.raises(RegardError, match="could not be queried"):
        table.query("SELECT entropy FROM heads")


def test_a_damaged_file_is_named(table: HeadTable, tmp_path: Path) -> None:
    (tmp_path / "heads.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(RegardError, match="could not be queried"):
        table.query("SELECT step FROM heads")


def test_wrong_columns_are_refused(table: HeadTable) -> None:
    columns = rows(1)
    del columns["mean"]
    with pytest.raises(RegardError, match=r"exactly the columns of HEAD_COLUMNS, got a difference in \['mean'\]"):
        table.append(columns)
    columns = rows(1)
    columns["mean"] = np.zeros(2)
    with pytest.raises(RegardError, match="must have one length"):
        table.append(columns)


def test_columns_of_sequences_may_be_left_out(table: HeadTable) -> None:
    table.append({name: column for name, column in rows(1).items() if not name.startswith("sequence_")})
    table.append(rows(2) | {"sequence_share": np.array([0.5])})
    found = table.query("SELECT sequence_share FROM heads ORDER BY step")
    assert np.isnan(found["sequence_share"][0])
    assert found["sequence_share"][1] == 0.5


def test_files_from_before_a_column_was_added_still_open(table: HeadTable, tmp_path: Path) -> None:
    older = ", ".join(
        f"CAST({'0' if kind != 'VARCHAR' else repr('old')} AS {kind}) AS {name}"
        for name, kind in HEAD_COLUMNS.items()
        if not name.startswith("sequence_")
    )
    (tmp_path / "heads").mkdir()
    part = tmp_path / "heads" / "part-000000-000000000-000000000.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {older}) TO '{part}' (FORMAT parquet)")
    assert np.isnan(table.query("SELECT sequence_std FROM heads")["sequence_std"]).all()
    table.append(rows(1))
    assert steps(table) == [0, 1]
    table.finish()
    assert table.query("SELECT layer, sequence_std FROM heads ORDER BY step")["layer"].tolist() == ["old", "layer.0"]


def test_the_columns_have_the_contract_types(table: HeadTable) -> None:
    table.append(rows(1))
    found = table.query("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM heads)")
    assert dict(zip(found["column_name"], found["column_type"], strict=True)) == HEAD_COLUMNS
