from itertools import chain

import numpy as np
import pytest

from regard._errors import ArgumentError, DataError
from regard.data import ForecastWindows, OriginBatches, Standardizer


def windows(rows, input_len=3, horizon=2):
    values = np.stack([np.arange(20.0), 100 + np.arange(20.0)], 1)
    return ForecastWindows.of(values, rows, input_len=input_len, horizon=horizon)


def test_training_windows_lie_within_their_rows():
    found = windows(range(8))

    assert found.origins.tolist() == [3, 4, 5, 6]
    assert found.inputs([0, 3])[:, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.targets([0, 3])[:, :, 1].tolist() == [[103, 104], [106, 107]]


def test_later_windows_read_back_but_forecast_their_own_rows():
    found = windows(range(8, 12))

    assert found.origins.tolist() == [8, 9, 10]
    assert found.inputs([0])[0, :, 0].tolist() == [5, 6, 7]
    assert found.targets([2])[0, :, 0].tolist() == [10, 11]


def test_number_of_windows_is_that_of_the_published_protocol():
    """Train, validation, test of 8,640, 2,880, 2,880 hours; 336 read, 96 forecast."""
    values = np.zeros((14400, 1))
    parts = [range(8640), range(8640, 11520), range(11520, 14400)]

    assert [len(ForecastWindows.of(values, part, input_len=336, horizon=96)) for part in parts] == [8209, 2785, 2785]


def test_too_short_a_split_is_refused():
    with pytest.raises(DataError, match="room for 2 rows to forecast behind 3 to read, got 4"):
        windows(range(4))
    with pytest.raises(ArgumentError, match="must be at least 1, got 3 and 0"):
        windows(range(8), horizon=0)


def test_scale_is_that_of_the_training_rows_alone():
    values = np.random.default_rng(0).normal(3, 2, (50, 2))
    scaler = Standardizer.of(values[:30], ["a", "b"])

    scaled = scaler.apply(values)

    np.testing.assert_allclose(scaled[:30].mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled[:30].std(0), 1)
    assert abs(scaled.mean()) > 1e-3
    np.testing.assert_allclose(scaler.undo(scaled), values)


def test_constant_channel_is_refused():
    with pytest.raises(DataError, match="one value throughout in b"):
        Standardizer.of(np.stack([np.arange(4.0), np.ones(4)], 1), ["a", "b"])


def test_epochs_hold_every_window_once_in_an_order_of_their_own():
    batches = OriginBatches(10, batch_size=4, seed=3)

    assert sorted(chain(*batches.batches(0))) == list(range(10))
    assert [len(batch) for batch in batches.batches(0)] == [4, 4, 2]
    assert batches.batches(1) == OriginBatches(10, batch_size=4, seed=3).batches(1) != batches.batches(0)
    with pytest.raises(ArgumentError, match="must be at least 1"):
        OriginBatches(0, batch_size=4)
