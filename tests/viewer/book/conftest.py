"""A small book with links that a person can check."""

from pathlib import Path

import pytest

from regard.records import Book, BookSegment

SEGMENTS = [
    ("A", "the old sea", "la vieja mar", "el viejo mar"),
    ("A", "it sings <b>&</b>", "canta", None),
    ("B", "moon", "luna </script>", "luna"),
]
# Segment, token, its characters, then for each source token: how many segments back, its characters, its weight.
TOKENS = [
    (0, 0, (0, 2), [(0, 0, 3, 0.75), (0, 8, 11, 0.125)]),
    (0, 1, (3, 6), [(0, 4, 7, 0.5), (0, 8, 11, 0.25)]),
    (0, 2, (6, 8), [(0, 4, 7, 0.75), (0, 11, 11, 0.25)]),
    (0, 3, (9, 12), [(0, 8, 11, 1.0), (0, 0, 3, 0.0)]),
    (1, 0, (0, 5), [(1, 8, 11, 0.5), (0, 3, 8, 0.25)]),
    (2, 0, (0, 4), [(0, 0, 4, 1.0), (0, 4, 4, 0.0)]),
]


@pytest.fixture
def book(tmp_path: Path) -> Book:
    book = Book.begin(
        tmp_path / "book",
        {
            "source": {"path": "tale.tsv", "name": "tale.tsv"},
            "source_sha256": "a",
            "model_sha256": "b",
            "settings": {"block": 8, "layer": 1, "top": 2, "context": 1, "beams": 4},
            "seconds": 12.0,
            "peak_bytes": 2**29,
        },
    )
    segments = [
        BookSegment(
            id=number, document=document, row=number + 2, label=f"{document} {number}:1", piece=1, pieces=1, start=0,
            end=len(source), source=source, translation=translation, ended=number != 1, reference=reference,
        )
        for number, (document, source, translation, reference) in enumerate(SEGMENTS)
    ]  # fmt: skip
    rows = {
        "segment": [row[0] for row in TOKENS],
        "token": [row[1] for row in TOKENS],
        "start": [row[2][0] for row in TOKENS],
        "stop": [row[2][1] for row in TOKENS],
        "sources": [[0, 1] for _ in TOKENS],
        "backs": [[link[0] for link in row[3]] for row in TOKENS],
        "starts": [[link[1] for link in row[3]] for row in TOKENS],
        "stops": [[link[2] for link in row[3]] for row in TOKENS],
        "weights": [[link[3] for link in row[3]] for row in TOKENS],
        "covered": [sum(link[3] for link in row[3]) for row in TOKENS],
        "own": [0.5 if row[0] == 1 else 1.0 for row in TOKENS],
    }
    book.append(segments, rows)
    book.update(num_segments=len(segments))
    book.finish()
    return book
