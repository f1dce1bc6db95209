"""Summaries merge to the same answer however the rows are grouped."""

import pickle

import pytest
import torch

from regard._errors import ArgumentError
from regard.observe import moments as implementation
from regard.observe.moments import Moments

GENERATOR = torch.Generator().manual_seed(0)
VALUES = torch.randn(2, 6, 3, 5, generator=GENERATOR)
COUNTED = torch.rand(6, 1, 5, generator=GENERATOR) > 0.3
EMPTY = torch.zeros(6, 1, 5, dtype=torch.bool)
NAMES = ("num_rows", "num_empty", "population", "total", "squares", "minimum", "maximum")
OF_SEQUENCES = ("num_sequences", "sequence_minimum", "sequence_maximum", "sequence_std", "sequence_share")


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
    for name in NAMES + OF_SEQUENCES:
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


def sequence_means(statistic: int, head: int) -> torch.Tensor:
    found = [VALUES[statistic, one, head][COUNTED[one, 0]].double() for one in range(6)]
    return torch.stack([rows_of_one.mean() for rows_of_one in found if len(rows_of_one)])


def test_sequences_are_summarised_by_the_means_of_their_rows() -> None:
    whole = summary(slice(None))
    for statistic in range(2):
        for head in range(3):
            means = sequence_means(statistic, head)
            found = {name: getattr(whole, name)[statistic, head].item() for name in OF_SEQUENCES}
            assert found["num_sequences"] == len(means)
            assert found["sequence_minimum"] == pytest.approx(means.min().item(), abs=1e-12)
            assert found["sequence_maximum"] == pytest.approx(means.max().item(), abs=1e-12)
            assert found["sequence_std"] == pytest.approx(means.std().item(), abs=1e-12)


def test_the_share_of_sequences_is_the_variance_between_them_out_of_all() -> None:
    whole = summary(slice(None))
    for statistic in range(2):
        for head in range(3):
            values = rows(statistic, head)
            numbers = COUNTED.sum((1, 2))
            means = sequence_means(statistic, head).repeat_interleave(numbers[numbers > 0])
            expected = (means - values.mean()).square().sum() / (values - values.mean()).square().sum()
            assert whole.sequence_share[statistic, head].item() == pytest.approx(expected.item(), rel=1e-9)


def of(values: torch.Tensor, counted: torch.Tensor | None = None) -> Moments:
    counted = torch.ones(1, 1, values.shape[3], dtype=torch.bool) if counted is None else counted
    num_all = int(counted.sum()) * (values.shape[1] // counted.shape[0])
    return Moments.of(values, counted, torch.zeros_like(counted), num_all=num_all)


def test_the_share_is_one_for_constant_sequences_and_zero_for_equal_ones() -> None:
    constant = torch.arange(3.0)[None, :, None, None].expand(1, 3, 1, 4)
    assert of(constant).sequence_share.item() == 1
    equal = torch.arange(4.0).expand(1, 3, 1, 4)
    assert of(equal).sequence_share.item() == 0


@pytest.mark.parametrize("batch", [0, 1])
def test_fewer_than_two_sequences_have_no_spread(batch: int) -> None:
    found = of(torch.randn(2, batch, 3, 5))
    assert found.sequence_std.isnan().all()
    assert found.sequence_share.isnan().all()
    assert found.sequence_minimum.isnan().any() == (batch == 0)


@pytest.mark.parametrize("shape", [(2, 0, 3, 5), (2, 1, 3, 0)])
def test_a_call_without_rows_adds_nothing(shape: tuple[int, ...]) -> None:
    every = torch.ones(1, 1, shape[3], dtype=torch.bool)
    nothing = Moments.of(torch.empty(shape), every, ~every, num_all=0, quantiles=True)
    assert nothing.quantiles is not None
    assert nothing.quantiles.isnan().all()
    whole = summary(slice(None))
    assert torch.equal(nothing.merge(whole).sums, whole.sums)
    assert torch.equal(nothing.merge(whole).lows, whole.lows)


def test_a_share_is_not_made_of_rounding_nor_of_single_rows() -> None:
    almost = torch.full((1, 4, 1, 8), 1 / 3) + 1e-8 * torch.randn(1, 4, 1, 8)
    assert of(almost).sequence_share.isnan().all()
    assert of(torch.randn(1, 4, 1, 1)).sequence_share.isnan().all()


def test_statistics_of_whole_sequences_have_one_row_each() -> None:
    values = torch.randn(2, 4, 3, 1)
    found = of(values)
    torch.testing.assert_close(found.mean, values[..., 0].double().mean(1))
    torch.testing.assert_close(found.sequence_std, values[..., 0].double().std(1))


def test_places_that_fill_up_a_sequence_do_not_count() -> None:
    values = torch.randn(1, 2, 1, 4)
    counted = torch.tensor([[True, True, True, True], [True, False, True, False]])[:, None]
    filled = of(values.masked_fill(~counted, 1e30), counted)
    first, second = values[0, 0, 0], values[0, 1, 0, ::2]
    assert filled.num_rows.item() == 6
    assert filled.mean.item() == pytest.approx(torch.cat([first, second]).mean().item(), rel=1e-6)
    assert filled.sequence_maximum.item() == pytest.approx(max(first.mean().item(), second.mean().item()), rel=1e-6)


def test_a_population_is_the_same_exact_share_of_each_statistic() -> None:
    values = torch.randn(2, 1, 1, 3)
    values[1, :, :, 0] = torch.nan
    every = torch.ones(1, 1, 3, dtype=torch.bool)
    for number in (7, torch.tensor(7)):
        found = Moments.of(values, every, ~every, num_all=number)
        assert found.population.flatten().tolist() == pytest.approx([7.0, 14 / 3], rel=1e-15)


def test_infinite_values_stay_infinite() -> None:
    found = of(torch.tensor([1.0, torch.inf]).reshape(1, 1, 1, 2))
    assert (found.mean.item(), found.minimum.item(), found.maximum.item()) == (torch.inf, 1, torch.inf)


def test_statistics_summarised_a_few_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = summary(slice(None))
    monkeypatch.setattr(implementation, "_AT_ONCE", 1)
    for name in NAMES + OF_SEQUENCES:
        assert torch.equal(getattr(summary(slice(None)), name), getattr(whole, name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_left_as_they_were(dtype: torch.dtype) -> None:
    values = VALUES.to(dtype)
    before = values.clone()
    Moments.of(values, COUNTED, EMPTY, num_all=100, quantiles=True)
    assert torch.equal(values, before)


def test_any_grouping_sums_to_the_same() -> None:
    each = [summary(slice(one, one + 1)) for one in range(6)]
    whole = summary(slice(None))
    left, right = Moments.sum(each), Moments.sum([Moments.sum(each[:2]), Moments.sum(each[2:])])
    for name in NAMES + OF_SEQUENCES:
        torch.testing.assert_close(getattr(left, name), getattr(whole, name), atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(getattr(right, name), getattr(whole, name), atol=1e-12, rtol=1e-12)


def test_no_summary_has_no_sum() -> None:
    with pytest.raises(ArgumentError, match="needs at least one summary, got none"):
        Moments.sum([])


def test_plain_tensors_carry_everything_to_another_rank() -> None:
    whole = summary(slice(None), quantiles=True)
    plain = whole.to_dict()
    assert all(isinstance(tensor, torch.Tensor) for tensor in plain.values())
    again = Moments.from_dict(plain)
    for name in (*NAMES, *OF_SEQUENCES, "quantiles"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    assert torch.equal(whole.cpu().quantiles, whole.quantiles)
    assert torch.equal(pickle.loads(pickle.dumps(whole)).mean, whole.mean)


def test_other_tensors_are_refused() -> None:
    plain = summary(slice(None)).to_dict()
    for wrong in ({"sums": plain["sums"]}, {**plain, "more": plain["sums"]}, {**plain, "lows": plain["sums"]}, {}):
        with pytest.raises(ArgumentError, match="A summary needs sums"):
            Moments.from_dict(wrong)


def test_one_statistic_keeps_its_quantiles() -> None:
    whole = summary(slice(None), quantiles=True)
    one = whole.pick(1)
    assert torch.equal(one.mean, whole.mean[1:])
    assert torch.equal(one.quantiles, whole.quantiles[:, 1:])


def test_a_sequence_without_rows_has_no_mean() -> None:
    values = torch.tensor([[3.0, 4.0], [5.0, 6.0]])[None, :, None]
    counted = torch.tensor([[True, True], [False, False]])[:, None]
    for sign in (1, -1):
        found = of(sign * values, counted)
        assert found.num_sequences.item() == 1
        assert found.sequence_minimum.item() == found.sequence_maximum.item() == sign * 3.5
