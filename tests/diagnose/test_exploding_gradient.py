import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.exploding_gradient import ExplodingGradient
from regard.records import Severity

RULE = ExplodingGradient()


def run_of(write_run, grad_norm):
    return write_run(loss=[1.0] * len(grad_norm), grad_norm=grad_norm)


def test_sustained_growth_is_a_warning_with_the_step_since_when(write_run):
    (found,) = RULE.judge(run_of(write_run, [1.0] * 60 + [50.0] * 60))

    assert found.finding.severity is Severity.WARNING
    assert found.finding.evidence[0].value == pytest.approx(50.0)
    assert 60 < found.finding.evidence[0].step <= 80


@pytest.mark.parametrize(("last", "count"), [(20.0, 0), (20.1, 1)])
def test_twentyfold_is_the_threshold(write_run, last, count):
    assert len(RULE.judge(run_of(write_run, [1.0] * 40 + [last] * 40))) == count


def test_single_large_gradients_are_fine(write_run):
    norms = [1.0] * 100
    norms[30::5] = [1000.0] * len(norms[30::5])

    assert RULE.judge(run_of(write_run, norms)) == []


def test_growth_from_exactly_zero_is_seen(write_run):
    assert len(RULE.judge(run_of(write_run, [0.0] * 40 + [1.0] * 40))) == 1


def test_missing_norms_are_not_judged(write_run):
    with pytest.raises(NotJudgedError, match="'grad_norm'"):
        RULE.judge(write_run(loss=[1.0] * 60))
