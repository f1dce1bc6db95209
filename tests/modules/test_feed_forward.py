import pytest
import torch
import torch.nn.functional as F

from regard._errors import ArgumentError
from regard.modules import FeedForward


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "relu", "swiglu"])
def test_computes_its_formula(activation, bias):
    layer = FeedForward(6, 10, activation=activation, bias=bias).double()
    x = torch.randn(2, 3, 6, dtype=torch.float64)

    out = layer(x)

    hidden = x @ layer.hidden.weight.T + (layer.hidden.bias if bias else 0)
    if activation == "swiglu":
        gate = x @ layer.gate.weight.T + (layer.gate.bias if bias else 0)
        hidden = gate * torch.sigmoid(gate) * hidden
    elif activation == "relu":
        hidden = hidden.clamp(min=0)
    else:
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(out, F.linear(hidden, layer.output.weight, layer.output.bias))


def test_positions_do_not_see_each_other():
    layer = FeedForward(6, 10)
    x = torch.randn(1, 4, 6)

    torch.testing.assert_close(layer(x)[:, 2], layer(x[:, 2]))


def test_unknown_activation_is_refused():
    with pytest.raises(ArgumentError, match="activation must be"):
        FeedForward(6, 10, activation="tanh")


def test_empty_width_is_refused():
    with pytest.raises(ArgumentError, match="at least 1"):
        FeedForward(6, 0)
