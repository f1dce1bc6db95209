"""A long table gives each sequence its frames in their order, one target and one group."""

import duckdb
import numpy as np
import pytest

from regard._errors import ArgumentError, DataError
from regard.data import load_frame_table

ROWS = ["who,take,t,x,y,word,part"] + [
    f"{who},{who}{take},{t},{t * 10 + take},{-t},{'open' if take else 'shut'},{'test' if who == 'cleo' else 'train'}"
    for t in range(3)  # frames of all takes are mixed
    for who in ("ada", "ben", "cleo")
    for take in range(2)
]
COLUMNS = {"sequence": "take", "time": "t", "label": "word", "group": "who", "split": "part"}


@pytest.fixture
def write(tmp_path):
    def written(lines, name="frames.csv"):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / name

    return written


def test_frames_are_gathered_by_sequence(write):
    found = load_frame_table(write(ROWS), target="class", **COLUMNS)

    assert found.channels == ("x", "y")
    assert found.names == ("ada0", "ada1", "ben0", "ben1", "cleo0", "cleo1")
    np.testing.assert_array_equal(found.frames[1], [[1, 0], [11, -1], [21, -2]])
    assert found.labels == ("shut", "open") * 3
    assert found.groups == ("ada", "ada", "ben", "ben", "cleo", "cleo")
    assert found.splits == ("train",) * 4 + ("test",) * 2
    assert found.where(2) == "frames.csv line 4"


def test_numbers_tabs_and_chosen_channels(write):
    lines = [line.replace("open", "1.5").replace("shut", "-2").replace(",", "\t") for line in ROWS]
    found = load_frame_table(write(lines, "frames.tsv"), target="number", channels=["y"], **COLUMNS)

    assert found.numbers.tolist() == [-2, 1.5] * 3
    assert found.frames[0].tolist() == [[0], [-1], [-2]]


def test_parquet_gives_what_csv_gives(write, tmp_path):
    csv, parquet = write(ROWS), tmp_path / "frames.parquet"
    duckdb.sql(f"COPY (SELECT * FROM read_csv('{csv}')) TO '{parquet}' (FORMAT parquet)")

    one, other = (load_frame_table(path, target="class", **COLUMNS) for path in (csv, parquet))

    assert one.digests() == other.digests()
    assert (one.labels, one.groups, other.unit) == (other.labels, other.groups, "row")


def test_to_be_asked_a_table_needs_no_targets(write):
    lines = [",".join(line.split(",")[1:5]) for line in ROWS]
    found = load_frame_table(write(lines), sequence="take", time="t")

    assert (found.labels, found.groups, found.channels) == (None, None, ("x", "y"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ben,ben1,2,21", "ben,ben1,2,", "'x' must hold a finite number in each row, got '' at .*frames.csv line 17"),
        ("ben,ben1,2,21", "ben,ben1,1,21", "in the order of time, got one of 'ben1' at .*line 17"),
        ("ben,ben1,2,", "ben,ben1,then,", "'t' must hold times, .* got 'then' at .*line 17"),
        ("21,-2,open", "21,-2,maybe", "must have one label, got 'maybe' for 'ada1' at .*line 15 and 'open' before it"),
        ("ben,ben1,2", "bob,ben1,2", "must have one group, got 'bob' for 'ben1' at .*line 17"),
    ],
)
def test_what_cannot_be_is_refused_with_its_row(write, old, new, message):
    assert any(old in line for line in ROWS)
    with pytest.raises(DataError, match=message):
        load_frame_table(write([line.replace(old, new, 1) for line in ROWS]), target="class", **COLUMNS)


def test_wrong_columns_are_refused(write):
    path = write(ROWS)
    with pytest.raises(DataError, match=r"must have a column 'takes'.*did you mean 'take'"):
        load_frame_table(path, sequence="takes", target="class", label="word", channels=["x"])
    with pytest.raises(DataError, match="one or more channels beside 'take', each once"):
        load_frame_table(path, sequence="take", channels=["take"])
    with pytest.raises(ArgumentError, match="with label naming its column, got 'class' and None"):
        load_frame_table(path, sequence="take", target="class")
    with pytest.raises(DataError, match="one of train, validation, test, got 'tset'"):
        load_frame_table(write([line.replace("test", "tset") for line in ROWS]), target="class", **COLUMNS)
    with pytest.raises(DataError, match="'who' must hold a finite number"):
        load_frame_table(path, sequence="take", time="t")
