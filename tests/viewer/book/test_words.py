"""Weights of tokens become weights of words without getting lost."""

import pytest

from regard.viewer.book.words import END, WordLink, written_words

SOURCE = "the old sea"


@pytest.fixture
def words(book):
    return written_words("la vieja mar", [SOURCE], book.alignments(0, 1))


def test_a_word_of_several_tokens_looks_as_their_mean(words):
    assert [word.text for word in words] == ["la", "vieja", "mar"]
    assert words[1].links == [
        WordLink(back=0, word=1, weight=0.625),
        WordLink(back=0, word=2, weight=0.125),
        WordLink(back=0, word=END, weight=0.125),
    ]


def test_the_weights_of_a_word_sum_to_what_was_kept(words):
    assert [sum(link.weight for link in word.links) for word in words] == [word.covered for word in words]
    assert [word.covered for word in words] == [0.875, 0.875, 1.0]


def test_a_link_can_lead_to_the_segment_before(book):
    word = written_words("canta", ["it sings <b>&</b>", SOURCE], book.alignments(1, 2))[0]

    assert word.links == [WordLink(back=1, word=2, weight=0.5), WordLink(back=0, word=1, weight=0.25)]
    assert word.own == 0.5


def test_a_word_that_no_token_wrote_has_no_links(book):
    words = written_words("luna </script>", ["moon"], book.alignments(2, 3))

    assert (words[1].text, words[1].links, words[1].covered) == ("</script>", [], 0.0)
