import numpy as np
import pytest

from regard._errors import ArgumentError
from regard.evaluate import block_counts


def counts(*arguments, **options):
    return np.concatenate(list(block_counts(*arguments, **options)), 1)


def test_each_resample_draws_as_many_rows_as_there_are():
    found = counts(50, 7, num_resamples=20)

    assert found.shape == (50, 20)
    assert set(found.sum(0)) == {50}


def test_rows_are_drawn_in_stretches():
    """With one block as long as the series each row is drawn once; with two, the counts change at few places."""
    assert set(counts(30, 30, num_resamples=5).ravel()) == {1}
    two = counts(30, 15, num_resamples=50)
    changes = (two != np.roll(two, 1, 0)).sum(0)
    assert changes.max() <= 4


def test_every_row_is_drawn_as_often():
    mean = counts(40, 9, num_resamples=20_000).mean(1)

    np.testing.assert_allclose(mean, 1, atol=5 * np.sqrt(9 / 20_000))


def test_large_tables_come_in_parts_of_the_same_draws():
    parts = list(block_counts(500_000, 1000, num_resamples=20))

    assert len(parts) > 1
    assert sum(part.shape[1] for part in parts) == 20


def test_interval_covers_the_mean_of_a_series_that_remembers():
    """Of an autoregression the plain bootstrap's interval is several times too narrow, that of blocks is not."""
    generator = np.random.default_rng(1)
    hits = {1: 0, 60: 0}
    for _ in range(60):
        noise = generator.normal(size=1500)
        x = np.zeros(1500)
        for t in range(1, 1500):
            x[t] = 0.9 * x[t - 1] + noise[t]
        for block_len in hits:
            means = x @ counts(1500, block_len, num_resamples=200, seed=0) / 1500
            low, high = np.quantile(means, [0.025, 0.975])
            hits[block_len] += low < 0 < high

    assert hits[1] < 35
    assert hits[60] > 48


@pytest.mark.parametrize(("rows", "block", "resamples"), [(5, 6, 1), (5, 0, 1), (5, 2, 0)])
def test_impossible_bootstraps_are_refused(rows, block, resamples):
    with pytest.raises(ArgumentError, match="needs a resample and a block of 1 to 5 rows"):
        list(block_counts(rows, block, num_resamples=resamples))
