"""The learning rate rises linearly and falls as it is told."""

import math

import pytest

from regard import RegardError
from regard.train import learning_rate_factor


def factors(kind: str, warmup: int = 2) -> list[float]:
    return [learning_rate_factor(kind, step, total=10, warmup=warmup) for step in range(1, 11)]


@pytest.mark.parametrize("kind", ["linear", "cosine", "inverse_sqrt"])
def test_it_rises_to_the_peak_and_then_falls(kind: str) -> None:
    found = factors(kind)
    assert found[:2] == [0.5, 1.0]
    assert found[1:] == sorted(found[1:], reverse=True)


def test_linear_and_cosine_end_before_zero() -> None:
    assert factors("linear")[-1] == pytest.approx(1 / 8)
    assert factors("cosine")[-1] == pytest.approx(0.5 * (1 - math.cos(math.pi / 8)))
    assert factors("cosine")[5] == pytest.approx(0.5 * (1 - math.cos(math.pi * 5 / 8)))


def test_noam_is_the_formula_of_the_paper() -> None:
    """d^-0.5 · min(step^-0.5, step · warmup^-1.5), over its peak at the end of the warm-up."""
    warmup = 4000
    for step in (1, 100, 4000, 16_000, 100_000):
        paper = 512**-0.5 * min(step**-0.5, step * warmup**-1.5)
        peak = 512**-0.5 * warmup**-0.5
        ours = learning_rate_factor("inverse_sqrt", step, total=100_000, warmup=warmup)
        assert ours == pytest.approx(paper / peak)


def test_another_schedule_is_refused() -> None:
    with pytest.raises(RegardError, match="linear, cosine or inverse_sqrt, got 'step'"):
        learning_rate_factor("step", 5, total=10, warmup=2)
