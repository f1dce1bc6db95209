"""Columns with one word a line: what is a word, what is none, and what is said of a line that is wrong."""

import gzip

import pytest

from regard._errors import ArgumentError, DataError
from regard.data import TaggedSentences, load_conll, split_tagged

NEWS = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

# IN I-PP O
1 CD I-NP O
"""
TREE = """# sent_id = 1
1\tI\tPRON
2-3\tdon't\t_
2\tdo\tAUX
3\tn't\tPART

1\tNew York\tPROPN
"""


@pytest.fixture
def write(tmp_path):
    def make(text, name="news.conll"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_columns_between_spaces(write):
    found = load_conll(write(NEWS))

    assert found.words == [["EU", "rejects"], ["#", "1"]]
    assert found.tags == [["B-ORG", "O"], ["O", "O"]]
    assert [found.where(index) for index in range(2)] == ["news.conll line 3", "news.conll line 6"]
    assert found.left_out == {"marks of documents": 1}


def test_other_columns_may_be_chosen(write):
    assert load_conll(write(NEWS), tag_column=2).tags[0] == ["NNP", "VBZ"]
    assert load_conll(write(NEWS), word_column=-3, tag_column=-2).words[0] == ["NNP", "VBZ"]


def test_columns_between_tabs_may_hold_spaces_and_comments(write):
    found = load_conll(write(TREE), word_column=2)

    assert found.words == [["I", "don't", "do", "n't"], ["New York"]]
    assert found.left_out == {"comments": 1}


def test_ranges_of_conll_u_are_no_words(write):
    rows = [line.split("\t") for line in TREE.splitlines()]
    wide = "\n".join("\t".join([*row, *"_" * 7]) if len(row) > 1 else row[0] for row in rows)

    found = load_conll(write(wide), word_column=2, tag_column=3)

    assert found.words[0] == ["I", "do", "n't"]
    assert found.left_out == {"comments": 1, "ranges and empty nodes": 1}


def test_windows_line_ends_and_compression_change_nothing(write, tmp_path):
    packed = tmp_path / "news.conll.gz"
    packed.write_bytes(gzip.compress(NEWS.replace("\n", "\r\n").encode()))

    assert load_conll(packed).words == load_conll(write(NEWS)).words


def test_a_line_without_the_column_is_named(write):
    with pytest.raises(DataError, match=r"must have a column -1, got 2 columns in .*news\.conll line 2"):
        load_conll(write("a\tX\nb\t\n"))
    with pytest.raises(DataError, match=r"must have a column 5, got 4 columns in .* line 3"):
        load_conll(write(NEWS), tag_column=5)


def test_columns_that_cannot_be_are_refused(write):
    for columns in ((0, 1), (2, 2)):
        with pytest.raises(ArgumentError, match="two different ones, counted from 1"):
            load_conll(write(NEWS), word_column=columns[0], tag_column=columns[1])


def test_a_file_without_a_sentence_is_refused(write):
    with pytest.raises(DataError, match="must hold a sentence, got none"):
        load_conll(write("-DOCSTART- O\n\n"))


def test_equal_sentences_stay_on_one_side():
    words = [["a", str(number % 7)] for number in range(40)]
    sentences = TaggedSentences(words=words, tags=[["X", "Y"]] * 40, name="n", rows=list(range(1, 41)))

    rest, held = split_tagged(sentences, share=0.3, seed=1)

    assert sorted([*rest.rows, *held.rows]) == sentences.rows
    assert not {tuple(one) for one in rest.words} & {tuple(one) for one in held.words}
    assert 0.2 <= len(held) / 40 <= 0.45


def test_a_sentence_without_a_tag_is_refused():
    with pytest.raises(DataError, match="words and a tag for each, got 2 words and 1 tags at n line 4"):
        TaggedSentences(words=[["a", "b"]], tags=[["X", ""]], name="n", rows=[4])
