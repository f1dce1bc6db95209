"""The laws of attention in a person's own test suite: one pytest test per rule.

Only a test file imports this; pytest is needed then, and nothing else of regard imports it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from regard.conformance.check import check, chosen
from regard.conformance.subjects.made import is_made, made
from regard.conformance.wording import rule_lines
from regard.records import CheckedRule, Checks, CheckVerdict

__all__ = ["regard_conformance"]

_WIDTH = 100


def regard_conformance(
    make_model: Any,
    *,
    fast: bool = False,
    rules: Sequence[str] | None = None,
    assume: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Callable[..., None]:
    """Return a test with one case per rule; give it a name that begins with ``test_``.

    The check runs once, before the first of its cases. A rule that holds passes; a broken one fails with the words of
    the report; one that does not apply, or could not be tested, is skipped with the reason; a deviation that PyTorch
    documents passes and says so in the report section "regard".

    Args:
        make_model: a function without arguments that makes what ``regard.check`` takes, or that itself.
        fast: fewer and shorter cases; ``pytest --regard-fast`` asks for them everywhere.
        rules: ids of the rules to test; None for all.
        assume: corrections of what is found out about the model, such as ``{"causal": True}``.
        seed: of what is drawn.

    Raises:
        ArgumentError: an unknown rule.

    Example:
        >>> from torch import nn
        >>> def make_attention():
        ...     return nn.MultiheadAttention(16, 2, batch_first=True)
        >>> test_attention = regard_conformance(make_attention, fast=True)
    """
    session = _Session(make_model, fast=fast, rules=rules, assume=assume, seed=seed)

    @pytest.mark.parametrize("rule", [rule.id for rule in chosen(rules)])
    def test(rule: str, request: pytest.FixtureRequest) -> None:
        found = session.found(rule, fast=bool(request.config.getoption("--regard-fast", default=False)))
        _conclude(found, request)

    return test


class _Session:
    """One check, made when the first of its tests asks for it."""

    def __init__(self, make_model: Any, *, fast: bool, **options: Any) -> None:
        self._make_model = make_model
        self._fast = fast
        self._options = options
        self._checks: Checks | None = None

    def found(self, rule: str, *, fast: bool) -> CheckedRule:
        if self._checks is None:
            name = getattr(self._make_model, "__name__", "make_model")
            subject = made(self._make_model, name)
            origin = _origin(self._make_model)
            self._checks = check(subject, fast=fast or self._fast, origin=origin, **self._options).record()
        return next(one for one in self._checks.rules if one.rule == rule)


def _conclude(found: CheckedRule, request: pytest.FixtureRequest) -> None:
    if found.verdict is CheckVerdict.FAIL:
        pytest.fail("\n".join(line.text for line in rule_lines(found, _WIDTH)), pytrace=False)
    if found.verdict in (CheckVerdict.NOT_APPLICABLE, CheckVerdict.NOT_TESTED):
        pytest.skip(f"{found.verdict.value}: {found.summary}")
    if found.verdict is CheckVerdict.DEVIATION:
        request.node.add_report_section("call", "regard", f"known deviation of PyTorch: {found.summary}")


def _origin(make_model: Any) -> str | None:
    module, name = getattr(make_model, "__module__", None), getattr(make_model, "__qualname__", "")
    if module is None or not name.isidentifier():
        return None
    return f"from {module} import {name}\n{name}{'' if is_made(make_model) else '()'}"
