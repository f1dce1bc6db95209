import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.rank_collapse import RankCollapse
from regard.records import Severity

RULE = RankCollapse()


def diversity(*layers, num_steps=10):
    return {
        "residual_diversity": {
            (layer, head): [value] * num_steps for layer, value in enumerate(layers) for head in range(2)
        }
    }


def test_layers_with_alike_tokens_are_named_and_counted_once(write_run):
    (found,) = RULE.judge(write_run(diversity(0.9, 1e-3, 1e-7)))
    finding = found.finding

    assert finding.severity is Severity.WARNING
    assert finding.title == "The tokens entering 2 of 3 layers are alike to 1.0e-07"
    assert set(finding.where) == {"encoder.layer.1.attention", "encoder.layer.2.attention"}
    assert [evidence.head for evidence in finding.evidence] == [0, 0]


def test_one_step_is_enough(write_run):
    assert len(RULE.judge(write_run(diversity(0.9, 1e-7, num_steps=1)))) == 1


@pytest.mark.parametrize("least", [0.011, 0.2, 1.0])
def test_tokens_that_differ_are_fine(write_run, least):
    assert RULE.judge(write_run(diversity(0.9, least))) == []


def test_a_run_that_did_not_record_it_is_not_judged(write_run):
    with pytest.raises(NotJudgedError, match="'residual_diversity' was not recorded"):
        RULE.judge(write_run({"entropy": {(0, 0): [1.0]}}))
