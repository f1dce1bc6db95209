import math

import pytest
import torch

from regard._errors import ArgumentError
from regard.modules import FastDropout

LEVELS = 65536
RATES = [0.1, 0.25, 0.5, 0.9, 1 / LEVELS, 0.123]


def dropped(p, *shape):
    return FastDropout(p)(torch.ones(shape)) == 0


@pytest.mark.parametrize("p", RATES)
def test_drops_the_stated_share(p):
    num = 1 << 20

    share = dropped(p, num).double().mean().item()

    rounded = round(p * LEVELS) / LEVELS
    assert share == pytest.approx(rounded, abs=5 * math.sqrt(rounded * (1 - rounded) / num))


@pytest.mark.parametrize("lane", range(4))
def test_each_of_the_four_decisions_of_a_number_has_the_same_rate(lane):
    decisions = dropped(0.1, 1 << 20).view(-1, 4)[:, lane].double()

    assert decisions.mean().item() == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / len(decisions)))


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 64, 384])
def test_decisions_at_a_distance_are_uncorrelated(lag):
    noise = dropped(0.3, 1 << 20).double() - 0.3

    correlation = (noise[lag:] * noise[:-lag]).mean().item() / 0.21

    assert abs(correlation) < 5 / math.sqrt(len(noise) - lag)


@pytest.mark.parametrize("p", [0.1, 0.3])
def test_kept_values_are_scaled_by_the_rounded_rate(p):
    x = torch.ones(1000, dtype=torch.float64)

    out = FastDropout(p)(x)

    level = round(p * LEVELS)
    assert set(out.unique().tolist()) == {0.0, LEVELS / (LEVELS - level)}


def test_bfloat16_scale_is_not_rounded_within_the_mask():
    x = torch.full((1 << 12,), 1.0078125, dtype=torch.bfloat16)  # with 1/0.9 rounded first it would end elsewhere

    out = FastDropout(0.1)(x)

    exact = torch.tensor(1.0078125 * LEVELS / (LEVELS - 6554)).bfloat16()
    assert out.dtype == torch.bfloat16
    assert set(out.unique().tolist()) == {0.0, exact.item()}


def test_gradient_is_the_scaled_mask():
    x = torch.randn(37, dtype=torch.float64, requires_grad=True)

    out = FastDropout(0.4)(x)
    out.sum().backward()

    torch.testing.assert_close(x.grad * x, out)


def test_torch_seed_gives_the_same_mask():
    torch.manual_seed(7)
    first, next_one = dropped(0.5, 100), dropped(0.5, 100)
    torch.manual_seed(7)

    assert torch.equal(dropped(0.5, 100), first)
    assert not torch.equal(next_one, first)


def test_number_of_threads_does_not_change_the_mask():
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    first = dropped(0.5, 1 << 17)
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        torch.manual_seed(7)
        assert torch.equal(dropped(0.5, 1 << 17), first)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("num", [0, 1, 2, 3, 5, 7])
def test_any_number_of_elements(num):
    assert FastDropout(0.5)(torch.ones(num)).shape == (num,)


def test_evaluation_returns_the_input_itself():
    x = torch.randn(8)

    assert FastDropout(0.5).eval()(x) is x
    assert FastDropout(0.0)(x) is x


def test_not_a_number_stays_one():
    out = FastDropout(0.5)(torch.full((64,), torch.nan))

    assert out.isnan().all()


def test_other_devices_use_the_function_of_torch():
    assert FastDropout(0.5)(torch.empty(3, device="meta")).device.type == "meta"


@pytest.mark.parametrize("p", [-0.1, 1.0, 0.999999, math.nan])
def test_impossible_rate_is_refused(p):
    with pytest.raises(ArgumentError, match=r"must lie in \[0, 1\)"):
        FastDropout(p)
