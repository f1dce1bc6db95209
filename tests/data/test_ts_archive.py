"""A ``.ts`` file is read as its header says, and refused, with its line, where it says something else."""

import gzip

import numpy as np
import pytest

from regard._errors import ArgumentError, DataError
from regard.data import load_ts

VOWELS = """\
# two channels, unequal lengths
@problemName Vowels
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true ann bob

@data
1,2,3:-1,-2,-3:ann
0.5,1e2:7,8:bob
"""
RATES = (
    "@problemname r\n@univariate true\n@equallength true\n@serieslength 2\n@targetlabel true\n@data\n1,2:0.25\n3,4:-1\n"
)


@pytest.fixture
def write(tmp_path):
    def written(text, name="some.ts"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return written


def test_channels_become_columns_and_lines_are_known(write):
    found = load_ts(write(VOWELS), target="class")

    np.testing.assert_array_equal(found.frames[0], [[1, -1], [2, -2], [3, -3]])
    np.testing.assert_array_equal(found.frames[1], [[0.5, 7], [100, 8]])
    assert (found.labels, found.lengths, found.rows) == (("ann", "bob"), [3, 2], (11, 12))
    assert found.channels == ("channel 1", "channel 2")
    assert found.where(1) == "some.ts line 12"


def test_numbers_stand_last(write):
    found = load_ts(write(RATES), target="number")

    assert found.numbers.tolist() == [0.25, -1.0]
    assert found.labels is None
    assert found.frames[1].tolist() == [[3], [4]]


def test_a_file_is_read_through_compression(tmp_path):
    path = tmp_path / "some.ts.gz"
    path.write_bytes(gzip.compress(VOWELS.encode()))
    assert len(load_ts(path, target="class")) == 2


@pytest.mark.parametrize(
    "text", [VOWELS, VOWELS.replace("true ann bob", "false").replace(":ann", "").replace(":bob", "")]
)
def test_to_be_asked_a_file_needs_no_target_and_shows_none(write, text):
    found = load_ts(write(text))

    assert (found.labels, found.numbers, found.lengths) == (None, None, [3, 2])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-2,-3", "-2,?", r"Frame 3 of channel 2 at .*some.ts line 11 must be a finite number, got '\?'"),
        ("-2,-3", "-2,NaN", "Frame 3 of channel 2 at .* got 'NaN'"),
        (":-1,-2,-3:", ":-1,-2:", r"must have the same frames, got \[2, 3\] at .*line 11"),
        (":7,8:bob", ":bob", "must have 2 channels, got 1 at .*line 12"),
        (":bob", ":eve", r"one of those of @classLabel, 'ann', 'bob', got 'eve' at .*line 12"),
        (":bob", ":", "must have a class behind its last colon, got none at .*line 12"),
        ("@timeStamps false", "@timeStamps true", "got @timestamps true at .*line 3"),
        ("@missing false", "@missing maybe", "must say true or false, got 'maybe' at .*line 4"),
        ("@dimensions 2", "@dimensions two", "@dimensions must be a whole number of at least 1, got 'two' at .*line 6"),
        ("@dimensions 2", "@seriesLength 3", "must have 3 frames, as @seriesLength says, got 2 at .*line 12"),
        ("@dimensions 2", "@colour red", "A tag must be one of .* got @colour at .*line 6"),
        ("@data\n", "", "must end with @data, got '1,2,3:-1,-2,-3:ann' before it at .*line 10"),
        ("@classLabel true ann bob", "@targetLabel true", "hold the class .* got a number: .* model.target=number"),
        ("@classLabel true ann bob", "@classLabel false", "got neither: add @classLabel or @targetLabel"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused_with_its_line(write, old, new, message):
    assert old in VOWELS
    with pytest.raises(DataError, match=message):
        load_ts(write(VOWELS.replace(old, new)), target="class")


def test_without_a_tag_the_first_line_says_how_many_channels(write):
    text = VOWELS.replace("@dimensions 2\n", "").replace(":7,8:bob", ":bob")
    with pytest.raises(DataError, match=r"must have 2 channels, as that of line 10 has, got 1 at .*line 11"):
        load_ts(write(text), target="class")


def test_empty_and_missing_files_are_refused(write, tmp_path):
    with pytest.raises(DataError, match="got no line after @data"):
        load_ts(write(VOWELS.partition("1,2,3")[0]), target="class")
    with pytest.raises(DataError, match="must have a line @data"):
        load_ts(write("# nothing\n"))
    with pytest.raises(DataError, match="got no file at"):
        load_ts(tmp_path / "none.ts")
    with pytest.raises(ArgumentError, match="target must be one of class, number or None, got 'colour'"):
        load_ts(write(VOWELS), target="colour")
    with pytest.raises(DataError, match=r"number of a sequence at .*line 7 must be a finite number, got 'many'"):
        load_ts(write(RATES.replace("0.25", "many")), target="number")
