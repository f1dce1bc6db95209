"""Sentences and paragraphs leave no character out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regard.data import paragraphs, sentence_spans


@given(st.text(alphabet="aA .!?…\n\"'”)。Mr\t", max_size=60))
def test_the_sentences_of_a_text_are_the_text(text):
    spans = sentence_spans(text)

    assert "".join(text[start:end] for start, end in spans) == text
    assert all(start < end for start, end in spans)


@given(st.lists(st.sampled_from(["a\n", "\n", " \n", "b c.\r\n", "end"]), max_size=9))
def test_the_paragraphs_of_lines_are_the_lines(lines):
    assert "".join(paragraphs(lines)) == "".join(lines)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        ("“Stop!” he said. She did.", ["“Stop!” he said. ", "She did."]),
        ("Mr. and Mrs. Hale met Dr. J. Watson. All left.", ["Mr. and Mrs. Hale met Dr. J. Watson. ", "All left."]),
        ("It cost 3.50 e.g. here. Yes…  No", ["It cost 3.50 e.g. here. ", "Yes…  ", "No"]),
        ("¿Quién? ¡Él! Sí.", ["¿Quién? ", "¡Él! ", "Sí."]),
        ("他来了。她走了\uff01", ["他来了。", "她走了\uff01"]),
        ("no mark at all", ["no mark at all"]),
        ("", []),
    ],
)
def test_where_sentences_end(text, sentences):
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


def test_a_paragraph_ends_at_a_blank_line():
    lines = ["\n", "One\n", "still one\n", "\n", " \n", "Two\n"]

    assert list(paragraphs(lines)) == ["\nOne\nstill one\n\n \n", "Two\n"]
