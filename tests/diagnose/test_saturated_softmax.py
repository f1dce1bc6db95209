import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.saturated_softmax import SaturatedSoftmax
from regard.records import Severity

RULE = SaturatedSoftmax()


def findings(run):
    return [one.finding for one in RULE.judge(run)]


@pytest.mark.parametrize(
    ("statistic", "fine", "beyond"),
    [("saturated_share", 0.49, 0.51), ("collision", 0.949, 0.951), ("max_weight", 0.949, 0.951)],
)
def test_each_measure_has_its_threshold(write_run, four_heads, tmp_path, statistic, fine, beyond):
    (finding,) = findings(write_run({statistic: four_heads(0.1, beyond, 0.1)}))

    assert finding.severity is Severity.WARNING
    assert finding.evidence[0].statistic == statistic
    (tmp_path / "run").rename(tmp_path / "beyond")
    assert findings(write_run({statistic: four_heads(0.1, fine, 0.1)})) == []


def test_saturated_from_the_start_is_a_label(write_run, four_heads):
    (finding,) = findings(write_run({"saturated_share": four_heads(0.9, 0.95, 0.0)}))

    assert finding.severity is Severity.INFO


def test_share_of_saturated_rows_is_preferred(write_run, four_heads):
    run = write_run({"max_weight": four_heads(0.1, 0.99, 0.1), "saturated_share": four_heads(0.1, 0.2, 0.1)})

    assert findings(run) == []


def test_none_of_the_measures_is_not_judged(write_run, four_heads):
    with pytest.raises(NotJudgedError, match="none of saturated_share, collision, max_weight"):
        RULE.judge(write_run({"entropy": four_heads(1.0, 1.0, 1.0)}))
