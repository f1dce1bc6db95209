"""Several trainings of one recipe: how far their mean could have come out otherwise.

A figure of one seed says how one training went. Here two things are let vary: the seed, of which a few were tried, and
the rows of the test set, which all trainings share. A spread that was seen in three trainings is itself uncertain, so
Student's distribution makes the interval as wide as that deserves.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from regard._errors import ArgumentError
from regard.evaluate.bootstrap import LEVEL
from regard.records import Interval

__all__ = ["mean_interval", "student_quantile", "versus"]

_GRID = 200_001
_NORMAL = 1.959964  # the quantile for infinitely many degrees of freedom


def student_quantile(dof: int | float, *, level: float = LEVEL) -> float:
    """Return t with P(|T| <= t) = ``level`` for Student's distribution with ``dof`` degrees of freedom, 1 or more.

    With T = √dof · tan θ the density of θ is proportional to cos(θ)^(dof - 1), which is summed on a grid.

    Example:
        >>> round(student_quantile(2), 3)
        4.303

    Raises:
        ArgumentError: fewer than one degree of freedom, or a level outside (0, 1).
    """
    if not dof >= 1 or not 0 < level < 1:
        raise ArgumentError(f"dof must be at least 1 and level lie in (0, 1), got {dof} and {level}.")
    if dof > 1e6:  # the normal distribution, which the grid is too coarse for
        dof = 1e6
    angles = np.linspace(0, np.pi / 2, _GRID)
    density = np.exp((dof - 1) * np.log(np.cos(angles[:-1]).clip(1e-300)))
    density = np.append(density, 1.0 if dof == 1 else 0.0)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(np.sqrt(dof) * np.tan(np.interp(level, below / below[-1], angles)))


def mean_interval(
    values: Sequence[int | float], *, row_variance: float = 0.0, low: float | None = None, high: float | None = None
) -> Interval:
    """Return the mean over seeds with its 95 % interval.

    Args:
        values: the figure of each seed, two or more.
        row_variance: variance of the mean that comes from the rows of the test set, which the seeds share.
        low: least possible value, at which the interval is cut.
        high: largest possible value.

    Raises:
        ArgumentError: fewer than two seeds, whose spread is unknown.
    """
    seeds = _checked(values)
    return _interval(float(seeds.mean()), seeds.var(ddof=1) / len(seeds), len(seeds) - 1, row_variance, low, high)


def versus(ours: Sequence[int | float], theirs: Sequence[int | float], *, row_variance: float = 0.0) -> Interval:
    """Return the mean of ``ours`` less that of ``theirs`` with its 95 % interval.

    Seeds of two architectures have nothing in common, so they are not paired; the rows are, through ``row_variance``.

    Args:
        ours: the figure of each seed, two or more.
        theirs: likewise.
        row_variance: variance of the difference that comes from the rows, measured row by row.

    Raises:
        ArgumentError: fewer than two seeds on a side.

    References:
        Welch, The generalization of Student's problem when several different population variances are involved
        (Biometrika 1947); Satterthwaite (Biometrics Bulletin 1946) for the degrees of freedom.
    """
    one, other = _checked(ours), _checked(theirs)
    parts = [(side.var(ddof=1) / len(side), len(side) - 1) for side in (one, other)]
    variance = sum(part for part, _ in parts)
    weighted = sum(part**2 / dof for part, dof in parts)
    dof = variance**2 / weighted if weighted else min(dof for _, dof in parts)
    return _interval(float(one.mean() - other.mean()), variance, dof, row_variance, None, None)


def _checked(values: Sequence[int | float]) -> Float[np.ndarray, " seeds"]:
    seeds = np.asarray(values, dtype=np.float64)
    if seeds.ndim != 1 or len(seeds) < 2 or not np.isfinite(seeds).all():
        raise ArgumentError(f"An interval over seeds needs two finite figures or more, got {list(values)}.")
    return seeds


def _interval(
    value: float, seed_variance: float, dof: int | float, row_variance: float, low: float | None, high: float | None
) -> Interval:
    """Return the interval: half its width is that of both sources of chance, as the sides of a right angle.

    Student's factor belongs to the variance that a few seeds estimate, the normal one to that of the rows. With three
    seeds this covers in 95 to 98 of 100 cases, whatever the share of either; degrees of freedom after Satterthwaite
    for the sum would cover in 92.
    """
    seeds = student_quantile(max(dof, 1.0)) * seed_variance**0.5 if seed_variance else 0.0
    half = (seeds**2 + _NORMAL**2 * row_variance) ** 0.5
    ends = (value - half, value + half)
    return Interval(
        value=value,
        low=ends[0] if low is None else max(low, ends[0]),
        high=ends[1] if high is None else min(high, ends[1]),
        note=None if half else "all seeds and rows gave the same",
    )
