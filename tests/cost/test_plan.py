"""Memory that is planned is memory that would be in use, and what is said to fit is the largest that does."""

import pytest
import torch
from torch import nn

from regard._errors import ArgumentError, UnsupportedError
from regard.cost import Holding, Workload, call_of, estimated, footprint, largest_that_fits, max_length, plan
from regard.models import Bert, BertConfig

FLOAT = 4


def linear(rows=1000, width=500):
    return nn.Linear(width, width, bias=False), rows


def test_inference_holds_weights_input_and_result():
    model, rows = linear()

    found = plan(Workload(model=model, inputs=call_of(model), length=rows))

    assert found.peak_bytes == FLOAT * (500 * 500 + 2 * rows * 500)
    assert found.held(Holding.WEIGHTS) == FLOAT * 500 * 500
    assert found.held(Holding.INPUTS) == FLOAT * rows * 500


def test_training_holds_two_moments_of_every_weight():
    model, rows = linear()

    found = plan(Workload(model=model, inputs=call_of(model), length=rows, trains=True))

    steps = FLOAT  # AdamW counts its steps in a tensor
    assert found.held(Holding.OPTIMIZER) == 2 * FLOAT * 500 * 500 + steps


def test_the_graph_of_a_gru_holds_as_many_nodes_as_autograd_makes():
    model = nn.GRU(8, 8, batch_first=True)

    def held(length, trains=True):
        found = plan(Workload(model=model, inputs=call_of(model, trains=trains), length=length, trains=trains))
        return found.held(Holding.GRAPH)

    def made(length):
        before = torch._C._autograd._get_sequence_nr()
        model(torch.zeros(1, length, 8))
        return torch._C._autograd._get_sequence_nr() - before

    assert held(40) - held(20) == footprint._NODE * (made(40) - made(20)) > 0
    assert held(40, trains=False) == 0


def test_nothing_is_computed_and_the_model_stays_as_it_is():
    with torch.device("meta"):
        model = Bert(BertConfig(vocab_size=50, embed_dim=32, num_heads=4, num_layers=2, feed_forward_dim=64))

    found = plan(Workload(model=model, inputs=call_of(model), length=64, trains=True))

    assert all(parameter.is_meta and parameter.grad is None for parameter in model.parameters())
    assert found.account.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    with pytest.raises(UnsupportedError, match="a model with weights"):
        estimated(found)


@pytest.mark.parametrize("vary", ["length", "batch"])
@pytest.mark.parametrize("trains", [False, True])
def test_largest_fits_and_a_little_more_does_not(layer, vary, trains):
    model = layer().train(trains)
    workload, limit = Workload(model=model, inputs=call_of(model), length=32, batch=2, trains=trains), 3_000_000

    size = largest_that_fits(workload, limit, vary=vary)

    def peak(number):
        sizes = {"length": workload.length, "batch": workload.batch, vary: number}
        return plan(Workload(model=model, inputs=workload.inputs, trains=trains, **sizes)).peak_bytes

    assert peak(size) <= limit < peak(size + max(1, size // 128))


def test_nothing_fits_where_the_weights_do_not(layer):
    model = layer()
    workload = Workload(model=model, inputs=call_of(model), length=32)

    assert largest_that_fits(workload, 1000, vary="length") == 0
    assert largest_that_fits(workload, 10**9, vary="length", most=100) == 100
    with pytest.raises(ArgumentError, match='"length" or "batch"'):
        largest_that_fits(workload, 1000, vary="width")


def test_positions_limit_the_length():
    model = Bert(BertConfig(vocab_size=50, embed_dim=32, num_heads=4, num_layers=1, feed_forward_dim=64, max_len=77))

    assert max_length(model) == 77
    assert max_length(nn.Linear(2, 2)) is None


def test_time_is_estimated_from_two_short_steps(layer):
    model = layer()

    found = estimated(plan(Workload(model=model, inputs=call_of(model), length=256)))

    assert found.seconds > 0
    assert found.lengths == (64, 256)


def test_more_tokens_than_positions_are_refused():
    model = Bert(BertConfig(vocab_size=9, embed_dim=8, num_heads=2, num_layers=1, feed_forward_dim=8, max_len=16))

    with pytest.raises(ArgumentError, match="within the 16 positions that model has, got 17"):
        plan(Workload(model=model, inputs=call_of(model), length=17))
