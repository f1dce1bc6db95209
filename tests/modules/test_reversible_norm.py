import pytest
import torch

from regard._errors import ArgumentError
from regard.modules import ReversibleNorm


@pytest.mark.parametrize("num_channels", [None, 3])
def test_undo_puts_back_what_was_taken(num_channels):
    norm = ReversibleNorm(num_channels)
    if num_channels:
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.normal_(norm.bias)
    x = torch.randn(4, 20, 3) * 5 + 100

    normed, level = norm(x)

    torch.testing.assert_close(norm.undo(normed, level), x)


def test_each_channel_of_each_window_gets_mean_zero_and_variance_one():
    normed, _ = ReversibleNorm()(torch.randn(4, 20, 3) * torch.tensor([1.0, 10.0, 0.1]) + 7)

    torch.testing.assert_close(normed.mean(1), torch.zeros(4, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(1, correction=0), torch.ones(4, 3), atol=2e-3, rtol=0)


def test_constant_window_stays_finite():
    normed, level = ReversibleNorm()(torch.full((1, 5, 1), 3.0))

    assert normed.abs().max() == 0
    assert ReversibleNorm().undo(normed, level).unique().tolist() == [3.0]


def test_no_channel_is_refused():
    with pytest.raises(ArgumentError, match="num_channels must be at least 1"):
        ReversibleNorm(0)
