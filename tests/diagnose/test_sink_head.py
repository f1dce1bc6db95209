import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.sink_head import SinkHead
from regard.records import Severity

RULE = SinkHead()


def findings(run):
    return [one.finding for one in RULE.judge(run)]


@pytest.mark.parametrize("mass", [0.31, 0.99])
def test_sink_is_labelled_and_never_alarmed(write_run, four_heads, mass):
    (finding,) = findings(write_run({"first_mass": four_heads(mass, mass, 0.05)}))

    assert finding.severity is Severity.INFO
    assert finding.title.startswith("1 of 4 heads put over 30 %")
    assert "as they did from the start" in finding.title
    assert "functional" in finding.cause


def test_all_heads_as_sinks_are_still_a_label(write_run):
    (finding,) = findings(write_run({"first_mass": {(0, head): [0.95] * 40 for head in range(4)}}))

    assert finding.severity is Severity.INFO


def test_sink_that_grew_is_counted(write_run, four_heads):
    (finding,) = findings(write_run({"first_mass": four_heads(0.05, 0.6, 0.05)}))

    assert "1 of them became so during training" in finding.title


def test_mass_at_the_threshold_is_no_sink(write_run, four_heads):
    assert findings(write_run({"first_mass": four_heads(0.25, 0.25, 0.05)})) == []


def test_one_step_is_enough_to_label(write_run, four_heads):
    assert len(findings(write_run({"first_mass": four_heads(0.6, 0.6, 0.05, num_steps=1)}))) == 1


def test_run_without_heads_is_not_judged(write_run):
    with pytest.raises(NotJudgedError, match="no head statistics were recorded"):
        RULE.judge(write_run())
