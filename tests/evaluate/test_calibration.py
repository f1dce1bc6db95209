import numpy as np
import pytest

from regard.evaluate import calibration_error, reliability


def _by_hand(confidence, correct, num_bins):
    """Equation 3 of Guo et al., one bin after the other."""
    total = 0.0
    for m in range(1, num_bins + 1):
        inside = [i for i, c in enumerate(confidence) if (m - 1) / num_bins < c <= m / num_bins or (c == 0 and m == 1)]
        if inside:
            gap = np.mean([confidence[i] for i in inside]) - np.mean([correct[i] for i in inside])
            total += len(inside) / len(confidence) * abs(gap)
    return total


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_error_equals_the_formula(num_bins):
    generator = np.random.default_rng(0)
    confidence = np.concatenate([generator.random(500), np.arange(num_bins + 1) / num_bins])
    correct = generator.random(len(confidence)) < confidence**2
    expected = _by_hand(confidence, correct, num_bins)
    assert calibration_error(confidence, correct, num_bins=num_bins) == pytest.approx(expected, abs=1e-12)


def test_always_sure_and_always_right_is_calibrated():
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0


def test_always_sure_and_half_right_is_off_by_one_half():
    assert calibration_error(np.ones(4), np.array([True, False, True, False])) == 0.5


def test_counting_a_row_twice_equals_repeating_it():
    generator = np.random.default_rng(1)
    confidence, correct = generator.random(200), generator.random(200) < 0.6
    counts = generator.integers(0, 3, size=(200, 5)).astype(float)
    errors = calibration_error(confidence, correct, counts=counts)
    for i in range(5):
        repeats = counts[:, i].astype(int)
        expected = calibration_error(confidence.repeat(repeats), correct.repeat(repeats))
        assert errors[i] == pytest.approx(float(expected), abs=1e-12)


def test_bins_hold_every_row_once_and_empty_bins_have_no_mean():
    confidence = np.array([0.0, 1 / 15, 0.5, 0.51, 1.0])
    bins = reliability(confidence, np.array([False, False, True, False, True]))
    assert bins.num_rows.tolist() == [2, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1]
    np.testing.assert_array_equal(np.isnan(bins.confidence), bins.num_rows == 0)
    np.testing.assert_array_equal(np.isnan(bins.accuracy), bins.num_rows == 0)
    assert (bins.confidence[7], bins.accuracy[7]) == (pytest.approx(0.505), 0.5)
    assert (bins.low[0], bins.high[-1]) == (0, 1)
