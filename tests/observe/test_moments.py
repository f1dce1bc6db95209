"""Summaries merge to the same answer however the rows are grouped."""

import pytest
import torch

from regard.observe import Moments

GENERATOR = torch.Generator().manual_seed(0)
VALUES = torch.randn(2, 6, 3, 5, generator=GENERATOR)
COUNTED = torch.rand(6, 1, 5, generator=GENERATOR) > 0.3
EMPTY = torch.zeros(6, 1, 5, dtype=torch.bool)
NAMES = ("num_rows", "num_empty", "population", "total", "squares", "minimum", "maximum")


def summary(chosen: slice, *, quantiles: bool = False) -> Moments:
    counted = COUNTED[chosen]
    return Moments.of(VALUES[:, chosen], counted, EMPTY[chosen], num_all=int(counted.sum()), quantiles=quantiles)


def rows(statistic: int, head: int) -> torch.Tensor:
    return VALUES[statistic, :, head][COUNTED[:, 0]].double()


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_parts_merge_to_the_whole(cut: int) -> None:
    whole = summary(slice(None))
    merged = summary(slice(0, cut)).merge(summary(slice(cut, None)))
    swapped = summary(slice(cut, None)).merge(summary(slice(0, cut)))
    for name in NAMES:
        torch.testing.assert_close(getattr(merged, name), getattr(whole, name), atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(getattr(swapped, name), getattr(whole, name), atol=1e-12, rtol=1e-12)


def test_mean_and_extremes_are_those_of_the_counted_rows() -> None:
    whole = summary(slice(None))
    for statistic in range(2):
        for head in range(3):
            counted = rows(statistic, head)
            assert whole.mean[statistic, head].item() == pytest.approx(counted.mean().item(), abs=1e-7)
            assert whole.minimum[statistic, head].item() == counted.min().item()
            assert whole.maximum[statistic, head].item() == counted.max().item()


def test_all_rows_have_no_standard_error() -> None:
    assert torch.equal(summary(slice(None)).standard_error, torch.zeros(2, 3, dtype=torch.float64))


def test_standard_error_is_that_of_sampling_without_replacement() -> None:
    few = Moments.of(VALUES, COUNTED, EMPTY, num_all=100)
    counted = rows(0, 0)
    number = len(counted)
    expected = counted.std() / number**0.5 * (1 - number / 100) ** 0.5
    assert few.standard_error[0, 0].item() == pytest.approx(expected.item(), rel=1e-6)


def test_quantiles_are_values_of_the_nearest_rank() -> None:
    found = summary(slice(None), quantiles=True).quantiles
    assert found is not None
    for head in range(3):
        ordered = rows(1, head).sort().values
        picks = [round((len(ordered) - 1) * share) for share in (0.1, 0.5, 0.9)]
        assert found[:, 1, head].tolist() == ordered[picks].tolist()


def test_undefined_values_and_empty_rows_are_left_out_and_counted() -> None:
    values = torch.tensor([1.0, torch.nan, 3.0]).reshape(1, 1, 1, 3)
    empty = torch.tensor([False, True, False]).reshape(1, 1, 3)
    found = Moments.of(values, torch.ones(1, 1, 3, dtype=torch.bool), empty, num_all=3)
    assert (found.num_rows.item(), found.num_empty.item(), found.mean.item()) == (2, 1, 2.0)
    assert found.standard_error.item() == 0


def test_no_row_has_no_mean() -> None:
    nothing = Moments.of(VALUES, torch.zeros(6, 1, 5, dtype=torch.bool), EMPTY, num_all=0, quantiles=True)
    assert nothing.mean.isnan().all()
    assert nothing.quantiles is not None
    assert nothing.quantiles.isnan().all()
    torch.testing.assert_close(nothing.merge(summary(slice(None))).mean, summary(slice(None)).mean)
