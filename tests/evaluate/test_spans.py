"""Spans as the CoNLL script and seqeval read them: known examples, and a second way to find them."""

import itertools

import pytest

from regard.evaluate import spans_of, spell_spans


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-PER I-PER O", [("PER", 0, 2)]),
        # IOB1: B only parts neighbours of one type
        ("I-PER I-PER B-PER I-LOC O I-LOC", [("PER", 0, 2), ("PER", 2, 3), ("LOC", 3, 4), ("LOC", 5, 6)]),
        # IOBES
        ("S-LOC B-PER I-PER E-PER S-PER O", [("LOC", 0, 1), ("PER", 1, 4), ("PER", 4, 5)]),
        # BILOU
        ("U-LOC B-PER I-PER L-PER U-PER O", [("LOC", 0, 1), ("PER", 1, 4), ("PER", 4, 5)]),
        # wrongly begun, all the same spans
        ("O I-PER O", [("PER", 1, 2)]),
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        ("E-PER I-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("O O", []),
    ],
)
def test_spans_of_known_sentences(tags, spans):
    assert spans_of(tags.split()) == spans


def chunks(tags):
    """The rule of the CoNLL-2000 script, boundary by boundary: does one end here, does one begin here?"""

    def begins(letter, kind, before, kind_before):
        if letter == "O":
            return False
        return letter in "BS" or before in "OES" or kind != kind_before

    def ends(letter, kind, before, kind_before):
        if before == "O":
            return False
        return before in "ES" or letter in "OBS" or kind != kind_before

    padded = [("O", ""), *((tag[0], tag[2:]) for tag in tags), ("O", "")]
    found, first = set(), None
    for place, ((before, kind_before), (letter, kind)) in enumerate(itertools.pairwise(padded)):
        if ends(letter, kind, before, kind_before):
            found.add((kind_before, first, place))
        if begins(letter, kind, before, kind_before):
            first = place
    return found


def test_all_short_sentences_are_read_as_the_script_reads_them():
    letters = ["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in "XY")]
    for tags in itertools.product(letters, repeat=4):
        found = spans_of(tags)
        assert set(found) == chunks(tags), tags
        assert found == sorted(found, key=lambda span: span[1])


def test_other_tags_spell_no_spans():
    assert spell_spans(["O", "B-PER"])
    assert not spell_spans(["O"])
    assert not spell_spans(["NOUN", "O"])
    assert not spell_spans(["B-PER", "lower"])
