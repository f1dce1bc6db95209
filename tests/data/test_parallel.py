import gzip

import pytest

from regard._errors import ArgumentError, DataError
from regard.data import (
    ParallelTexts,
    drop_unpaired,
    load_parallel_lines,
    load_parallel_table,
    load_scan,
    split_parallel,
)


def pairs(source, target=None, **changes):
    target = [f"{text} !" for text in source] if target is None else target
    rows = list(range(1, len(source) + 1))
    return ParallelTexts(**{"source": source, "target": target, "name": "made", "rows": rows, **changes})


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_lines_of_two_files_are_pairs(tmp_path):
    english = write(tmp_path / "a.en", "A dog.\r\nTwo\u2028cats.\n\n")
    with gzip.open(tmp_path / "a.de.gz", "wt", encoding="utf-8", newline="") as file:
        file.write("Ein Hund.\nZwei Katzen.\nUnd")

    found = load_parallel_lines(english, tmp_path / "a.de.gz")

    assert found.source == ["A dog.", "Two\u2028cats.", ""]
    assert found.target == ["Ein Hund.", "Zwei Katzen.", "Und"]
    assert (found.where(1), found.files) == ("a.en line 2", (str(english), str(tmp_path / "a.de.gz")))


def test_files_of_unlike_length_are_refused(tmp_path):
    english, german = write(tmp_path / "en", "a\nb\n"), write(tmp_path / "de", "a\nb\nc\n")

    with pytest.raises(DataError, match="got 2 and 3; a line that is left out shifts all behind it"):
        load_parallel_lines(english, german)


def test_bad_files_are_named(tmp_path):
    good = write(tmp_path / "en", "a\n")

    with pytest.raises(DataError, match=r"no file at .*de"):
        load_parallel_lines(good, tmp_path / "de")
    with pytest.raises(DataError, match="other bytes in line 1"):
        load_parallel_lines(good, write(tmp_path / "latin", "fünf\n", "latin-1"))
    with pytest.raises(DataError, match="must hold a line, got an empty file"):
        load_parallel_lines(good, write(tmp_path / "empty", ""))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "en\tde\nA dog.\tEin Hund.\nTwo.\tZwei.\n"),
        ("a.csv", 'de,en\nEin Hund.,A dog.\nZwei.,"Two."\n'),
        ("a.jsonl", '{"en": "A dog.", "de": "Ein Hund."}\n{"de": "Zwei.", "en": "Two."}\n'),
    ],
)
def test_two_columns_of_a_table_are_pairs(tmp_path, name, content):
    found = load_parallel_table(write(tmp_path / name, content), source="en", target="de")

    assert (found.source, found.target) == (["A dog.", "Two."], ["Ein Hund.", "Zwei."])
    assert found.where(1) == f"{name} line {2 if name == 'a.jsonl' else 3}"


def test_columns_of_a_table_without_a_header_have_numbers(tmp_path):
    path = write(tmp_path / "a.tsv", "A dog.\tdog ( x )\tin\nTwo.\ttwo ( x )\tin\n")

    found = load_parallel_table(path, source="1", target="2", header=False)

    assert (found.source, found.target, found.rows) == (["A dog.", "Two."], ["dog ( x )", "two ( x )"], [1, 2])
    with pytest.raises(DataError, match="must have a column 'en', got the columns '1', '2', '3'"):
        load_parallel_table(path, source="en", target="2", header=False)


def test_a_number_is_no_text(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"en": "A dog.", "de": 3}\n')

    with pytest.raises(DataError, match=r"Column 'de' must hold text, got int at .*a\.jsonl line 1"):
        load_parallel_table(path, source="en", target="de")


def test_scan_is_read(tmp_path):
    path = write(tmp_path / "tasks.txt", "IN: jump twice OUT: I_JUMP I_JUMP\nIN: run OUT: I_RUN\n")

    found = load_scan(path)

    assert (found.source, found.target) == (["jump twice", "run"], ["I_JUMP I_JUMP", "I_RUN"])
    with pytest.raises(DataError, match=r"line 2 must read IN: … OUT: …"):
        load_scan(write(tmp_path / "other.txt", "IN: run OUT: I_RUN\nrun\tI_RUN\n"))


def test_half_empty_pairs_are_dropped_and_named():
    kept, dropped = drop_unpaired(pairs(["a", " ", "c", "d"], ["A", "B", "", "D"]))

    assert (kept.source, kept.target, kept.rows) == (["a", "d"], ["A", "D"], [1, 4])
    assert dropped == ["made line 2", "made line 3"]
    with pytest.raises(DataError, match="got none in made"):
        drop_unpaired(pairs(["", "b"], ["A", ""]))


def test_equal_sources_stay_on_one_side_of_a_split():
    given = pairs([f"text {number % 40}" for number in range(120)])

    train, held = split_parallel(given, share=0.25, seed=1)

    assert not {text.casefold() for text in train.source} & set(held.source)
    assert len(held) == 30
    assert sorted(train.rows + held.rows) == given.rows
    assert split_parallel(given, share=0.25, seed=1)[1].rows == held.rows
    assert split_parallel(given, share=0.25, seed=2)[1].rows != held.rows


def test_both_sides_of_a_split_have_a_pair():
    train, held = split_parallel(pairs(["a", "b"]), share=0.99, seed=0)

    assert (len(train), len(held)) == (1, 1)
    with pytest.raises(DataError, match="two different sources or more, got 1"):
        split_parallel(pairs(["a", " A"]), share=0.5, seed=0)
    with pytest.raises(ArgumentError, match="share must lie between 0 and 1"):
        split_parallel(pairs(["a", "b"]), share=1.0, seed=0)


def test_sides_of_unlike_length_are_refused():
    with pytest.raises(ArgumentError, match="must have one length, got 2, 1 and 2"):
        pairs(["a", "b"], ["A"])
    with pytest.raises(DataError, match="at least one pair, got none in made"):
        pairs([])
