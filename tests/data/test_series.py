import gzip

import numpy as np
import pytest

from regard._errors import ArgumentError, DataError
from regard.data import load_series, split_series

ROWS = ["date,load,oil,fold"] + [
    f"2020-01-01 {hour:02d}:00:00,{hour},{hour * 0.5 - 3},{fold}"
    for hour, fold in enumerate(["train"] * 6 + ["validation"] * 2 + ["test"] * 2)
]


@pytest.fixture
def write(tmp_path):
    def written(lines, name="series.csv"):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / name

    return written


def test_reads_times_and_channels(write):
    series = load_series(write(ROWS), columns=["load", "oil"])

    assert series.names == ("load", "oil")
    np.testing.assert_array_equal(series.values[:, 0], np.arange(10))
    np.testing.assert_array_equal(series.values[:, 1], np.arange(10) * 0.5 - 3)
    assert (series.step, series.num_irregular, series.lines[0]) == (3600.0, 0, 2)
    assert series.times[0] == 1577836800.0  # 2020-01-01 00:00 UTC


def test_all_columns_but_time_and_split_are_channels(write):
    assert load_series(write(ROWS), split="fold").names == ("load", "oil")


def test_reads_through_compression_and_tabs(write, tmp_path):
    path = tmp_path / "series.tsv.gz"
    path.write_bytes(gzip.compress("\n".join(ROWS).replace(",", "\t").encode()))

    series = load_series(path, columns=["load"])

    np.testing.assert_array_equal(series.values, load_series(write(ROWS), columns=["load"]).values)


def test_times_may_be_numbers_and_any_column(write):
    series = load_series(write(["x,t", "5,10", "6,20", "7,40"]), time="t")

    assert series.times.tolist() == [10.0, 20.0, 40.0]
    assert (series.step, series.num_irregular) == (15.0, 2)


def test_gaps_are_counted(write):
    series = load_series(write([*ROWS[:4], *ROWS[6:]]), columns=["load"])

    assert (series.step, series.num_irregular) == (3600.0, 1)


def test_zones_of_dates_count(write):
    series = load_series(write(["t,x", "2020-01-01T02:00+02:00,1", "2020-01-01T01:00+00:00,2"]))

    assert np.diff(series.times).tolist() == [3600.0]


def test_shuffled_rows_are_refused(write):
    with pytest.raises(DataError, match=r"order of time, got '2020-01-01 02:00:00' at .* line 5, an earlier time than"):
        load_series(write([*ROWS[:3], ROWS[4], ROWS[3], *ROWS[5:]]), columns=["load"])


def test_repeated_time_is_refused(write):
    with pytest.raises(DataError, match="line 4, the same time as"):
        load_series(write([*ROWS[:3], ROWS[2], *ROWS[3:]]), columns=["load"])


@pytest.mark.parametrize("cell", ["", "nan", "inf", "n/a"])
def test_value_that_is_no_finite_number_is_refused(write, cell):
    with pytest.raises(DataError, match=rf"'load' must hold a finite number in each row, got '{cell}' at .* line 3"):
        load_series(write([*ROWS[:2], f"2020-01-01 01:00:00,{cell},0,train", *ROWS[3:]]), columns=["load"])


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["t,x", "soon,1"], {}, "must hold times, as 2016-07-01 00:00 or as numbers, got 'soon'"),
        (["t,x", "1,1,1"], {}, "line 2 must have 2 fields as the first line has, got 3"),
        (["t,x", "1,1"], {"columns": ["y"]}, "must have one column 'y', got the columns 't', 'x'"),
        (["t,x,x", "1,1,2"], {}, "must have one column 'x', got two columns of this name"),
        (["t,x", "1,1"], {"columns": ["t"]}, "needs one or more channels beside 't'"),
        (["t,x"], {}, "must hold a line of column names and rows below it"),
        (["t,x,fold", "1,1,dev"], {"split": "fold"}, "A split must be one of train, validation, test, got 'dev'"),
    ],
)
def test_broken_tables_are_refused(write, lines, options, message):
    with pytest.raises(DataError, match=message):
        load_series(write(lines), **options)


def test_missing_file_and_unknown_kind_are_refused(write, tmp_path):
    write(ROWS)
    with pytest.raises(DataError, match=r"did you mean 'series\.csv'"):
        load_series(tmp_path / "serie.csv")
    with pytest.raises(DataError, match=r"read from \.csv"):
        load_series(write(ROWS, "series.xlsx"))


def test_splits_follow_one_another_in_time(write):
    series = load_series(write(ROWS), columns=["load"])

    assert split_series(series, validation_share=0.2, test_share=0.3) == {
        "train": range(5), "validation": range(5, 7), "test": range(7, 10)
    }  # fmt: skip
    assert split_series(series, sizes=(4, 2, 1)) == {
        "train": range(4), "validation": range(4, 6), "test": range(6, 7)
    }  # fmt: skip


def test_split_of_the_file_is_taken_where_it_is_one_of_time(write):
    assert split_series(load_series(write(ROWS), split="fold")) == {
        "train": range(6), "validation": range(6, 8), "test": range(8, 10)
    }  # fmt: skip


def test_shuffled_time_split_is_refused(write):
    folds = ["train", "test", "train", "validation", "train", "test", "train", "validation", "train", "train"]
    lines = [ROWS[0], *(row.rsplit(",", 1)[0] + f",{fold}" for row, fold in zip(ROWS[1:], folds, strict=True))]

    with pytest.raises(DataError, match=r"must be split by time.*got train at line 4 after test at line 3"):
        split_series(load_series(write(lines), split="fold"))


def test_split_without_rows_is_refused(write):
    lines = [row.replace("validation", "train") for row in ROWS]

    with pytest.raises(DataError, match="Each split must have rows, got none of 'validation'"):
        split_series(load_series(write(lines), split="fold"))


@pytest.mark.parametrize("sizes", [(8, 2, 1), (9, 1, 0), (5, 5)])
def test_sizes_that_do_not_fit_are_refused(write, sizes):
    with pytest.raises(ArgumentError, match="three sizes of at least 1 that fit into 10 rows"):
        split_series(load_series(write(ROWS), columns=["load"]), sizes=sizes)


def test_shares_that_leave_nothing_are_refused(write):
    with pytest.raises(ArgumentError, match="leave rows for all three splits"):
        split_series(load_series(write(ROWS), columns=["load"]), validation_share=0.5, test_share=0.5)


def test_etth1_is_read_as_published(shared_data):
    series = load_series(shared_data / "timeseries" / "ETTh1.csv.gz")

    assert series.values.shape == (17420, 7)
    assert (series.step, series.num_irregular, series.names[-1]) == (3600.0, 0, "OT")
