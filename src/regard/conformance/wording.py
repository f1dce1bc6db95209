"""The report in words: the broken rule, its consequence and the fix first; then what was proved, and what was not."""

import textwrap
from collections.abc import Iterator

from regard.records import CheckedRule, Checks, CheckVerdict

__all__ = ["worded"]

_WIDTH = 100
_HEADINGS = {
    CheckVerdict.DEVIATION: "Known deviations of PyTorch, documented",
    CheckVerdict.PASS: "Proved",
    CheckVerdict.NOT_TESTED: "Could not be tested",
    CheckVerdict.NOT_APPLICABLE: "Does not apply",
}


def worded(checks: Checks) -> str:
    """Return the report as text of at most 100 columns, apart from names that are longer."""
    return "\n".join([*_headline(checks), *_broken(checks), *_others(checks), *_footing(checks)])


def _headline(checks: Checks) -> Iterator[str]:
    broken = [rule for rule in checks.rules if rule.verdict is CheckVerdict.FAIL]
    proved = sum(rule.verdict is CheckVerdict.PASS for rule in checks.rules)
    what = f"{checks.subject} ({checks.kind})"
    if broken:
        yield from _wrapped(f"{what}: {_count(len(broken), 'rule')} broken, first of all {broken[0].rule}.")
    else:
        untested = sum(rule.verdict is CheckVerdict.NOT_TESTED for rule in checks.rules)
        rest = f", {untested} could not be tested" if untested else ""
        yield from _wrapped(f"{what}: no rule is broken, {_count(proved, 'rule')} proved{rest}.")


def _broken(checks: Checks) -> Iterator[str]:
    for rule in checks.rules:
        if rule.verdict is not CheckVerdict.FAIL:
            continue
        yield ""
        yield from _wrapped(f"BROKEN {rule.rule}: {rule.law}", hang="  ")
        if rule.explained_by:
            yield from _wrapped(f"Probably because of {', '.join(rule.explained_by)}: {rule.summary}", "  ")
            continue
        yield from _wrapped(f"Seen: {rule.summary}{_numbers(rule)}", "  ", hang="        ")
        yield from _wrapped(f"It usually means: {rule.meaning}", "  ", hang="        ")
        yield from _wrapped(f"Fix: {rule.remedy}", "  ", hang="        ")
        if rule.reproduction:
            yield "  To see it:"
            yield from textwrap.indent(rule.reproduction, "      ").splitlines()


def _others(checks: Checks) -> Iterator[str]:
    for verdict, heading in _HEADINGS.items():
        rules = [rule for rule in checks.rules if rule.verdict is verdict]
        if not rules:
            continue
        yield ""
        yield f"{heading}:"
        widest = max(len(rule.rule) for rule in rules)
        for rule in rules:
            numbers = _numbers(rule) if verdict is CheckVerdict.PASS else ""
            yield from _wrapped(f"{rule.rule:{widest}}  {rule.summary}{numbers}", "  ", hang=" " * (widest + 4))


def _footing(checks: Checks) -> Iterator[str]:
    if checks.assumptions:
        yield ""
        yield "Taken to be so; correct it with assume={...}:"
        for line in checks.assumptions:
            yield from _wrapped(line, "  ", hang="    ")
    yield ""
    how = "; ".join(checks.notes)
    mode = "fast, " if checks.fast else ""
    yield from _wrapped(f"{how + '; ' if how else ''}{mode}seed {checks.seed}, {checks.seconds:.1f} s.")


def _numbers(rule: CheckedRule) -> str:
    if rule.measured is None or rule.tolerance is None:
        return ""
    return f" [{rule.measured:.2g}, tolerance {rule.tolerance:.2g}]"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"


def _wrapped(text: str, indent: str = "", hang: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=hang or indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
