import math

import numpy as np
import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.loss_spike import LossSpike
from regard.records import Severity

RULE = LossSpike()


def falling(num_steps=200):
    return (2.0 * np.exp(-np.arange(num_steps) / 40)).tolist()


def test_loss_that_stays_up_is_an_error(write_run):
    (found,) = RULE.judge(write_run(loss=falling() + [1.9] * 60))

    assert found.finding.severity is Severity.ERROR
    assert "did not come back" in found.finding.title


def test_loss_that_comes_back_is_a_warning(write_run):
    (found,) = RULE.judge(write_run(loss=falling() + [1.9] * 40 + [0.02] * 60))

    assert found.finding.severity is Severity.WARNING
    assert "came back" in found.finding.title
    assert 211 <= found.finding.evidence[0].step <= 241


@pytest.mark.parametrize(("level", "count"), [(0.75, 0), (1.0, 1)])
def test_half_of_the_gain_is_the_threshold(write_run, level, count):
    # the medians fall from 1.6 to about 0.02, so half of the gain ends near 0.8
    assert len(RULE.judge(write_run(loss=falling() + [level] * 40))) == count


def test_single_hard_batches_are_no_spike(write_run):
    loss = falling()
    loss[50::7] = [5.0] * len(loss[50::7])

    assert RULE.judge(write_run(loss=loss)) == []


def test_noise_before_anything_was_learned_is_no_spike(write_run):
    loss = np.random.default_rng(0).normal(2.0, 0.3, 300).tolist()

    assert RULE.judge(write_run(loss=loss)) == []


def test_loss_of_nan_alone_is_left_to_the_rule_for_it(write_run):
    assert RULE.judge(write_run(loss=[math.nan] * 60)) == []


def test_short_run_is_not_judged(write_run):
    with pytest.raises(NotJudgedError, match="at least 40 steps, got 39"):
        RULE.judge(write_run(loss=falling(39)))
