"""Pages hold every segment, need no network and let no text become markup."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from io import StringIO

import pytest
from rich.console import Console

from regard._errors import ArgumentError
from regard.viewer import book_summary, num_pages, page_text, write_overview, write_page

INTERVAL = {"value": 43.0, "low": 41.5, "high": 44.5, "note": None}
SCORED = {"num_rows": 5, "chrf": INTERVAL, "bleu": INTERVAL}
SCORES = {
    "whole": SCORED,
    "by_position": [{"first": 0, "last": 1, **SCORED}, {"first": 2, "last": 2, **SCORED}],
    "by_length": [{"first": 1, "last": 9, **SCORED}],
    "method": "95 % intervals",
    "signatures": {"chrf": "chrF2|nrefs:1"},
}


class Reader(HTMLParser):
    """Collects the words of the page, and what it would load."""

    def __init__(self):
        super().__init__()
        self.words, self.loads, self.tags, self.now = {}, [], [], None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.loads += [attributes[name] for name in ("src", "data", "poster", "action") if attributes.get(name)]
        self.loads += [attributes["href"]] if tag == "link" else []
        key = attributes.get("data-s") or attributes.get("data-t")
        self.now = (("s" if attributes.get("data-s") else "t"), key) if key else None

    def handle_data(self, data):
        if self.now:
            self.words.setdefault(self.now, "")
            self.words[self.now] += data

    def handle_endtag(self, tag):
        self.now = None


def read(path):
    reader = Reader()
    text = path.read_text(encoding="utf-8")
    reader.feed(text)
    return text, reader


def sentence(reader, side, segment):
    return " ".join(word for (kind, key), word in reader.words.items() if kind == side and key.split("-")[0] == segment)


def test_pages_hold_every_segment_once(book):
    found = {}
    for number in range(1, num_pages(book, 2) + 1):
        _, reader = read(write_page(book, number, page_len=2))
        for segment in book.segments((number - 1) * 2, number * 2):
            found[segment.id] = (sentence(reader, "s", str(segment.id)), sentence(reader, "t", str(segment.id)))

    assert found == {one.id: (one.source, one.translation) for one in book.segments()}


def test_a_page_needs_no_network_and_runs_its_own_script_alone(book):
    text, reader = read(write_page(book, 1))

    assert reader.loads == []
    assert not re.search(r"https?://|@import|url\(", text)
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_no_text_becomes_markup(book):
    text, reader = read(write_page(book, 1))

    assert reader.words["t", "2-1"] == "</script>"
    assert reader.words["s", "1-2"] == "<b>&</b>"
    assert "<b>&" not in text


def test_the_links_of_a_page_are_those_of_its_words(book):
    text, _ = read(write_page(book, 1))
    links = json.loads(re.search(r'id="links">(.*?)</script>', text)[1])

    assert links["0"][1] == [[[0, 1, 0.625], [0, 2, 0.125], [0, -1, 0.125]], 0.875, 1.0]
    assert links["1"][0] == [[[1, 2, 0.5], [0, 1, 0.25]], 0.75, 0.5]


def test_a_page_shows_what_its_first_segment_looked_back_at(book):
    _, reader = read(write_page(book, 2, page_len=1))

    assert sentence(reader, "s", "0") == "the old sea"
    assert sentence(reader, "t", "0") == ""


def test_a_document_does_not_look_back_into_another(book):
    _, reader = read(write_page(book, 3, page_len=1))

    assert sentence(reader, "s", "1") == ""


def test_a_cut_translation_and_a_reference_are_shown(book):
    text, _ = read(write_page(book, 1))

    assert text.count("cut at the limit of its length") == 1
    assert "el viejo mar" in text


@pytest.mark.parametrize("number", [0, 4])
def test_a_page_that_is_not_there_is_refused(book, number):
    with pytest.raises(ArgumentError, match=f"A page must be 1 to 3, got {number}"):
        write_page(book, number, page_len=1)


def test_a_page_must_hold_a_segment(book):
    with pytest.raises(ArgumentError, match="at least 1 segment, got 0"):
        write_page(book, 1, page_len=0)


def test_the_overview_draws_the_scores_along_the_book(book):
    book.update(scores=SCORES)

    text, reader = read(write_overview(book))

    assert reader.loads == []
    assert "script" not in reader.tags
    assert text.count('class="dot s1"') == 2
    assert "41.5 – 44.5" in text
    assert "chrF2|nrefs:1" in text
    assert [name for name in ("A", "B") if f'<th scope="row">{name}</th>' in text] == ["A", "B"]


def test_the_overview_says_why_there_is_no_score(book):
    book.update(scores=None, no_scores="There is no translation by a person.")

    assert "There is no translation by a person." in write_overview(book).read_text(encoding="utf-8")


def test_the_overview_leads_to_the_pages_that_are_made(book):
    page = write_page(book, 1)

    assert f'href="pages/{page.name}"' in write_overview(book).read_text(encoding="utf-8")


def shown(renderable):
    console = Console(file=StringIO(), width=100)
    console.print(renderable)
    return console.file.getvalue()


def test_a_terminal_shows_the_words_and_what_they_looked_at(book):
    text = shown(page_text(book, 1))

    for segment in book.segments():
        assert segment.source in text
        assert segment.translation in text
    assert "la ← the 75 %" in text
    assert "canta ← (before) sea 50 % sings 25 %" in text
    assert "canta [cut]" in text


def test_a_terminal_shows_the_scores(book):
    book.update(scores=SCORES)

    text = shown(book_summary(book))

    assert "tale.tsv" in text
    assert "the whole" in text
    assert "43.0 (41.5 – 44.5)" in text
