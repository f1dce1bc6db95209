"""The folder of a book: whole blocks or none, and any part of it read alone."""

import duckdb
import numpy as np
import pytest

from regard._errors import RecordError
from regard.records import ALIGNMENT_COLUMNS, Book, BookSegment

INFO = {"source_sha256": "a" * 64, "model_sha256": "b" * 64, "settings": {"block": 4, "layer": 1}}


def segment(number):
    return BookSegment(
        id=number, document="d", row=number + 1, label=f"line {number + 1}", piece=1, pieces=1, start=0, end=1,
        source="s", translation="t", ended=True,
    )  # fmt: skip


def rows(numbers, tokens=3):
    """Alignments of which every number follows from the segment's and the token's."""
    pairs = [(number, token) for number in numbers for token in range(tokens)]
    return {
        "segment": [number for number, _ in pairs],
        "token": [token for _, token in pairs],
        "start": [token for _, token in pairs],
        "stop": [token + 1 for _, token in pairs],
        "sources": [[token, number % 7] for number, token in pairs],
        "backs": [[0, 1] for _ in pairs],
        "starts": [[0, number] for number, _ in pairs],
        "stops": [[1, number + 1] for number, _ in pairs],
        "weights": [[0.5, 0.25] for _ in pairs],
        "covered": [0.75 for _ in pairs],
        "own": [0.5**number for number, _ in pairs],
    }


def written(folder, count, *, tokens=3, finish=True, block=4):
    book = Book.begin(folder, {**INFO, "settings": {"block": block, "layer": 1}})
    for first in range(0, count, block):
        numbers = range(first, min(first + block, count))
        book.append([segment(number) for number in numbers], rows(numbers, tokens))
    if finish:
        book.finish()
    return book


@pytest.mark.parametrize("finish", [True, False])
def test_any_part_reads_back_as_it_was_written(tmp_path, finish):
    book = written(tmp_path / "book", 10, finish=finish)

    assert [one.id for one in book.segments(3, 6)] == [3, 4, 5]
    assert [one.id for one in book.segments()] == list(range(10))
    found = Book.open(tmp_path / "book").alignments(3, 6)
    expected = rows([3, 4, 5])
    assert list(found) == list(ALIGNMENT_COLUMNS)
    for name, column in found.items():
        assert [np.asarray(one).tolist() for one in column] == expected[name]
    assert book.mean_alignment()["covered"] == pytest.approx(0.75)


def test_a_page_reads_few_rows_of_a_long_book(tmp_path):
    written(tmp_path / "book", 400, tokens=90, block=100)
    file = tmp_path / "book" / "alignments.parquet"

    with duckdb.connect() as connection:
        groups = connection.execute(
            f"SELECT stats_min::INT, stats_max::INT FROM parquet_metadata('{file}') WHERE path_in_schema = 'segment'"
        ).fetchall()

    holding = [1 for low, high in groups if low <= 223 and high >= 200]
    assert len(groups) >= 8
    assert len(holding) <= 2


def test_what_a_kill_leaves_of_a_block_is_thrown_away(tmp_path):
    folder = written(tmp_path / "book", 8, finish=False).folder
    with (folder / "segments.jsonl").open("ab") as file:
        file.write(segment(8).model_dump_json().encode() + b'\n{"id": 9, "doc')

    torn = Book.open(folder)
    assert (torn.count(), [one.id for one in torn.segments()]) == (9, list(range(9)))
    book = Book.begin(folder, INFO)

    assert (book.count(), book.finished) == (8, False)
    assert sorted(path.name for path in (folder / "alignments").iterdir()) == [
        "part-000000.parquet",
        "part-000001.parquet",
    ]


def test_a_part_without_its_segments_is_thrown_away(tmp_path):
    folder = written(tmp_path / "book", 8, finish=False).folder
    lines = (folder / "segments.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "segments.jsonl").write_bytes(b"".join(lines[:4]))

    Book.begin(folder, INFO)

    assert [path.name for path in (folder / "alignments").iterdir()] == ["part-000000.parquet"]


def test_a_block_in_which_nothing_was_written_is_kept(tmp_path):
    book = written(tmp_path / "book", 4, tokens=0)

    assert len(book.alignments()["segment"]) == 0
    assert book.mean_alignment() == {"covered": None, "own": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_sha256": "c" * 64}, r"the file that it began with, got one with SHA-256 c{12}… for a{12}…"),
        ({"model_sha256": "c" * 64}, "the model that it began with"),
        ({"settings": {"block": 4, "layer": 0}}, "the settings that it began with, got layer 0 for 1 in"),
    ],
)
def test_another_book_is_not_gone_on_with(tmp_path, change, message):
    written(tmp_path / "book", 4)

    with pytest.raises(RecordError, match=message):
        Book.begin(tmp_path / "book", {**INFO, **change})


def test_damage_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"book\.json is needed, got no file"):
        Book.open(tmp_path)
    book = written(tmp_path / "book", 4)
    (book.folder / "segments.jsonl").write_text('{"id": 0}\n')
    with pytest.raises(RecordError, match="line 1 must hold a segment: document: Field required"):
        list(book.segments())
    (book.folder / "alignments.parquet").write_text("no parquet")
    with pytest.raises(RecordError, match="could not be read"):
        book.alignments()
    (book.folder / "alignments.parquet").unlink()
    with pytest.raises(RecordError, match="got none in"):
        book.alignments()
    (book.folder / "book.json").write_text('{"schema_version": 99}')
    with pytest.raises(RecordError, match="schema version 1, got 99"):
        Book.open(book.folder)
