"""How a statistic of every head moved from the start of a run to its end, computed by DuckDB."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from regard.diagnose.rule import NotJudgedError
from regard.records import Evidence, Run

__all__ = ["HeadTrend", "Limit", "head_trends", "recorded_statistics"]

_MIN_STEPS = 5
_MAX_START = 10
_STAYS = 0.9

_VALUES = {
    False: "CAST(mean AS DOUBLE)",
    # A layer whose heads are all silent has no mean to compare with: its heads are as far below as can be.
    True: "coalesce(mean / nullif(avg(mean) OVER (PARTITION BY step, layer), 0), 0)",
}

# A layer that does not run in every step may have no value in the first or last tenth: take its nearest one.
_QUERY = """
WITH points AS (
    SELECT step, layer, head, {value} AS value FROM heads WHERE statistic = $1 AND isfinite(mean)
), judged AS (
    SELECT *, ($2 * value > $2 * $3)::INT AS is_beyond FROM points
), followed AS (
    SELECT *, avg(is_beyond) OVER (
        PARTITION BY layer, head ORDER BY step ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
    ) AS share_from_here FROM judged
)
SELECT
    layer, head,
    coalesce(avg(value) FILTER (WHERE step <= $4), arg_min(value, step)) AS first,
    coalesce(avg(value) FILTER (WHERE step >= $5), arg_max(value, step)) AS last,
    coalesce(avg(is_beyond) FILTER (WHERE step >= $5), arg_max(is_beyond, step)) AS share_beyond,
    min(step) FILTER (WHERE is_beyond = 1 AND share_from_here >= $6) AS since
FROM followed GROUP BY layer, head ORDER BY layer, head
"""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Where a statistic stops being fine.

    Attributes:
        level: the threshold.
        above: True if values above ``level`` are the concern, False if values below are.
    """

    level: float
    above: bool

    def is_beyond(self, value: float) -> bool:
        """Whether ``value`` lies on the side of concern; the threshold itself does not."""
        return value > self.level if self.above else value < self.level


@dataclass(frozen=True, kw_only=True)
class HeadTrend:
    """One head over a run.

    Attributes:
        layer: dotted name of the attention module.
        head: from 0.
        first: mean over the first tenth of the recorded steps, at most 10 of them.
        last: mean over the last tenth.
        since: first recorded step beyond the limit that is followed by such steps in nine of ten; None without one.
        stays: whether the values of the last tenth are beyond the limit, in the mean and in nine of ten steps.
        final_step: last recorded step.
        statistic: what was measured.
        limit: the limit.
    """

    layer: str
    head: int
    first: float
    last: float
    since: int | None
    stays: bool
    final_step: int
    statistic: str
    limit: Limit

    @property
    def place(self) -> str:
        """Name of the head for a person."""
        return f"{self.layer} head {self.head}"

    @property
    def was_so_from_the_start(self) -> bool:
        """Whether the head was beyond the limit before it learned anything."""
        return self.limit.is_beyond(self.first)

    def evidence(self, note: str = "") -> Evidence:
        """Return a pointer to the rows that show it, with start, end and the step since when."""
        told = f"{self.first:.3g} at the start, {self.last:.3g} at the end"
        if self.since is not None:
            told += f"; beyond the threshold since step {self.since}"
        return Evidence(
            source="heads",
            statistic=self.statistic,
            value=self.last,
            threshold=self.limit.level,
            step=self.final_step if self.since is None else self.since,
            layer=self.layer,
            head=self.head,
            note=f"{told}; {note}" if note else told,
        )


def recorded_statistics(run: Run) -> set[str]:
    """Return the statistics of which ``run`` holds at least one number.

    Raises:
        NotJudgedError: the run has no head statistics at all.
    """
    _require_heads(run)
    return set(run.heads.query("SELECT DISTINCT statistic FROM heads WHERE isfinite(mean)")["statistic"])


def head_trends(
    run: Run,
    statistic: str,
    limit: Limit,
    *,
    relative_to_layer: bool = False,
    min_steps: int = _MIN_STEPS,
) -> list[HeadTrend]:
    """Return the trend of every head in ``statistic``, furthest beyond ``limit`` first.

    Args:
        run: the run.
        statistic: name of the statistic.
        limit: the threshold and its side of concern.
        relative_to_layer: judge each head's value divided by the mean over the heads of its layer in that step.
        min_steps: number of recorded steps that a judgement needs.

    Raises:
        NotJudgedError: the statistic was not recorded, or in fewer than ``min_steps`` steps.
    """
    _require_heads(run)
    steps = run.heads.query(
        "SELECT DISTINCT step FROM heads WHERE statistic = ? AND isfinite(mean) ORDER BY step", [statistic]
    )["step"]
    if not len(steps):
        raise NotJudgedError(f"statistic {statistic!r} was not recorded; name it in what watch records")
    if len(steps) < min_steps:
        raise NotJudgedError(f"statistic {statistic!r} needs at least {min_steps} recorded steps, got {len(steps)}")
    tenth = max(1, len(steps) // 10)
    start, end = int(steps[min(tenth, _MAX_START) - 1]), int(steps[-tenth])
    values = [statistic, 1 if limit.above else -1, limit.level, start, end, _STAYS]
    rows = run.heads.query(_QUERY.format(value=_VALUES[relative_to_layer]), values)
    return sorted(_trends(rows, int(steps[-1]), statistic, limit), key=_furthest(limit))


def _require_heads(run: Run) -> None:
    if not run.heads.exists:
        raise NotJudgedError("no head statistics were recorded; train with watch on")


def _trends(rows: dict[str, npt.NDArray[Any]], final_step: int, statistic: str, limit: Limit) -> list[HeadTrend]:
    columns = (rows[name] for name in ("layer", "head", "first", "last", "share_beyond", "since"))
    return [
        HeadTrend(
            layer=str(layer),
            head=int(head),
            first=float(first),
            last=float(last),
            since=None if since is None else int(since),
            stays=limit.is_beyond(float(last)) and float(share) >= _STAYS,
            final_step=final_step,
            statistic=statistic,
            limit=limit,
        )
        for layer, head, first, last, share, since in zip(*columns, strict=True)
    ]


def _furthest(limit: Limit) -> Callable[[HeadTrend], float]:
    return lambda trend: -trend.last if limit.above else trend.last
