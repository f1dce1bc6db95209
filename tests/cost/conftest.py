"""Small models of every kind that is counted."""

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def layer():
    """Return what makes a Transformer layer without dropout, its feed-forward four times as wide."""

    def make(width: int = 32, heads: int = 4) -> nn.Module:
        return nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True)

    return make
