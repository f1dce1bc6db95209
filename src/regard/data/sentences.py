"""Plain text into paragraphs and sentences that leave no character out."""

import re
from collections.abc import Iterable, Iterator

__all__ = ["SENTENCE_END", "paragraphs", "sentence_spans"]

# What ends a sentence, what closes behind it (quotes, brackets), and the white space before the next one. The second
# half is for the full-width marks of Chinese and Japanese, behind which there is no space.
SENTENCE_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019\u00bb\u203a)\]]*\s+|[\u3002\uff01\uff1f]+[\u300d\u300f\u201d\u2019\uff09]*\s*"
)
_ABBREVIATED = re.compile(
    r"(?:^|[\s(\"'\u201c\u2018\u00ab\u00bf\u00a1])"
    r"(?:[A-Z]|Mr|Mrs|Ms|Dr|St|Prof|Rev|Hon|Gen|Col|Capt|Lt|Sgt|Jr|Sr|Sra|Srta|Dra|Ud|Uds|vs|viz|cf|ch|"
    r"vol|vols|pp?|no|nos|fig|e\.g|i\.e|ca|No|Vol|Fig|Ch|Nr|Bd|z\.B|d\.h|bzw|usw)\.$"
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return where the sentences of ``text`` lie; each ends where the next one begins, the last at the end of the text.

    A sentence ends in a full stop, question or exclamation mark or an ellipsis (with what closes behind it) and white
    space, unless a small letter follows or the full stop is that of an abbreviation or an initial. The rules are plain
    and the same for all languages with such marks; what they miss is a longer segment, never a lost one.

    Args:
        text: a paragraph.

    Returns:
        Character spans that cover all of ``text``, white space included; none for an empty one.

    Example:
        >>> text = "Mr. Ox ran. Why? No one knew."
        >>> [text[start:end] for start, end in sentence_spans(text)]
        ['Mr. Ox ran. ', 'Why? ', 'No one knew.']
    """
    if not text:
        return []
    cuts = [0]
    for match in SENTENCE_END.finditer(text):
        end = match.end()
        if end < len(text) and text[cuts[-1] : end].strip() and not _goes_on(text, match):
            cuts.append(end)
    return list(zip(cuts, [*cuts[1:], len(text)], strict=True))


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    r"""Yield the paragraphs of a text, given its lines with their ends: parts that blank lines divide.

    The blank lines behind a paragraph belong to it, those at the beginning of a text to the first, so that the
    paragraphs together are the text. One paragraph is held at a time.

    Example:
        >>> list(paragraphs(["One\n", "still one\n", "\n", "Two\n"]))
        ['One\nstill one\n\n', 'Two\n']
    """
    held: list[str] = []
    begun = ended = False
    for line in lines:
        if line.strip():
            if ended:
                yield "".join(held)
                held, ended = [], False
            begun = True
        elif begun:
            ended = True
        held.append(line)
    if held:
        yield "".join(held)


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Whether what looks like the end of a sentence is none."""
    if text[match.end()].islower():
        return True
    return bool(_ABBREVIATED.search(text[: match.start() + 1][-12:])) and match[0].startswith(". ")
