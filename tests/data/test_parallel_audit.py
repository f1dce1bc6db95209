import json

import pytest

from regard._errors import ArgumentError
from regard.data import ParallelTexts, audit_parallel


def pairs(source, target, name="made"):
    return ParallelTexts(source=source, target=target, name=name, rows=list(range(1, len(source) + 1)))


LONG = "one two three four five six seven eight nine ten"
TRAIN = pairs(
    ["a small dog", "A  small dog", "two cats sleep", LONG, "same text", "x", "blank"],
    ["ein kleiner Hund", "ein Hund", "zwei Katzen schlafen", "eins " * 10, "same text", "viele Wörter " * 4, " "],
)
TEST = pairs(
    ["Two cats sleep", "a small DOG", f"{LONG} eleven", "something new here"],
    ["zwei Katzen schlafen", "der Hund", "eins " * 11, "etwas Neues hier"],
)


@pytest.fixture(scope="module")
def found():
    return audit_parallel({"train": TRAIN, "test": TEST})


def test_it_fits_into_json(found):
    assert json.loads(json.dumps(found)) == found


def test_rows_are_counted(found):
    train = found["splits"]["train"]

    assert (train["num_rows"], train["num_empty"], train["num_repeated"], train["num_copied"]) == (7, 1, 1, 1)
    assert (train["length"]["max"], train["target_length"]["max"]) == (10, 10)


def test_pairs_of_unusual_length_are_found_and_half_empty_ones_are_not_among_them(found):
    assert found["splits"]["train"]["ratio"]["num_unusual"] == 1
    assert found["splits"]["train"]["ratio"]["examples"] == ["made line 6"]


def test_sources_in_two_splits_are_leaks_with_or_without_their_target(found):
    (exact,), (near,) = found["leaks"]["exact"], found["leaks"]["near"]

    assert (exact["count"], exact["num_same_target"], exact["share_of_test"]) == (2, 1, 0.5)
    assert near["count"] == 1  # ten of the eleven words


def test_sources_with_several_translations_are_counted(found):
    assert found["ambiguous"]["count"] == 1


def test_four_lines_sum_it_up_and_warnings_tell_what_is_wrong(found):
    names = [line.partition(":")[0] for line in found["summary"]]

    assert names == ["Pairs", "Length", "Ratio", "Leaks (word for word + nearly)"]
    warnings = "\n".join(found["warnings"])
    for expected in (
        "Of 7 pairs of train, 1 have an empty side",
        "3-fold off the usual length, first made line 6",
        "have the source as target",
        "Of 4 sources of test, 2 are in train word for word",
        "Of 4 sources of test, 1 are in train nearly",
    ):
        assert expected in warnings


def test_lengths_in_tokens_tell_what_is_cut():
    lengths = {"train": ([3, 3, 3, 20, 3, 3, 3], [3, 3, 3, 25, 3, 12, 1])}
    found = audit_parallel({"train": TRAIN}, lengths=lengths, max_len=10)

    assert found["splits"]["train"]["truncated_share"] == pytest.approx(2 / 7)
    assert found["splits"]["train"]["length"]["unit"] == "tokens"
    assert any("longer than 10 tokens and loses its end" in warning for warning in found["warnings"])
    assert "there is one split only" in found["summary"][3]


def test_clean_data_has_no_warning():
    clean = pairs(["a dog runs", "the cat sleeps"], ["ein Hund rennt", "die Katze schläft"])

    assert audit_parallel({"train": clean, "test": pairs(["it rains"], ["es regnet"])})["warnings"] == []


@pytest.mark.parametrize(
    ("splits", "options", "message"),
    [
        ({}, {}, "at least one split, got none"),
        ({"train": TRAIN}, {"max_len": 10}, "needs lengths, got max_len=10 alone"),
        ({"train": TRAIN}, {"lengths": {"train": ([3], [3])}}, r"got \[1, 1\] of 7"),
        ({"train": TRAIN}, {"lengths": {}}, r"got \[\] of 7"),
    ],
)
def test_what_does_not_fit_is_refused(splits, options, message):
    with pytest.raises(ArgumentError, match=message):
        audit_parallel(splits, **options)
