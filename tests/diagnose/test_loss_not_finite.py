import math

import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.loss_not_finite import LossNotFinite
from regard.records import Severity

RULE = LossNotFinite()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_loss_that_is_no_number_is_an_error_with_its_step(write_run, value):
    (found,) = RULE.judge(write_run(loss=[1.0, 0.9, value]))

    assert found.finding.severity is Severity.ERROR
    assert found.finding.title == "The loss is not a number from step 3"
    assert found.finding.evidence[0].step == 3


def test_gradient_norm_that_is_no_number_is_an_error(write_run):
    (found,) = RULE.judge(write_run(loss=[1.0, 0.9], grad_norm=[math.inf, 1.0]))

    assert found.finding.title == "The gradient norm is not a number from step 1"


def test_both_are_one_finding(write_run):
    (found,) = RULE.judge(write_run(loss=[1.0, math.nan], grad_norm=[1.0, math.nan]))

    assert found.finding.title == "The loss and gradient norm are not a number from step 2"


def test_large_but_finite_is_fine(write_run):
    assert RULE.judge(write_run(loss=[1e30, 1e-30], grad_norm=[1e30, 0.0])) == []


def test_run_without_steps_is_not_judged(write_run):
    with pytest.raises(NotJudgedError, match="no step event with 'loss'"):
        RULE.judge(write_run())
