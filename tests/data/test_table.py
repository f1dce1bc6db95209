import bz2
import csv
import gzip
import json
import lzma

import duckdb
import pytest

from regard._errors import ArgumentError, DataError
from regard.data import load_table

TEXTS = ["a cat", "two\nlines, and a comma", 'says "no"', "", "caf\u00e9 \u732b"]
LABELS = ["pet", "other", "pet", "other", "pet"]


def write_csv(path, *, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "topic", "body"])
        writer.writerows([number, label, text] for number, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)))


def write_jsonl(path):
    lines = [json.dumps({"body": text, "topic": label}) for text, label in zip(TEXTS, LABELS, strict=True)]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")


def write_parquet(path, select="*"):
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE rows (body VARCHAR, topic VARCHAR)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", list(zip(TEXTS, LABELS, strict=True)))
        connection.execute(f"COPY (SELECT {select} FROM rows) TO '{path}' (FORMAT parquet)")


def load(path, **options):
    return load_table(path, text="body", label="topic", **options)


@pytest.mark.parametrize(
    ("name", "write", "rows", "unit"),
    [
        ("a.csv", write_csv, [2, 3, 5, 6, 7], "line"),
        ("a.tsv", lambda path: write_csv(path, delimiter="\t"), [2, 3, 5, 6, 7], "line"),
        ("a.jsonl", write_jsonl, [1, 2, 3, 4, 5], "line"),
        ("a.parquet", write_parquet, [1, 2, 3, 4, 5], "row"),
    ],
)
def test_every_format_gives_the_same_documents_and_true_row_numbers(tmp_path, name, write, rows, unit):
    write(tmp_path / name)

    documents = load(tmp_path / name)

    assert documents.texts == TEXTS
    assert documents.labels == LABELS
    assert (documents.rows, documents.unit) == (rows, unit)
    assert documents.name == name
    assert documents.files == (str(tmp_path / name),)


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_compressed_file_is_read_through(tmp_path, suffix, compress):
    write_csv(tmp_path / "a.csv")
    (tmp_path / f"a.csv{suffix}").write_bytes(compress((tmp_path / "a.csv").read_bytes()))

    assert load(tmp_path / f"a.csv{suffix}").texts == TEXTS


def test_byte_order_mark_is_not_part_of_the_first_column(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfbody,topic\na,x\n")

    assert load(tmp_path / "a.csv").texts == ["a"]


def test_text_longer_than_the_csv_module_allows_by_default_is_read(tmp_path):
    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text(f"body,topic\n{'w' * (limit + 1)},x\n", encoding="utf-8")

    assert len(load(tmp_path / "a.csv").texts[0]) == limit + 1
    assert csv.field_size_limit() == limit


def test_format_can_be_said(tmp_path):
    write_jsonl(tmp_path / "a.txt")

    assert load(tmp_path / "a.txt", file_format="jsonl").labels == LABELS


def test_numbers_and_booleans_become_class_names(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "a", "topic": 1}\n{"body": null, "topic": true}\n', encoding="utf-8")

    documents = load(tmp_path / "a.jsonl")

    assert documents.labels == ["1", "True"]
    assert documents.texts == ["a", ""]


def test_parquet_name_with_wildcards_means_itself(tmp_path):
    write_parquet(tmp_path / "a.parquet", select="body, 'wrong' AS topic")
    write_parquet(tmp_path / "[ab]*.parquet")

    assert load(tmp_path / "[ab]*.parquet").labels == LABELS


def test_plain_quotes_are_read_when_said(tmp_path):
    (tmp_path / "a.tsv").write_text('topic\tbody\nham\t"Hello\nspam\tand "more"\n', encoding="utf-8")

    assert load(tmp_path / "a.tsv", quotes=False).texts == ['"Hello', 'and "more"']


BAD_TEXT_FILES = {
    "unknown column": (
        "a.csv",
        b"Body,topic\na,x\n",
        r"column 'body', got the columns 'Body', 'topic'; did you mean 'Body'",
    ),
    "column named twice": ("a.csv", b"body,body,topic\na,b,x\n", "one column 'body', got 2"),
    "too few fields": (
        "a.csv",
        b"body,topic\na,x\nb\n",
        "a.csv line 3 must have 2 fields as the first line has, got 1",
    ),
    "too many fields": ("a.csv", b'body,topic\n"two\nlines",x\nb,y,z\n', "a.csv line 4 must have 2 fields .* got 3"),
    "unclosed quote": ("a.csv", b'body,topic\na,x\n"b,x\n', "a.csv line 3 must be a whole row, .*quotes=False"),
    "text after a quote": ("a.tsv", b'body\ttopic\n"b" c\tx\n', "a.tsv line 2 must be a whole row, .*quotes=False"),
    "quote over rows": (
        "a.tsv",
        b'topic\tbody\nx\t"b\ny\tc"\n',
        "a.tsv line 2 begins a double quote that runs over tabs",
    ),
    "no label": ("a.csv", b"body,topic\na,x\nb,\n", "none in column 'topic' at .*a.csv line 3; add it or drop"),
    "not UTF-8": ("a.csv", b"body,topic\na,x\ncaf\xe9,x\n", "must be UTF-8 text, got other bytes in line 3"),
    "no line": ("a.csv", b"", "must begin with a line of column names, got an empty file"),
    "no row": ("a.csv", b"body,topic\n", "at least one row, got none in .*a.csv"),
    "broken JSON": (
        "a.jsonl",
        b'{"body": "a", "topic": "x"}\n{"body"\n',
        "a.jsonl line 2 must be a JSON object, got: Expect",
    ),
    "JSON list": ("a.jsonl", b'["a", "x"]\n', "a.jsonl line 1 must be a JSON object, got list"),
    "key absent": (
        "a.jsonl",
        b'{"body": "a", "Topic": "x"}\n',
        "line 1 must have the key 'topic', .* did you mean 'Topic'",
    ),
    "text absent": ("a.jsonl", b'{"topic": "x"}\n', "line 1 must have the key 'body', got the keys 'topic'"),
    "null label": ("a.jsonl", b'{"body": "a", "topic": null}\n', "none in column 'topic' at .*a.jsonl line 1"),
    "NaN label": ("a.jsonl", b'{"body": "a", "topic": NaN}\n', "none in column 'topic' at .*a.jsonl line 1"),
    "list of labels": ("a.jsonl", b'{"body": "a", "topic": ["x"]}\n', "one class name or number per row, got list at"),
    "number as text": ("a.jsonl", b'{"body": 5, "topic": "x"}\n', "Column 'body' must hold text, got int at .* line 1"),
    "not Parquet": ("a.parquet", b"body,topic\na,x\n", "must be a Parquet file, got one that cannot be read"),
    "not gzip": ("a.csv.gz", b"body,topic\na,x\n", "must be a whole compressed file, got a damaged one"),
    "cut gzip": ("a.csv.gz", gzip.compress(b"body,topic\n" + b"a,x\n" * 99)[:-12], "must be a whole compressed file"),
    "cut xz": ("a.csv.xz", lzma.compress(b"body,topic\n" + b"a,x\n" * 99)[:-30], "must be a whole compressed file"),
    "other suffix": ("a.xlsx", b"", r"must end in .csv, .*\.parquet.*, got 'a.xlsx'; convert it"),
    "no suffix": ("a.gz", b"", r"must end in .csv, .*, got 'a.gz'"),
}


@pytest.mark.parametrize("case", BAD_TEXT_FILES)
def test_bad_file_is_one_clear_sentence(tmp_path, case):
    name, content, message = BAD_TEXT_FILES[case]
    (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError, match=message):
        load(tmp_path / name)


def test_unknown_parquet_column_lists_the_columns(tmp_path):
    write_parquet(tmp_path / "a.parquet", select="body AS Body, topic")

    with pytest.raises(DataError, match="column 'body', got the columns 'Body', 'topic'; did you mean 'Body'"):
        load(tmp_path / "a.parquet")


def test_parquet_row_without_label_is_named(tmp_path):
    write_parquet(tmp_path / "a.parquet", select="body, nullif(topic, 'other') AS topic")

    with pytest.raises(DataError, match=r"none in column 'topic' at .*a.parquet row 2"):
        load(tmp_path / "a.parquet")


def test_missing_file_suggests_the_nearest(tmp_path):
    write_csv(tmp_path / "reviews.csv")

    with pytest.raises(DataError, match=r"got no file at .*review.csv; did you mean 'reviews.csv'"):
        load(tmp_path / "review.csv")


def test_missing_file_with_nothing_alike_asks_to_check(tmp_path):
    with pytest.raises(DataError, match=r"got no file at .*; check the path"):
        load(tmp_path / "review.csv")


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="whose folder does not exist"):
        load(tmp_path / "nowhere" / "review.csv")


def test_folder_is_not_a_file(tmp_path):
    (tmp_path / "a.csv").mkdir()

    with pytest.raises(DataError, match="which is not a file"):
        load(tmp_path / "a.csv")


def test_unknown_format_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"file_format must be one of 'csv', .*, got 'json'; did you mean 'jsonl'"):
        load(tmp_path / "a.csv", file_format="json")


def test_real_reviews_with_quotes_and_commas_are_read_whole(shared_data):
    documents = load_table(shared_data / "text/imdb5k_movie_review.csv.gz", text="review", label="sentiment")

    assert documents.label_counts().keys() == {"0", "1"}
    assert min(len(text) for text in documents.texts) > 30
