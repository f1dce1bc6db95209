import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.dead_head import DeadHead
from regard.records import Severity

RULE = DeadHead()


def findings(run):
    return [one.finding for one in RULE.judge(run)]


def test_head_that_died_is_a_warning(write_run, four_heads):
    (finding,) = findings(write_run({"output_norm": four_heads(5.0, 0.01, 5.0)}))

    assert finding.severity is Severity.WARNING
    assert finding.where == ["encoder.layer.0.attention head 0"]
    assert finding.evidence[0].value == pytest.approx(0.01 / (15.01 / 4), rel=1e-4)


def test_head_that_was_silent_from_the_start_is_a_label(write_run, four_heads):
    (finding,) = findings(write_run({"output_norm": four_heads(0.01, 0.01, 5.0)}))

    assert finding.severity is Severity.INFO


@pytest.mark.parametrize(("last", "count"), [(0.30, 1), (0.31, 0)])
def test_threshold_is_a_tenth_of_the_mean_of_the_layer(write_run, four_heads, last, count):
    # three heads at 4: x / ((12 + x) / 4) = 0.1 at x = 0.3077
    assert len(findings(write_run({"output_norm": four_heads(4.0, last, 4.0)}))) == count


def test_scale_of_a_layer_does_not_matter(write_run):
    small = {(0, head): [1e-6] * 40 for head in range(4)}
    large = {(1, head): [1e3] * 40 for head in range(4)}

    assert findings(write_run({"output_norm": small | large})) == []


def test_layer_whose_heads_are_all_zero_is_silent(write_run):
    heads = {(0, head): [0.0] * 40 for head in range(2)} | {(1, head): [1.0] * 40 for head in range(2)}

    (finding,) = findings(write_run({"output_norm": heads}))

    assert finding.where == ["encoder.layer.0.attention head 0", "encoder.layer.0.attention head 1"]


def test_one_head_a_layer_cannot_be_judged(write_run):
    with pytest.raises(NotJudgedError, match="every layer has one head"):
        RULE.judge(write_run({"output_norm": {(0, 0): [1.0] * 40, (1, 0): [1.0] * 40}}))
