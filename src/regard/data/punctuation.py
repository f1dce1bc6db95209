"""Plain text as a task of tagging: from lower-cased words without marks back to what was written.

What a speech recogniser gives has neither case nor punctuation. Any text that people wrote teaches a tagger to put both
back, and nobody needs to annotate it: the tag of a word is its case and the mark behind it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from regard._errors import ArgumentError, DataError
from regard.data.running_text import load_running_text
from regard.data.tagged import TaggedSentences

__all__ = ["case_and_mark", "ends_sentence", "load_punctuated", "restored", "spoken_words"]

LOWER, CAPITAL, UPPER = "lower", "Capital", "UPPER"
MARKS = ",.?!:;"
_ENDS = ".?!"
# Texts for language models are cut into tokens: "0 @.@ 7", "lobster 's", "do n't" are one word each.
_ESCAPED = re.compile(r" @([,.\-])@ ")
_CLITIC = re.compile(r" (['\u2019](?:s|re|ve|ll|d|m)|n['\u2019]t)(?!\w)")
_DASH = re.compile("\u2014|--+")
_PARAGRAPH = re.compile(r"\n\s*\n")


def load_punctuated(path: str | Path, *, window: int) -> TaggedSentences:
    """Read a text, or all ``.txt`` files of a folder, as windows of lower-cased words with case and mark as tags.

    A window begins where a sentence does and holds ``window`` words, wherever that ends: were it a whole sentence, its
    last word would always bear the full stop. The next one begins at the next sentence, or right behind it where none
    begins within a window's length; the words between are counted in ``left_out``, as are marks other than those of
    ``MARKS`` and words of mixed case, which lose it.

    Args:
        path: a file, compressed or not, or a folder.
        window: words of a window, at least 2.

    Raises:
        ArgumentError: a window of fewer than two words.
        DataError: a file is missing, damaged or not UTF-8, or there is no word in it.
    """
    if window < 2:
        raise ArgumentError(f"window must be at least 2 words, got {window}; 64 is about three sentences.")
    source = load_running_text(path)
    left_out: Counter[str] = Counter()
    words: list[str] = []
    tags: list[str] = []
    begins: list[bool] = []
    for paragraph in _PARAGRAPH.split(source.text):
        first = True
        for core, mark in _cores(paragraph, left_out):
            begins.append(first or ends_sentence(tags[-1]))
            first = False
            tags.append(case_and_mark(core, mark))
            words.append(core.lower())
            left_out["words whose mixed case is lost"] += _applied(core.lower(), tags[-1].rstrip(MARKS)) != core
    if not words:
        raise DataError(f"A text to learn punctuation from must hold words, got none in {path}; check the file.")
    places = _windows(begins, window)
    covered = sum(last - first for first, last in places)
    left_out["words between windows"] += len(words) - covered
    return TaggedSentences(
        words=[words[first:last] for first, last in places],
        tags=[tags[first:last] for first, last in places],
        name=source.name,
        rows=list(range(1, len(places) + 1)),
        unit="window",
        files=source.files,
        left_out={what: count for what, count in left_out.items() if count},
    )


def spoken_words(text: str) -> list[str]:
    """Return the words of ``text`` as a tagger of punctuation reads them: lower-cased, without marks.

    Example:
        >>> spoken_words("Well, it's the U.N. again!")
        ['well', "it's", 'the', 'u.n', 'again']
    """
    return [core.lower() for core, _ in _cores(text, Counter())]


def case_and_mark(word: str, mark: str = "") -> str:
    """Return the tag of a word: ``lower``, ``Capital`` or ``UPPER``, and the mark behind it, as in ``Capital,``.

    A single capital letter is ``Capital``; what has no case is ``lower``. Mixed case goes by its first letter.
    """
    cased = [letter for letter in word if letter.lower() != letter.upper()]
    if len(cased) > 1 and all(letter.isupper() for letter in cased):
        return UPPER + mark
    return (CAPITAL if cased and cased[0].isupper() else LOWER) + mark


def ends_sentence(tag: str) -> bool:
    """Whether a sentence ends behind the word of ``tag``: in a full stop, question or exclamation mark."""
    return tag[-1] in _ENDS


def restored(words: Sequence[str], tags: Sequence[str]) -> str:
    """Return the text that ``words`` and their tags stand for.

    Raises:
        ArgumentError: a tag that ``case_and_mark`` does not give, or not one for each word.

    Example:
        >>> restored(["well", "the", "u.n", "met"], ["Capital,", "lower", "UPPER", "lower."])
        'Well, the U.N met.'
    """
    if len(words) != len(tags):
        raise ArgumentError(f"Each word must have one tag, got {len(words)} words and {len(tags)} tags.")
    return " ".join(_written(word, tag) for word, tag in zip(words, tags, strict=True))


def _written(word: str, tag: str) -> str:
    case = tag.rstrip(MARKS)
    if case not in (LOWER, CAPITAL, UPPER) or len(tag) > len(case) + 1:
        raise ArgumentError(
            f"A tag must be {LOWER}, {CAPITAL} or {UPPER} with at most one of {MARKS} behind it, got {tag!r}."
        )
    return _applied(word, case) + tag[len(case) :]


def _applied(word: str, case: str) -> str:
    if case == UPPER:
        return word.upper()
    first = next((place for place, letter in enumerate(word) if letter.isalpha()), None)
    if case == LOWER or first is None:
        return word
    return word[:first] + word[first].upper() + word[first + 1 :]


def _cores(text: str, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """Yield each word without what surrounds it, and the mark behind it or ""."""
    text = _CLITIC.sub(r"\1", _ESCAPED.sub(r"\1", text))
    held: tuple[str, str] | None = None
    for token in _DASH.sub(" \\g<0> ", text).split():
        letters = [place for place, letter in enumerate(token) if letter.isalnum()]
        behind = token[letters[-1] + 1 :] if letters else token
        if letters:
            if held is not None:
                yield held
            held = (token[letters[0] : letters[-1] + 1], "")
            left_out["other marks"] += letters[0]
        mark = next((letter for letter in behind if letter in MARKS), "")
        if held is not None and mark and not held[1]:
            held = (held[0], mark)
            behind = behind.replace(mark, "", 1)
        left_out["other marks"] += len(behind)
    if held is not None:
        yield held


def _windows(begins: Sequence[bool], window: int) -> list[tuple[int, int]]:
    """Return first and last + 1 of each window."""
    places, first = [], 0
    while first < len(begins):
        last = min(first + window, len(begins))
        places.append((first, last))
        nearest = range(last, min(last + window, len(begins)))
        # The rest of the text may be the end of a sentence that was begun, or one without an end.
        first = next((place for place in nearest if begins[place]), last if len(nearest) == window else len(begins))
    return places
