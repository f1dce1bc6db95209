import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.overfitting import Overfitting
from regard.records import Severity

RULE = Overfitting()


def with_validations(run, losses, scores=()):
    for number, loss in enumerate(losses):
        fields = {"macro_f1": scores[number]} if scores else {}
        run.event("validation", step=20 * (number + 1), epoch=number + 1, loss=loss, **fields)
    return run


def test_rise_with_worse_predictions_is_a_warning(write_run):
    run = with_validations(write_run(loss=[2.0 - 0.02 * i for i in range(60)]), [0.5, 0.4, 0.6], [0.8, 0.85, 0.83])

    (found,) = RULE.judge(run)

    assert found.finding.severity is Severity.WARNING
    assert found.finding.evidence[0].step == 60
    assert "the best was 0.850 at step 40" in found.finding.evidence[1].note


def test_rise_with_held_predictions_is_a_label(write_run):
    run = with_validations(write_run(loss=[2.0 - 0.02 * i for i in range(60)]), [0.5, 0.4, 0.6], [0.8, 0.85, 0.845])

    (found,) = RULE.judge(run)

    assert found.finding.severity is Severity.INFO


@pytest.mark.parametrize(("last", "count"), [(0.44, 0), (0.45, 1)])
def test_a_tenth_is_the_threshold(write_run, last, count):
    run = with_validations(write_run(loss=[2.0 - 0.02 * i for i in range(60)]), [0.5, 0.4, last])

    assert len(RULE.judge(run)) == count


def test_rise_together_with_the_training_loss_is_no_overfitting(write_run):
    run = with_validations(write_run(loss=[1.0 + 0.02 * i for i in range(60)]), [0.5, 0.4, 0.9])

    assert RULE.judge(run) == []


def test_falling_validation_loss_is_fine(write_run):
    run = with_validations(write_run(loss=[2.0 - 0.02 * i for i in range(60)]), [0.5, 0.4, 0.3])

    assert RULE.judge(run) == []


def test_one_validation_is_not_judged(write_run):
    with pytest.raises(NotJudgedError, match="at least 2 validations with a loss, got 1"):
        RULE.judge(with_validations(write_run(loss=[1.0] * 20), [0.5]))
