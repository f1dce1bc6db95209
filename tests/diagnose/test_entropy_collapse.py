import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.entropy_collapse import EntropyCollapse
from regard.records import Severity

RULE = EntropyCollapse()


def findings(run):
    return [one.finding for one in RULE.judge(run)]


def test_fall_during_training_is_a_warning_with_its_step(write_run, four_heads):
    (finding,) = findings(write_run({"normalized_entropy": four_heads(0.8, 0.02, 0.7)}))

    assert finding.severity is Severity.WARNING
    assert finding.title == "1 of 4 heads lost the spread of their attention during training"
    assert finding.where == ["encoder.layer.0.attention head 0"]
    (evidence,) = finding.evidence
    assert (evidence.step, evidence.head, evidence.threshold) == (21, 0, 0.1)
    assert evidence.value == pytest.approx(0.02)
    assert "0.8 at the start" in evidence.note
    assert "2303.06296" in finding.reference


def test_half_of_a_layer_is_an_error(write_run):
    falling = [0.8] * 20 + [0.02] * 20
    heads = {(0, 0): falling, (0, 1): falling, (0, 2): [0.7] * 40, (0, 3): [0.7] * 40, (1, 0): [0.7] * 40}

    (finding,) = findings(write_run({"normalized_entropy": heads}))

    assert finding.severity is Severity.ERROR
    assert "at least half of the heads of encoder.layer.0.attention" in finding.title


def test_sharp_from_the_start_is_a_label_and_no_collapse(write_run, four_heads):
    (finding,) = findings(write_run({"normalized_entropy": four_heads(0.05, 0.01, 0.7)}))

    assert finding.severity is Severity.INFO
    assert "from the start" in finding.title


def test_a_head_near_the_threshold_that_falls_a_little_is_a_label(write_run, four_heads):
    (finding,) = findings(write_run({"normalized_entropy": four_heads(0.12, 0.09, 0.7)}))

    assert finding.severity is Severity.INFO


@pytest.mark.parametrize("last", [0.101, 0.11, 0.5])
def test_fall_that_ends_above_the_threshold_is_nothing(write_run, four_heads, last):
    assert findings(write_run({"normalized_entropy": four_heads(0.9, last, 0.7)})) == []


def test_dip_that_recovers_is_nothing(write_run, four_heads):
    heads = four_heads(0.8, 0.8, 0.7)
    heads[0, 0][10:30] = [0.01] * 20

    assert findings(write_run({"normalized_entropy": heads})) == []


def test_one_high_step_at_the_end_hides_no_collapse_of_a_long_run(write_run, four_heads):
    heads = four_heads(0.8, 0.02, 0.7, num_steps=100)
    heads[0, 0][97] = 0.15

    (finding,) = findings(write_run({"normalized_entropy": heads}))

    assert finding.severity is Severity.WARNING


def test_too_few_steps_are_not_judged(write_run, four_heads):
    run = write_run({"normalized_entropy": four_heads(0.8, 0.02, 0.7, num_steps=4)})

    with pytest.raises(NotJudgedError, match="at least 5 recorded steps, got 4"):
        RULE.judge(run)


def test_statistic_that_was_not_recorded_is_not_judged(write_run, four_heads):
    with pytest.raises(NotJudgedError, match="'normalized_entropy' was not recorded"):
        RULE.judge(write_run({"entropy": four_heads(0.8, 0.02, 0.7)}))


def test_statistic_without_a_number_counts_as_not_recorded(write_run):
    with pytest.raises(NotJudgedError, match="was not recorded"):
        RULE.judge(write_run({"normalized_entropy": {(0, 0): [float("nan")] * 10}}))


def test_worst_heads_come_first_and_the_list_is_capped_with_a_count(write_run):
    heads = {(0, head): [0.8] * 20 + [0.09 - head * 0.005] * 20 for head in range(15)}

    (finding,) = findings(write_run({"normalized_entropy": heads}))

    assert finding.where[0] == "encoder.layer.0.attention head 14"
    assert len(finding.where) == 13
    assert finding.where[-1] == "and 3 more"
    assert len(finding.evidence) == 6
