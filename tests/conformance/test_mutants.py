"""The rules bite: every seeded bug is caught, the right rule is named first, and what it was seeded into passes."""

from collections import Counter

import pytest
import torch

from regard.conformance import RULES, check
from regard.conformance.mutants import MUTANTS, Mutant
from regard.conformance.mutants.table import Caught, page

NAMES = [mutant.name for mutant in MUTANTS]


@pytest.fixture(scope="module")
def healthy() -> dict[tuple[str, ...], list[str]]:
    """Broken rules of healthy subjects that were checked already; many mutants share one."""
    return {}


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_is_caught_and_the_right_rule_named_first(
    mutant: Mutant, healthy: dict[tuple[str, ...], list[str]]
) -> None:
    subject = mutant.healthy(0)
    same = (mutant.on, repr(subject), str(getattr(subject, "dtype", None)), str(dict(mutant.assume)))
    if same not in healthy:
        healthy[same] = check(subject, assume=mutant.assume, fast=True).failed

    report = check(mutant.broken(0), assume=mutant.assume, fast=True)

    assert healthy[same] == []
    assert report.failed[:1] == [mutant.rule], str(report)


def test_there_are_enough_mutants_of_enough_kinds() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.kind for mutant in MUTANTS}) >= 15
    assert max(Counter(NAMES).values()) == 1


def test_each_rule_but_the_last_resort_has_a_mutant_that_it_must_catch() -> None:
    # "formula" catches what no rule on a single property does, and "determinism" names what "dropout" does not.
    assert {rule.id for rule in RULES} - {mutant.rule for mutant in MUTANTS} <= {"formula"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_cites_a_report_by_repository_and_number(mutant: Mutant) -> None:
    repository, number = mutant.report.split("#")

    assert repository.count("/") == 1
    assert number.isdigit()
    assert mutant.report_says
    assert mutant.url == f"https://github.com/{repository}/issues/{number}"


def test_building_a_mutant_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()

    for mutant in MUTANTS:
        mutant.broken(0)

    assert torch.equal(torch.get_rng_state(), state)


def test_the_page_says_which_rule_was_named_first_and_cites_the_report() -> None:
    mutant = MUTANTS[0]

    text = page([Caught(mutant, (mutant.rule, "formula"), ())])

    assert f"| {mutant.name} | **X** | x |" in text
    assert f"[{mutant.report}]({mutant.url}): {mutant.report_says}" in text
    assert "1 bug of 1 kind, modelled on 1 public report," in text


def test_a_mutant_is_not_caught_where_another_rule_comes_first_or_its_subject_is_broken_already() -> None:
    mutant = MUTANTS[0]

    assert Caught(mutant, (mutant.rule,), ()).ok
    assert not Caught(mutant, ("formula", mutant.rule), ()).ok
    assert not Caught(mutant, (mutant.rule,), ("formula",)).ok
    assert not Caught(mutant, (), ()).ok
