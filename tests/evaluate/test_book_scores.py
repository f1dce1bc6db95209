"""Scores along a book are those of the library on the same rows."""

import pytest

from regard._errors import ArgumentError, DataError
from regard.evaluate import score_book

sacrebleu = pytest.importorskip("sacrebleu.metrics", reason="needs sacrebleu: pip install 'regard[translation]'")

WORDS = ["el", "sol", "ve", "la", "luna", "vieja", "y", "canta", "el", "mar"]
REFERENCES = [" ".join(WORDS[: 2 + number % 8]) for number in range(57)]
TEXTS = [text if number % 3 else text.replace("sol", "mar") + " x" for number, text in enumerate(REFERENCES)]
SOURCES = ["w " * (1 + number % 50) for number in range(57)]


@pytest.fixture(scope="module")
def scores():
    return score_book(SOURCES, TEXTS, REFERENCES)


def chrf(rows):
    return sacrebleu.CHRF().corpus_score([TEXTS[row] for row in rows], [[REFERENCES[row] for row in rows]]).score


def test_the_whole_and_each_part_are_scored_as_the_library_scores_them(scores):
    assert scores["whole"]["chrf"]["value"] == pytest.approx(chrf(range(57)))
    for part in scores["by_position"]:
        rows = range(part["first"], part["last"] + 1)
        assert part["chrf"]["value"] == pytest.approx(chrf(rows))
        assert part["chrf"]["low"] <= part["chrf"]["value"] <= part["chrf"]["high"]
    for part in scores["by_length"]:
        rows = [row for row, text in enumerate(SOURCES) if part["first"] <= len(text.split()) <= part["last"]]
        assert (part["num_rows"], part["chrf"]["value"]) == (len(rows), pytest.approx(chrf(rows)))


def test_the_parts_hold_every_row_once(scores):
    ends = [(part["first"], part["last"]) for part in scores["by_position"]]

    assert len(ends) == 10
    assert [row for first, last in ends for row in range(first, last + 1)] == list(range(57))
    assert sum(part["num_rows"] for part in scores["by_length"]) == 57


def test_a_short_book_has_as_many_parts_as_rows():
    assert [part["num_rows"] for part in score_book(SOURCES[:3], TEXTS[:3], REFERENCES[:3])["by_position"]] == [1, 1, 1]


def test_stretches_of_alike_rows_widen_the_interval():
    texts = [text if row // 60 % 2 else "x y z w" for row, text in enumerate(REFERENCES * 8)]
    alike = score_book(SOURCES * 8, texts, REFERENCES * 8)["whole"]["chrf"]
    order = [row for start in range(60) for row in range(start, len(texts), 60)]
    mixed = score_book(
        [(SOURCES * 8)[row] for row in order], [texts[row] for row in order], [(REFERENCES * 8)[row] for row in order]
    )["whole"]["chrf"]

    assert alike["value"] == pytest.approx(mixed["value"])
    assert alike["high"] - alike["low"] > 1.5 * (mixed["high"] - mixed["low"])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ArgumentError, match="got 1 and 2 for 2"):
        score_book(["a", "b"], ["a"], ["a", "b"])
    with pytest.raises(DataError, match="at least one row"):
        score_book([], [], [])
