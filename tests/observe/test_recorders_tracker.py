"""A tracker is told what the model did, step by step, in the thread that runs the model."""

import threading

import pytest
import torch

from regard._errors import ArgumentError
from regard.modules import MultiHeadAttention
from regard.observe import Moments, Recorder, TrackerRecorder, watch

Told = list[tuple[int, dict[str, float]]]


def summary(*heads: float) -> Moments:
    """One statistic of two rows a head; a NaN is a head in which no row counted."""
    rows = torch.tensor(heads).reshape(1, 1, -1, 1).expand(1, 1, len(heads), 2)
    every = torch.ones(1, 1, 2, dtype=torch.bool)
    return Moments.of(rows.clone(), every, ~every, num_all=2)


def recorder_of(told: Told, **options: object) -> TrackerRecorder:
    return TrackerRecorder(lambda metrics, step: told.append((step, metrics)), **options)  # type: ignore[arg-type]


def test_each_step_is_told_once_with_the_mean_over_heads_of_every_layer() -> None:
    told: Told = []
    with recorder_of(told) as recorder:
        assert isinstance(recorder, Recorder)
        recorder.add(1, "a.0", ("entropy",), summary(1.0, 3.0))
        recorder.add(1, "a.1", ("entropy",), summary(5.0, 7.0))
        recorder.add(1, "a.0", ("entropy",), summary(2.0, 6.0))
        assert told == []
        recorder.add(2, "a.0", ("entropy",), summary(0.5, 0.5))
        assert told == [(1, {"entropy/a.0/mean": 3.0, "entropy/a.1/mean": 6.0})]
    assert told[1:] == [(2, {"entropy/a.0/mean": 0.5})]
    recorder.close()
    assert len(told) == 2


def test_metrics_are_what_the_view_says() -> None:
    told: Told = []
    model = torch.nn.ModuleDict({"attention": MultiHeadAttention(16, 4)})
    model.forward = lambda x: model["attention"](x)  # type: ignore[method-assign]
    recorder = recorder_of(told, heads=True)
    with watch(model, ["entropy", "max_weight"], recorder=recorder) as view:
        model(torch.randn(2, 7, 16))
    recorder.flush()
    expected = {}
    for name, heads in view["attention"].items():
        expected |= {f"{name}/attention/head{head}": value for head, value in enumerate(heads.tolist())}
        expected[f"{name}/attention/mean"] = heads.mean().item()
    assert told == [(1, pytest.approx(expected, rel=1e-12))]


def test_what_is_no_number_is_left_out() -> None:
    told: Told = []
    with recorder_of(told, heads=True) as recorder:
        recorder.add(1, "a", ("entropy",), summary(torch.nan, 3.0))
        recorder.add(1, "b", ("entropy",), summary(torch.nan, torch.nan))
        recorder.add(1, "c", ("entropy",), summary(torch.inf, 1.0))
    assert told == [(1, {"entropy/a/mean": 3.0, "entropy/a/head1": 3.0, "entropy/c/head1": 1.0})]


def test_a_statistic_is_told_when_enough_steps_have_passed_since_it_was() -> None:
    told: Told = []
    with recorder_of(told, every=4) as recorder:
        for step in range(1, 12):
            recorder.add(step, "a", ("entropy",), summary(1.0))
            if (step - 1) % 3 == 0:  # a statistic with an interval of its own
                recorder.add(step, "a", ("distance",), summary(2.0))
    steps = {name: [step for step, metrics in told if f"{name}/a/mean" in metrics] for name in ("entropy", "distance")}
    assert steps == {"entropy": [1, 5, 9], "distance": [1, 7]}


def test_what_comes_late_is_told_under_its_own_step() -> None:
    told: Told = []
    with recorder_of(told) as recorder:
        for step in (1, 2, 3):
            recorder.add(step, "a", ("entropy",), summary(float(step)))
        recorder.add(1, "a", ("qk_gradient",), summary(8.0))
        recorder.add(1, "b", ("entropy",), summary(9.0))
    assert told == [
        (1, {"entropy/a/mean": 1.0}),
        (2, {"entropy/a/mean": 2.0}),
        (1, {"qk_gradient/a/mean": 8.0, "entropy/b/mean": 9.0}),
        (3, {"entropy/a/mean": 3.0}),
    ]


def test_the_tracker_is_called_in_the_thread_that_runs_the_model() -> None:
    threads = []
    recorder = TrackerRecorder(lambda metrics, step: threads.append(threading.current_thread()))
    recorder.add(1, "a", ("entropy",), summary(1.0))
    recorder.close()
    assert threads == [threading.main_thread()]


def test_what_the_tracker_raises_is_raised_and_told_no_second_time() -> None:
    told: Told = []

    def log(metrics: dict[str, float], step: int) -> None:
        told.append((step, metrics))
        if step == 1:
            raise ConnectionError("the tracker is away")

    recorder = TrackerRecorder(log)
    recorder.add(1, "a", ("entropy",), summary(1.0))
    with pytest.raises(ConnectionError, match="the tracker is away"):
        recorder.add(2, "a", ("entropy",), summary(2.0))
    recorder.add(2, "a", ("entropy",), summary(2.0))
    recorder.close()
    assert [step for step, _ in told] == [1, 2]


def test_the_model_itself_has_no_empty_part_in_its_names() -> None:
    told: Told = []
    with recorder_of(told) as recorder:
        recorder.add(1, "", ("entropy",), summary(1.0))
    assert told == [(1, {"entropy/mean": 1.0})]


def test_an_interval_below_one_step_is_refused() -> None:
    with pytest.raises(ArgumentError, match="every must be a positive number of steps, got 0"):
        TrackerRecorder(print, every=0)
