import pytest
import torch
from torch import nn

from regard._errors import ArgumentError
from regard.models import (
    Bert,
    BertConfig,
    BertForSequenceClassification,
    Recurrent,
    RecurrentConfig,
    RecurrentForSequenceClassification,
    count_parameters,
    width_for,
)


def recurrent(cell, width):
    config = RecurrentConfig(cell=cell, vocab_size=2000, embed_dim=64, hidden_dim=width, bidirectional=True)
    return RecurrentForSequenceClassification(Recurrent(config), 8)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_recurrent_network_gets_the_parameters_of_the_transformer(cell):
    config = BertConfig(vocab_size=2000, embed_dim=64, num_heads=4, num_layers=2, feed_forward_dim=256, max_len=64)
    wanted = count_parameters(BertForSequenceClassification(Bert(config), 8))

    width = width_for(wanted, lambda width: recurrent(cell, width))

    nearest = {near: abs(count_parameters(recurrent(cell, near)) / wanted - 1) for near in range(width - 2, width + 3)}
    assert min(nearest, key=nearest.get) == width
    assert nearest[width] < 0.05


def test_width_is_a_multiple_of_what_is_asked():
    assert width_for(10_000, lambda width: nn.Linear(width, width), multiple_of=8, tolerance=0.2) == 96


def test_making_models_to_count_them_draws_no_random_numbers():
    before = torch.get_rng_state()
    width_for(5_000, lambda width: recurrent("gru", width) if width > 9_999 else nn.Linear(width, width))

    assert torch.equal(before, torch.get_rng_state())


def test_shared_weights_count_once_and_frozen_ones_not():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[1].bias.requires_grad_(False)

    assert count_parameters(model) == 12


def test_unreachable_budget_says_how_near_it_comes():
    with pytest.raises(ArgumentError, match=r"1,000 parameters within 5 %, got 128,\d{3} at the nearest width 1"):
        width_for(1000, lambda width: recurrent("gru", width))


def test_wrong_tolerance_is_refused():
    with pytest.raises(ArgumentError, match="tolerance lie in"):
        width_for(10, lambda width: nn.Linear(width, 1), tolerance=1.5)
