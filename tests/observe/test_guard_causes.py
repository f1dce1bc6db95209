"""The guard's rules over plain numbers: the right cause, and silence where nothing is wrong."""

import math

import pytest

from regard._errors import ArgumentError
from regard.observe import FAULTS, WARNINGS, GuardLimits
from regard.observe.guarding.alarms import Alarms
from regard.observe.guarding.causes import Evidence, Reading, fault_of, warnings_of
from regard.observe.guarding.sentences import Circumstances, say
from regard.observe.guarding.trends import Trend, growth

HALF = 65504.0
LIMITS = GuardLimits()


@pytest.mark.parametrize(
    ("cause", "value", "evidence"),
    [
        ("score_overflow", 7e4, Evidence(product=7e4, limit=HALF)),
        ("empty_row", 3, Evidence(product=1.0, limit=HALF, empty_rows=3)),
        ("inf_minus_inf", 2, Evidence(infinite=("query",), limit=HALF, num_bad=2)),
        ("inf_minus_inf", math.inf, Evidence(product=1.0, limit=HALF, bias="inf")),
        ("upstream", 5, Evidence(nan=("key",), limit=HALF, num_bad=5)),
        ("upstream", 1, Evidence(infinite=("value",), limit=HALF, num_bad=1)),
        ("unexplained", math.nan, Evidence(product=1.0, limit=HALF)),
    ],
)
def test_each_cause_is_told_by_its_evidence(cause: str, value: float, evidence: Evidence) -> None:
    verdict = fault_of(evidence)
    assert verdict.cause == cause
    assert verdict.value == pytest.approx(value, nan_ok=True)


def test_what_came_in_damaged_goes_before_what_attention_did() -> None:
    both = Evidence(nan=("query",), infinite=("key",), limit=HALF, empty_rows=2, num_bad=4)
    assert fault_of(both).cause == "upstream"


def test_a_product_goes_up_to_the_largest_number_and_not_beyond() -> None:
    assert fault_of(Evidence(product=HALF, limit=HALF)).cause == "unexplained"
    assert fault_of(Evidence(product=HALF + 32, limit=HALF)).cause == "score_overflow"


def reading(**changed: float | None) -> Reading:
    healthy = {"product": 100.0, "limit": HALF, "score": 12.0, "growth": 1.0, "saturated": 0.0}
    return Reading(**{**healthy, **changed})


@pytest.mark.parametrize(
    ("causes", "given"),
    [
        ([], {}),
        ([], {"growth": 1.2}),  # warm-up: growth far below any concern
        ([], {"score": 99.0, "growth": 1.5}),
        ([], {"score": 400.0}),  # large, as some pretrained models are, and steady
        ([], {"score": 400.0, "growth": 1.0001}),  # doubles after 6,932 steps
        (["growing_scores"], {"score": 101.0, "growth": 1.01}),
        (["growing_scores"], {"score": 10_001.0}),
        ([], {"product": 0.25 * HALF, "growth": 1.1}),
        (["headroom"], {"product": 0.26 * HALF, "growth": 1.1}),
        ([], {"product": 0.26 * HALF}),  # near, and going nowhere
        ([], {"product": 0.26 * HALF, "growth": 1.001}),  # reaches the end after 1,348 steps
        (["headroom"], {"product": 0.51 * HALF}),
        ([], {"product": None}),
        ([], {"saturated": 1.0}),  # sharp by intent
        (["saturated_softmax"], {"saturated": 0.9, "score": 51.0}),
        ([], {"saturated": 0.89, "score": 51.0}),
    ],
)
def test_warnings_begin_where_the_limits_say(causes: list[str], given: dict[str, float | None]) -> None:
    assert [verdict.cause for verdict in warnings_of(reading(**given), LIMITS)] == causes


def test_steady_growth_is_found_in_noise_and_behind_wild_steps() -> None:
    steps = list(range(0, 128, 4))
    values = [50 * 1.01**step * (1.05 if step % 8 else 0.95) for step in steps]
    for wild in (5, 17, 28):
        values[wild] *= 30
    assert growth(steps, values) == pytest.approx(1.01, abs=0.002)


@pytest.mark.parametrize(
    "values",
    [
        [100.0] * 32,
        [100.0 + 30 * math.sin(at) for at in range(32)],
        [100.0 * 0.97**at for at in range(32)],
        [50.0] * 16 + [150.0] * 16,  # a step is no trend: the middle third must lie between
        [100.0 * 1.5**at for at in range(8)],  # too few
        [math.nan] * 32,
    ],
)
def test_no_growth_is_found_where_there_is_none(values: list[float]) -> None:
    assert growth(range(len(values)), values) <= 1.0 or values[0] == 50.0


def test_calls_of_one_step_are_one_observation() -> None:
    trend = Trend()
    for step in (1, 2):
        trend.add(step, [3.0, 5.0])
        trend.add(step, [4.0, 1.0])
    assert list(trend.steps) == [1, 2]
    assert (trend.of(0), trend.of(1)) == ([4.0, 4.0], [5.0, 5.0])


def test_an_alarm_is_told_once_until_it_has_been_quiet_for_eight_looks() -> None:
    alarms = Alarms()
    assert alarms.look("one", "headroom", [2, 0]) == (0, 2)
    assert alarms.look("one", "headroom", [2, 3]) == (3,)
    for _ in range(7):
        assert alarms.look("one", "headroom", ()) == ()
    assert alarms.look("one", "headroom", [2]) == ()
    for _ in range(8):
        assert alarms.look("one", "headroom", ()) == ()
    assert alarms.look("one", "headroom", [2]) == (2,)
    assert alarms.look("other", "headroom", [2]) == (2,), "another layer is another alarm"
    assert alarms.look("one", "empty_row", [2]) == (2,), "another cause as well"


@pytest.mark.parametrize("cause", [*FAULTS, *WARNINGS])
def test_every_cause_has_one_sentence_with_a_remedy(cause: str) -> None:
    evidence = Evidence(nan=("query",), infinite=("key",), limit=HALF, num_bad=3)
    around = Circumstances(dtype="float16", evidence=evidence, origin="somewhere")
    verdict = fault_of(evidence)
    said = say("Step 3, layer a, head 1", type(verdict)(cause=cause, value=7.0, limit=HALF), around)
    assert said.startswith("Step 3, layer a, head 1: ")
    assert said.endswith(".")
    assert ";" in said, "what to do stands behind a semicolon"


@pytest.mark.parametrize("wrong", [{"headroom": 0.0}, {"horizon": -1}, {"max_score": math.nan}])
def test_limits_must_be_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match="positive numbers"):
        GuardLimits(**wrong)


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"at most 1, got saturated_share=1\.5"):
        GuardLimits(saturated_share=1.5)
