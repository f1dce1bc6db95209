import math

import pytest

from regard.viewer.report.numbers import count, duration, number, percent, plural


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.12345, "0.123"),
        (1234.5, "1,234"),
        (-0.5, "−0.5"),
        (0.0001, "1e−4"),
        (2.5e-5, "2.5e−5"),
        (1e9, "1e9"),
        (100.0, "100"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_number_reads_well(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.123, "12.3\u00a0%"), (-0.01, "−1.0\u00a0%"), (None, "–"), (math.nan, "–")]
)
def test_percent_keeps_its_sign_on_the_line(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"), [(12, "12"), (22_713_992, "22.7 million"), (7e9, "7 billion"), (5225.4, "5,225"), (None, "–")]
)
def test_count_reads_well(value, text):
    assert count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (402.6, "6 min 43 s"), (7500, "2 h 05 min"), (None, "–")],
)
def test_duration_reads_well(seconds, text):
    assert duration(seconds) == text


def test_plural_counts():
    assert (plural(1, "item"), plural(2, "item"), plural(0, "item")) == ("1 item", "2 items", "0 items")
