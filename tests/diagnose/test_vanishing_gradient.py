import pytest

from regard.diagnose import NotJudgedError
from regard.diagnose.vanishing_gradient import VanishingGradient
from regard.records import Severity

RULE = VanishingGradient()


def findings(run):
    return [one.finding for one in RULE.judge(run)]


def with_gradients(run, *norms, num_events=10):
    """Write the same (all, qk, vo) of each layer, lowest first, in every event."""
    layers = [
        {"layer": f"layer.{index}", "all": everything, "qk": qk, "vo": vo}
        for index, (everything, qk, vo) in enumerate(norms)
    ]
    for number in range(num_events):
        run.event("gradients", step=1 + 10 * number, layers=layers)
    return run


def test_lowest_layer_that_starves_is_a_warning(write_run):
    (finding,) = findings(with_gradients(write_run(), (1e-5, 1e-6, 1e-5), (1e-2, 1e-3, 1e-2), (1.0, 0.1, 1.0)))

    assert finding.severity is Severity.WARNING
    assert finding.where == ["layer.0"]
    assert finding.evidence[0].value == pytest.approx(1e-5)
    assert finding.evidence[0].step == 51


@pytest.mark.parametrize(("lowest", "count"), [(0.99e-3, 1), (1.01e-3, 0), (1.0, 0), (10.0, 0)])
def test_threshold_is_a_thousandth(write_run, lowest, count):
    run = with_gradients(write_run(), (lowest, 0.1 * lowest, lowest), (1.0, 0.1, 1.0))

    assert len(findings(run)) == count


def test_queries_and_keys_that_starve_are_named_by_layer(write_run):
    run = with_gradients(write_run(), (1.0, 0.1, 1.0), (1.0, 1e-5, 1.0), (1.0, 0.0, 1.0))

    (finding,) = findings(run)

    assert "Queries and keys of 2 of 3 layers" in finding.title
    assert finding.where == ["layer.2", "layer.1"]


def test_vanishing_that_ended_is_nothing(write_run):
    run = with_gradients(write_run(), (1e-6, 1e-7, 1e-6), (1.0, 0.1, 1.0), num_events=6)

    assert findings(with_gradients(run, (0.5, 0.1, 0.5), (1.0, 0.1, 1.0), num_events=14)) == []


def test_frozen_layers_are_named_and_no_alarm(write_run):
    run = with_gradients(write_run(), (0.0, 0.0, 0.0), (1.0, 0.1, 1.0), (1.0, 0.1, 1.0))

    (finding,) = findings(run)

    assert finding.severity is Severity.INFO
    assert finding.where == ["layer.0"]


def test_no_layer_with_a_gradient_is_a_warning(write_run):
    (finding,) = findings(with_gradients(write_run(), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))

    assert finding.severity is Severity.WARNING


def test_norm_that_is_no_number_is_no_vanishing(write_run):
    run = with_gradients(write_run(), (float("nan"), float("nan"), 1.0), (1.0, 0.1, 1.0))

    assert findings(run) == []


@pytest.mark.parametrize(("num_events", "why"), [(0, "no gradients event"), (4, "at least 5 recorded events, got 4")])
def test_too_few_events_are_not_judged(write_run, num_events, why):
    with pytest.raises(NotJudgedError, match=why):
        RULE.judge(with_gradients(write_run(), (1.0, 0.1, 1.0), num_events=num_events))


def test_events_that_name_no_layer_are_not_judged(write_run):
    with pytest.raises(NotJudgedError, match="name no layer"):
        RULE.judge(with_gradients(write_run()))


def test_one_look_is_enough_where_no_noise_explains_it(write_run):
    (finding,) = findings(with_gradients(write_run(), (1e-11, 1e-12, 1e-11), (1.0, 0.1, 1.0), num_events=1))
    assert finding.where == ["layer.0"]


def test_one_look_at_a_small_gradient_is_not_judged(write_run):
    with pytest.raises(NotJudgedError, match="at least 5 recorded events, got 1"):
        RULE.judge(with_gradients(write_run(), (1e-5, 1e-6, 1e-5), (1.0, 0.1, 1.0), num_events=1))
