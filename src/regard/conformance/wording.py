"""The report in words: the broken rule, its consequence and the fix first; then what was proved, and what was not."""

import textwrap
from collections.abc import Iterator
from typing import Literal, NamedTuple

from regard.records import CheckedRule, Checks, CheckVerdict

__all__ = ["Line", "Tone", "lines", "rule_lines", "worded"]

_WIDTH = 100
_HEADINGS = {
    CheckVerdict.DEVIATION: "Known deviations of PyTorch, documented",
    CheckVerdict.PASS: "Proved",
    CheckVerdict.NOT_TESTED: "Could not be tested",
    CheckVerdict.NOT_APPLICABLE: "Does not apply",
}
Tone = Literal["plain", "good", "fair", "bad", "quiet", "title", "code"]
_TONES: dict[CheckVerdict, Tone] = {
    CheckVerdict.DEVIATION: "fair",
    CheckVerdict.PASS: "good",
    CheckVerdict.NOT_TESTED: "fair",
    CheckVerdict.NOT_APPLICABLE: "quiet",
}


class Line(NamedTuple):
    """One line of the report.

    Attributes:
        text: what it says, indented.
        tone: what it is, for a terminal with colours.
        length: how many characters have that tone; None for all.
    """

    text: str
    tone: Tone = "plain"
    length: int | None = None


def worded(checks: Checks, width: int = _WIDTH) -> str:
    """Return the report as text of at most ``width`` columns, apart from code and names that are longer."""
    return "\n".join(line.text for line in lines(checks, width))


def lines(checks: Checks, width: int = _WIDTH) -> Iterator[Line]:
    """Iterate over the lines of the report."""
    yield from _headline(checks, width)
    for rule in checks.rules:
        if rule.verdict is CheckVerdict.FAIL:
            yield Line("")
            yield from rule_lines(rule, width)
    yield from _others(checks, width)
    yield from _footing(checks, width)


def rule_lines(rule: CheckedRule, width: int = _WIDTH) -> Iterator[Line]:
    """Iterate over what is said of one broken rule: the law, what was seen, what it means, the fix, how to see it."""
    yield from _labelled(f"BROKEN {rule.rule}:", rule.law, width, "", "bad")
    if rule.explained_by:
        yield from _labelled(f"Probably because of {', '.join(rule.explained_by)}:", rule.summary, width)
        return
    yield from _labelled("Seen:", f"{rule.summary}{_numbers(rule)}", width)
    where = "" if rule.case is None else rule.case.words()
    if where:
        yield from _labelled("Smallest case:", where, width)
    yield from _labelled("It usually means:", rule.meaning or "", width)
    yield from _labelled("Fix:", rule.remedy or "", width)
    if rule.reproduction:
        yield Line("  To see it:", "title")
        for line in textwrap.indent(rule.reproduction, "      ").splitlines():
            yield Line(line, "code")


def _headline(checks: Checks, width: int) -> Iterator[Line]:
    tone: Tone = "bad" if not checks.ok else "good" if checks.rules_with(CheckVerdict.PASS) else "fair"
    yield from (Line(line, tone) for line in _wrapped(checks.headline(), width))


def _others(checks: Checks, width: int) -> Iterator[Line]:
    for verdict, heading in _HEADINGS.items():
        rules = [rule for rule in checks.rules if rule.verdict is verdict]
        if not rules:
            continue
        yield Line("")
        yield Line(f"{heading}:", "title")
        widest = max(len(rule.rule) for rule in rules)
        for rule in rules:
            numbers = _numbers(rule) if verdict is CheckVerdict.PASS else ""
            text = f"{rule.rule:{widest}}  {rule.summary}{numbers}"
            first, *rest = _wrapped(text, width, "  ", hang=" " * (widest + 4))
            yield Line(first, _TONES[verdict], widest + 2)
            yield from map(Line, rest)
            if verdict is CheckVerdict.DEVIATION and rule.remedy:
                yield from map(Line, _wrapped(f"Fix: {rule.remedy}", width, " " * (widest + 4)))


def _footing(checks: Checks, width: int) -> Iterator[Line]:
    if checks.assumptions:
        yield Line("")
        yield Line("Taken to be so; correct it with assume={...} or --assume:", "title")
        for line in checks.assumptions:
            yield from map(Line, _wrapped(line, width, "  ", hang="    "))
    yield Line("")
    how = "; ".join(checks.notes)
    mode = "fast, " if checks.fast else ""
    text = f"{how + '; ' if how else ''}{mode}seed {checks.seed}, {checks.seconds:.1f} s."
    yield from (Line(line, "quiet") for line in _wrapped(text, width))


def _labelled(label: str, text: str, width: int, indent: str = "  ", tone: Tone = "title") -> Iterator[Line]:
    first, *rest = _wrapped(f"{label} {text}", width, indent, hang=f"{indent}      " if indent else "  ")
    yield Line(first, tone, len(indent) + len(label))
    yield from map(Line, rest)


def _numbers(rule: CheckedRule) -> str:
    if rule.measured is None or rule.tolerance is None:
        return ""
    return f" [{rule.measured:.2g}, tolerance {rule.tolerance:.2g}]"


def _wrapped(text: str, width: int, indent: str = "", hang: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=hang or indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
