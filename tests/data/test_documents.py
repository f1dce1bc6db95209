import pytest

from regard import data
from regard._errors import ArgumentError, DataError
from regard.data import Documents, drop_empty, normalized


def test_documents_say_where_they_came_from(make_documents):
    documents = make_documents(["a", "b"], name="mine.csv", first_row=12)

    assert documents.where(1) == "mine.csv row 13"


def test_taken_documents_keep_their_origin(make_documents):
    documents = make_documents(["a", "b", "c"], ["x", "y", "z"]).take([2, 0])

    assert (documents.texts, documents.labels, documents.rows) == (["c", "a"], ["z", "x"], [3, 1])


def test_labels_are_counted_most_frequent_first(make_documents):
    documents = make_documents("abcde", ["z", "b", "a", "z", "z"])

    assert list(documents.label_counts().items()) == [("z", 3), ("a", 1), ("b", 1)]


def test_unequal_lengths_are_refused():
    with pytest.raises(ArgumentError, match="must have one length, got 2, 1 and 1"):
        Documents(texts=["a", "b"], labels=["x"], name="made", rows=[1])


def test_no_document_is_refused(make_documents):
    with pytest.raises(DataError, match="at least one document, got none in made"):
        make_documents([])


def test_blank_label_is_refused_with_its_row(make_documents):
    with pytest.raises(DataError, match="got none at made row 2"):
        make_documents(["a", "b"], ["x", " "])


def test_dropping_empty_texts_lists_each(make_documents):
    kept, dropped = drop_empty(make_documents(["a", "", "b", " \n\t"]))

    assert kept.texts == ["a", "b"]
    assert kept.rows == [1, 3]
    assert dropped == ["made row 2", "made row 4"]


def test_dropping_every_text_is_refused(make_documents):
    with pytest.raises(DataError, match="only empty ones in made"):
        drop_empty(make_documents(["", " "]))


@pytest.mark.parametrize(("one", "other"), [("A  Cat\n", "a cat"), ("\ufb01t", "fit"), ("STRASSE", "stra\u00dfe")])
def test_same_text_in_other_clothes_is_the_same(one, other):
    assert normalized(one) == normalized(other)


def test_other_words_are_another_text():
    assert normalized("a cat.") != normalized("a cat")


def test_unknown_name_of_the_room_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = data.nothing
