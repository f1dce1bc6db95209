"""Model families as they are: no rule may raise a false alarm, and what could not be tested is known."""

import pytest

from regard.conformance import check
from regard.conformance.families import FAMILIES, UNTESTED, family
from regard.records import CheckVerdict


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_correct_family_raises_no_alarm(name: str, impl: str) -> None:
    report = check(family(name, seed=0, impl=impl))

    untested = {rule for rule, verdict in report.verdicts.items() if verdict is CheckVerdict.NOT_TESTED}
    assert report.failed == [], str(report)
    assert untested == UNTESTED.get(name, set()), str(report)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_alarm_comes_with_other_weights_and_tokens(name: str, seed: int) -> None:
    model = family(name, seed)
    for parameter in model.parameters():
        parameter.data *= 3 if parameter.ndim > 1 else 1  # heads that are further from uniform

    report = check(model, fast=True, seed=seed)

    assert report.failed == [], str(report)
