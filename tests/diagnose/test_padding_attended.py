import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.padding_attended import PaddingAttended
from regard.records import Severity

RULE = PaddingAttended()


def findings(run):
    return [one.finding for one in RULE.judge(run)]


def test_any_weight_on_padding_is_an_error(write_run, four_heads):
    heads = four_heads(0.0, 0.0, 0.0, num_steps=10)
    heads[0, 0][6] = 0.02

    (finding,) = findings(write_run({"padding_mass": heads}, loss=[1.0] * 10, padding_share=0.2))

    assert finding.severity is Severity.ERROR
    assert finding.where == ["encoder.layer.0.attention head 0"]
    assert finding.evidence[0].step == 7
    assert finding.evidence[0].value == pytest.approx(0.02)


def test_one_row_in_many_is_seen_through_the_maximum(write_run, four_heads):
    run = write_run({"padding_mass": four_heads(0.0, 0.0, 0.0)}, loss=[1.0], padding_share=0.2, maximum=0.5)

    (finding,) = findings(run)

    assert finding.evidence[0].value == pytest.approx(0.5)


@pytest.mark.parametrize(("mass", "count"), [(0.0, 0), (9e-7, 0), (1.1e-6, 1)])
def test_only_rounding_is_left_room_for(write_run, four_heads, mass, count):
    run = write_run({"padding_mass": four_heads(mass, mass, 0.0)}, loss=[1.0], padding_share=0.2)

    assert len(findings(run)) == count


def test_zero_weight_without_any_padding_proves_nothing(write_run, four_heads):
    run = write_run({"padding_mass": four_heads(0.0, 0.0, 0.0)}, loss=[1.0, 1.0], padding_share=0.0)

    with pytest.raises(NotJudgedError, match="no batch of this run held padding"):
        RULE.judge(run)


def test_statistic_that_was_not_recorded_is_not_judged(write_run, four_heads):
    with pytest.raises(NotJudgedError, match="'padding_mass' was not recorded"):
        RULE.judge(write_run({"entropy": four_heads(1.0, 1.0, 1.0)}))
