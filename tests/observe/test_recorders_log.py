"""Statistics in the log: a line a layer, a line a head where asked for, warnings for alerts only."""

import logging
import math

import pytest
import torch
from torch import nn

from regard import logs
from regard.modules import MultiHeadAttention
from regard.observe import View, watch
from regard.observe.moments import Moments
from regard.observe.recorders import LogRecorder, Recorder

LAYERS, HEADS, STEPS = 3, 4, 5


class Stack(nn.Module):
    """Attention layers in a row, each called ``calls`` times."""

    def __init__(self, calls: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MultiHeadAttention(16, HEADS) for _ in range(LAYERS))
        self.calls = calls

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            for _ in range(self.calls):
                values = layer(values)
        return values


def watched(level: int, caplog: pytest.LogCaptureFixture, *, calls: int = 1) -> tuple[View, LogRecorder]:
    torch.manual_seed(0)
    model = Stack(calls).eval()
    recorder = LogRecorder()
    with (
        caplog.at_level(level, "regard.watch"),
        watch(model, ["entropy", "max_weight"], recorder=recorder) as view,
        torch.no_grad(),
    ):
        for _ in range(STEPS):
            model(torch.randn(2, 7, 16))
        recorder.close()
    return view, recorder


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[dict]:
    return [logs.fields_of(record) for record in caplog.records if record.getMessage() == event]


def of(values: list[list[float]]) -> Moments:
    """Return moments of one statistic: a list of row values for each head; NaN rows are empty."""
    tensor = torch.tensor(values, dtype=torch.float64)[None, None]
    counted = torch.ones(1, 1, tensor.shape[-1], dtype=torch.bool)
    return Moments.of(tensor, counted, tensor[0].isnan(), num_all=tensor.shape[-1])


def test_it_is_a_recorder():
    assert isinstance(LogRecorder(), Recorder)


def test_debug_has_a_line_per_layer_head_and_step_and_info_one_per_layer_and_step(caplog):
    watched(logging.DEBUG, caplog)

    assert [record.levelname for record in caplog.records].count("DEBUG") == LAYERS * HEADS * STEPS
    assert [record.levelname for record in caplog.records].count("INFO") == LAYERS * STEPS
    assert len(caplog.records) == LAYERS * STEPS * (HEADS + 1)
    assert {(f["step"], f["layer"], f["head"]) for f in told(caplog, "head")} == {
        (step, f"layers.{layer}", head)
        for step in range(1, STEPS + 1)
        for layer in range(LAYERS)
        for head in range(HEADS)
    }


@pytest.mark.parametrize(("level", "lines"), [(logging.INFO, LAYERS * STEPS), (logging.WARNING, 0)])
def test_a_higher_level_has_fewer_lines(level, lines, caplog):
    watched(level, caplog)

    assert len(caplog.records) == lines


def test_calls_of_one_layer_in_one_step_are_one_line(caplog):
    watched(logging.INFO, caplog, calls=2)

    assert len(caplog.records) == LAYERS * STEPS
    assert {fields["rows"] for fields in told(caplog, "layer")} == {2 * 2 * 7}


def test_lines_hold_the_means_of_the_view(caplog):
    view, _ = watched(logging.DEBUG, caplog)
    for layer in view.layers:
        heads = [fields for fields in told(caplog, "head") if fields["layer"] == layer]
        layers = [fields for fields in told(caplog, "layer") if fields["layer"] == layer]
        for name in ("entropy", "max_weight"):
            over_steps = torch.tensor([[f[name] for f in heads if f["head"] == head] for head in range(HEADS)]).mean(1)
            torch.testing.assert_close(over_steps.double(), view[layer][name], rtol=1e-6, atol=0)
            for line in layers:
                of_step = [fields[name] for fields in heads if fields["step"] == line["step"]]
                assert line[name] == pytest.approx(sum(of_step) / HEADS, rel=1e-12)


def test_fields_stand_in_one_order(caplog):
    watched(logging.DEBUG, caplog)

    assert list(told(caplog, "layer")[0]) == ["step", "layer", "heads", "rows", "empty_rows", "entropy", "max_weight"]
    assert list(told(caplog, "head")[0]) == ["step", "layer", "head", "rows", "empty_rows", "entropy", "max_weight"]


def test_a_step_is_told_when_the_next_begins(caplog):
    recorder = LogRecorder()
    with caplog.at_level("INFO", "regard.watch"):
        recorder.add(1, "a", ("entropy",), of([[1.0, 2.0]]))
        assert caplog.records == []
        recorder.add(2, "a", ("entropy",), of([[1.0, 2.0]]))
        assert [fields["step"] for fields in told(caplog, "layer")] == [1]
        recorder.add(1, "b", ("entropy",), of([[1.0, 2.0]]))
        recorder.close()
        recorder.close()

    assert [(fields["step"], fields["layer"]) for fields in told(caplog, "layer")] == [(1, "a"), (2, "a"), (1, "b")]


def test_statistics_that_come_apart_are_one_line(caplog):
    recorder = LogRecorder()
    with caplog.at_level("INFO", "regard.watch"):
        recorder.add(1, "a", ("entropy",), of([[1.0, 2.0]]))
        recorder.add(1, "a", ("received_gini",), of([[0.5]]))
        recorder.flush()

    assert told(caplog, "layer") == [
        {"step": 1, "layer": "a", "heads": 1, "rows": 2, "empty_rows": 0, "entropy": 1.5, "received_gini": 0.5}
    ]


def test_a_head_without_rows_is_nan_and_does_not_enter_the_mean_of_its_layer(caplog):
    recorder = LogRecorder()
    with caplog.at_level("DEBUG", "regard.watch"):
        recorder.add(1, "a", ("entropy",), of([[1.0, 3.0], [math.nan, math.nan]]))
        recorder.flush()
    (layer,), heads = told(caplog, "layer"), told(caplog, "head")

    assert (layer["entropy"], layer["rows"], layer["empty_rows"]) == (2.0, 2, 2)
    assert [head["rows"] for head in heads] == [2, 0]
    assert math.isnan(heads[1]["entropy"])


def test_nothing_is_kept_where_nobody_listens(caplog):
    recorder = LogRecorder()
    with caplog.at_level("WARNING", "regard.watch"):
        recorder.add(1, "a", ("entropy",), of([[1.0]]))
    with caplog.at_level("DEBUG", "regard.watch"):
        recorder.flush()

    assert caplog.records == []


def test_alerts_and_nothing_else_are_warnings(caplog):
    _, recorder = watched(logging.DEBUG, caplog)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    recorder.alert(7, "layers.0", 3, "entropy", "entropy fell below its floor", value=0.01)

    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "alert")
    assert logs.fields_of(record) == {
        "step": 7,
        "layer": "layers.0",
        "head": 3,
        "statistic": "entropy",
        "reason": "entropy fell below its floor",
        "value": 0.01,
    }


def test_another_logger_may_be_named(caplog):
    recorder = LogRecorder(logging.getLogger("mine"))
    with caplog.at_level("INFO", "mine"):
        recorder.add(1, "a", ("entropy",), of([[1.0]]))
        recorder.flush()

    assert [record.name for record in caplog.records] == ["mine"]
