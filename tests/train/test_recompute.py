"""Recomputed blocks give the same gradients, and keep less for them."""

import pytest
import torch
from torch import nn

from regard import RegardError, watch
from regard.modules import FeedForward, MultiHeadAttention, ResidualAttention
from regard.train.recompute import recompute_blocks


def stack() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(ResidualAttention(MultiHeadAttention(16, 2), FeedForward(16, 64), dropout_p=0.3) for _ in range(3))
    )


def gradients(model: nn.Module) -> list[torch.Tensor]:
    torch.manual_seed(1)
    model(torch.randn(2, 9, 16)).square().sum().backward()
    found = [parameter.grad for parameter in model.parameters()]
    assert all(grad is not None for grad in found)
    return [grad for grad in found if grad is not None]


def kept_numbers(model: nn.Module) -> int:
    """Return how many numbers a forward pass keeps for the backward pass, parameters left out."""
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.randn(2, 9, 16, requires_grad=True))
    return sum(kept.values())


def test_gradients_are_the_same_to_the_bit_with_dropout() -> None:
    plain, again = stack(), stack()
    assert recompute_blocks(again) == 3
    for one, other in zip(gradients(plain), gradients(again), strict=True):
        assert torch.equal(one, other)


def test_only_the_inputs_of_blocks_are_kept() -> None:
    plain, again = stack(), stack()
    recompute_blocks(again)
    inputs = 3 * 2 * 9 * 16
    assert kept_numbers(again) <= inputs
    assert kept_numbers(plain) > 10 * inputs


def test_each_layer_is_still_seen() -> None:
    model = stack()
    recompute_blocks(model)
    with watch(model, ["entropy"]) as view:
        gradients(model)
    assert [entry.seen for entry in view.coverage()] == [True] * 3
    assert {row["num_rows"] for row in view.table()} == {2 * 9}


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(RegardError, match="Transformer blocks, got Linear without"):
        recompute_blocks(nn.Linear(2, 2))
