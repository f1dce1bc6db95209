"""Gradient norms per layer, split into what reaches the scores and what reaches the values."""

import math

import pytest
import torch
from torch import nn

from regard.modules import MultiHeadAttention
from regard.train.gradients import GradientProbe


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(8, 2)
        self.after = nn.Linear(8, 8)


def test_norms_are_those_of_the_parameters() -> None:
    torch.manual_seed(0)
    model = nn.ModuleList([Layer(), Layer()])
    x = torch.randn(2, 5, 8)
    for layer in model:
        x = layer.after(layer.attention(x))
    x.square().sum().backward()
    layers = GradientProbe(model).read()
    assert [layer["layer"] for layer in layers] == ["0.attention", "1.attention"]

    def norm(*modules: nn.Module) -> float:
        grads = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
        return math.sqrt(sum(grad.double().square().sum().item() for grad in grads))

    first = model[0]
    assert layers[0]["qk"] == pytest.approx(norm(first.attention.query, first.attention.key), rel=1e-5)
    assert layers[0]["vo"] == pytest.approx(norm(first.attention.value, first.attention.output), rel=1e-5)
    assert layers[0]["all"] == pytest.approx(norm(first), rel=1e-5)


def test_without_gradients_the_norms_are_zero() -> None:
    assert GradientProbe(Layer()).read() == [{"layer": "attention", "qk": 0.0, "vo": 0.0, "all": 0.0}]
