import pytest
import torch

from regard._errors import ArgumentError
from regard.modules import RecurrentLayers


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def by_hand(layers, x):
    """One layer of one row in one direction, a frame at a time, as the papers' formulas read."""
    weight, recurrent, bias, more = (
        getattr(layers, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    state = cell = torch.zeros(layers.hidden_size, dtype=x.dtype)
    states = []
    for frame in x:
        given, kept = weight @ frame + bias, recurrent @ state + more
        if isinstance(layers, torch.nn.LSTM):
            enter, forget, candidate, leave = (given + kept).chunk(4)
            cell = sigmoid(forget) * cell + sigmoid(enter) * torch.tanh(candidate)
            state = sigmoid(leave) * torch.tanh(cell)
        else:
            reset, update = sigmoid((given + kept)[: 2 * layers.hidden_size]).chunk(2)
            candidate = torch.tanh(given.chunk(3)[2] + reset * kept.chunk(3)[2])
            state = (1 - update) * candidate + update * state
        states.append(state)
    return torch.stack(states)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_computes_its_formula(cell):
    module = RecurrentLayers(3, 5, cell=cell).double()
    x = torch.randn(2, 6, 3, dtype=torch.float64)

    hidden, _ = module(x)

    torch.testing.assert_close(hidden, torch.stack([by_hand(module.layers, row) for row in x]))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize(
    "places",
    [[0, 1, 2, 3], [3, 4, 5, 6], [0, 2, 3, 6], [1, 2, 4, 5]],
    ids=["right", "left", "holes", "everywhere"],
)
def test_padding_changes_nothing(cell, bidirectional, num_layers, places):
    module = RecurrentLayers(3, 5, cell=cell, bidirectional=bidirectional, num_layers=num_layers).double()
    alone, other = torch.randn(4, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    padded = torch.full((7, 3), 1e3, dtype=torch.float64)
    padded[places] = alone
    keep = torch.zeros(2, 7, dtype=torch.bool)
    keep[0, places], keep[1] = True, True

    hidden, state = module(torch.stack([padded, other]), keep)

    expected, last = module(alone[None])
    torch.testing.assert_close(hidden[0, places], expected[0])
    assert hidden[0][~keep[0]].abs().max() == 0
    states = (state, last) if cell == "gru" else (state[0], last[0])
    torch.testing.assert_close(states[0][:, :1], states[1])
    torch.testing.assert_close(hidden[1], module(other[None])[0][0])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_going_on_from_a_state_equals_reading_at_once(cell):
    module, x = RecurrentLayers(3, 5, cell=cell, num_layers=2), torch.randn(2, 7, 3)
    whole, _ = module(x)

    first, state = module(x[:, :4])
    second, _ = module(x[:, 4:], state=state)

    torch.testing.assert_close(torch.cat([first, second], 1), whole)


def test_padding_gets_no_gradient():
    module, x = RecurrentLayers(3, 5), torch.randn(1, 4, 3, requires_grad=True)

    module(x, torch.tensor([[False, True, False, True]]))[0].sum().backward()

    assert x.grad[0, [0, 2]].abs().max() == 0
    assert x.grad[0, [1, 3]].abs().min() > 0


def test_row_of_padding_alone_is_refused():
    keep = torch.tensor([[True, True], [False, False]])

    with pytest.raises(ArgumentError, match="row 1 of the mask has none"):
        RecurrentLayers(3, 5)(torch.zeros(2, 2, 3), keep)


def test_state_of_a_network_that_reads_backwards_is_refused():
    module = RecurrentLayers(3, 5, bidirectional=True)
    _, state = module(torch.zeros(1, 2, 3))

    with pytest.raises(ArgumentError, match="cannot go on from a state"):
        module(torch.zeros(1, 2, 3), state=state)


def test_mask_of_another_shape_is_refused():
    with pytest.raises(ArgumentError, match=r"keep must be \(batch, len\) = \(1, 4\), got \(1, 3\)"):
        RecurrentLayers(3, 5)(torch.zeros(1, 4, 3), torch.ones(1, 3, dtype=torch.bool))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "rnn"}, r"cell must be one of \('gru', 'lstm'\), got 'rnn'"),
        ({"num_layers": 0}, "must be at least 1, got 3, 5, 0"),
        ({"dropout_p": 1.0}, "dropout_p must lie in"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ArgumentError, match=message):
        RecurrentLayers(3, 5, **wrong)
