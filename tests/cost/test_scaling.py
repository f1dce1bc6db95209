"""Slopes are those of the formulas, and lengths where one cost overtakes another are where the formulas meet."""

import pytest
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.cost import Part, crossover, scaling

LENGTHS = [128, 512, 2048, 8192]


def vectors(width):
    return lambda length: ([torch.empty(1, length, width, device="meta")], {})


@pytest.mark.parametrize("backward", [False, True])
def test_recurrent_cost_grows_linearly_and_the_core_with_the_square(layer, backward):
    lstm = scaling(nn.LSTM(64, 64, batch_first=True), vectors(64), lengths=LENGTHS, backward=backward)
    attention = scaling(layer(64), vectors(64), lengths=LENGTHS, backward=backward)

    assert lstm.growth[Part.RECURRENT].slope == pytest.approx(1.0, abs=0.05)
    assert attention.growth[Part.CORE].slope == pytest.approx(2.0, abs=0.05)
    assert attention.growth[Part.PROJECTIONS].slope == pytest.approx(1.0, abs=0.05)
    assert lstm.growth[Part.RECURRENT].deviation < 1e-9


@pytest.mark.parametrize("width", [32, 128, 768])
def test_core_overtakes_the_rest_at_six_widths(layer, width):
    found = scaling(layer(width), vectors(width), lengths=LENGTHS)

    assert found.overtakes(Part.CORE) == pytest.approx(6 * width, rel=1e-3)
    assert found.overtakes(Part.PROJECTIONS) is None


def test_attention_does_more_than_an_lstm_from_twice_the_width_on():
    attention = scaling(
        nn.MultiheadAttention(64, 4, batch_first=True),
        lambda length: ([torch.empty(1, length, 64, device="meta")] * 3, {"need_weights": False}),
        lengths=LENGTHS,
    )
    lstm = scaling(nn.LSTM(64, 64, batch_first=True), vectors(64), lengths=LENGTHS)

    assert crossover(attention, lstm) == pytest.approx(128, rel=1e-3)
    assert crossover(lstm, attention) is None


def test_one_length_has_no_slope(layer):
    with pytest.raises(ArgumentError, match="two different lengths"):
        scaling(layer(), vectors(32), lengths=[16, 16])
