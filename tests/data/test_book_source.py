"""A book is read in segments that leave nothing out and fit the model."""

import gzip
import json

import pytest

from regard._errors import ArgumentError, DataError
from regard.data import BookColumns, book_digest, is_plain_text, read_book

TEXT = (
    "\ufeffA Tale\r\n\r\nIt was late. The old man, who had come\r\nfar, sat down; nobody spoke.\r\n\r\n\r\n"
    "“Why?” she asked… Und dann 猫。犬\uff01 " + "x" * 70 + "\r\nThe end"
)


def of_words(most):
    return lambda text: len(text.split()) <= most


def of_characters(most):
    return lambda text: len(text) <= most


@pytest.fixture
def novel(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_bytes(TEXT.encode())
    return path


@pytest.mark.parametrize("fits", [of_words(1000), of_words(4), of_characters(9), of_characters(1)])
def test_every_character_of_a_plain_text_is_in_exactly_one_segment(novel, fits):
    text = TEXT.removeprefix("\ufeff")
    segments = list(read_book(novel, None, fits=fits))

    assert "".join(text[one.start : one.end] for one in segments) == text
    assert [one.start for one in segments[1:]] == [one.end for one in segments[:-1]]
    assert all(one.text == " ".join(text[one.start : one.end].split()) for one in segments)
    assert all(fits(one.text) for one in segments)


def test_sentences_of_a_plain_text_know_their_paragraph(novel):
    found = [(one.row, one.text) for one in read_book(novel, None, fits=of_words(1000))]

    assert found[:4] == [
        (1, "A Tale"),
        (2, "It was late."),
        (2, "The old man, who had come far, sat down; nobody spoke."),
        (3, "“Why?” she asked…"),
    ]


def test_what_is_too_long_is_divided_at_the_best_place(novel):
    pieces = [one for one in read_book(novel, None, fits=of_words(9)) if one.row == 2][1:]

    assert [one.text for one in pieces] == ["The old man, who had come far, sat down;", "nobody spoke."]
    assert [(one.piece, one.pieces) for one in pieces] == [(1, 2), (2, 2)]


def table(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


COLUMNS = BookColumns(source="en", target="es", document="ref", pattern=r"(.+) \d+:\d+")
ROWS = [
    {"ref": "Ruth 1:1", "en": "one two three four five", "es": "uno dos"},
    {"ref": "Ruth 1:2", "en": " ", "es": "nada"},
    {"ref": "Job 1:1", "en": "six", "es": ""},
]


def test_cells_of_a_table_are_segments_with_their_references(tmp_path):
    found = list(read_book(table(tmp_path / "a.jsonl", ROWS), COLUMNS, fits=of_words(3)))

    assert [(one.document, one.label, one.row, one.piece, one.pieces) for one in found] == [
        ("Ruth", "Ruth 1:1", 1, 1, 2),
        ("Ruth", "Ruth 1:1", 1, 2, 2),
        ("Job", "Job 1:1", 3, 1, 1),
    ]
    assert [one.reference for one in found] == ["uno dos", None, None]
    assert "".join(ROWS[0]["en"][one.start : one.end] for one in found[:2]) == ROWS[0]["en"]


def test_documents_can_be_chosen(tmp_path):
    path = table(tmp_path / "a.jsonl", ROWS)

    assert [one.text for one in read_book(path, COLUMNS, fits=of_words(9), documents=["Job"])] == ["six"]
    with pytest.raises(DataError, match=r"must be one of a\.jsonl, got 'Jobb'; did you mean 'Job'"):
        list(read_book(path, COLUMNS, fits=of_words(9), documents=["Jobb"]))


def test_a_table_without_documents_is_one(tmp_path):
    found = list(read_book(table(tmp_path / "a.jsonl", ROWS), BookColumns(source="en"), fits=of_words(9)))

    assert [(one.document, one.label, one.reference) for one in found] == [
        ("a.jsonl", "line 1", None),
        ("a.jsonl", "line 3", None),
    ]


def test_compressed_plain_text_is_read_through(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"One. Two."))

    assert is_plain_text(path)
    assert [one.text for one in read_book(path, None, fits=of_words(9))] == ["One.", "Two."]
    assert book_digest(path) != book_digest(table(tmp_path / "b.jsonl", ROWS))


def test_wrong_files_are_refused(tmp_path):
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n\n")
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9")
    for path, columns, kind, message in [
        (tmp_path / "none.txt", None, DataError, "got no file at"),
        (blank, None, DataError, "hold a text to translate"),
        (latin, None, DataError, "must be UTF-8 text, got other bytes in line 1"),
        (blank, COLUMNS, ArgumentError, "plain text has none, got blank.txt with columns"),
        (tmp_path / "a.jsonl", None, ArgumentError, "A table needs the columns"),
    ]:
        with pytest.raises(kind, match=message):
            list(read_book(path, columns, fits=of_words(9)))
    with pytest.raises(ArgumentError, match="needs the column of the documents"):
        list(read_book(table(tmp_path / "a.jsonl", ROWS), BookColumns(source="en", pattern="(.)"), fits=of_words(9)))
    with pytest.raises(ArgumentError, match=r"is one document, got latin\.txt and documents"):
        list(read_book(latin, None, fits=of_words(9), documents=["x"]))
