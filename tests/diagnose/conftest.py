"""Runs written by hand: a statistic is a list of values per head, one a recorded step."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from regard.records import HEAD_COLUMNS, Run

LAYER = "encoder.layer.{}.attention"
NUM_STEPS = 40

Heads = Mapping[str, Mapping[tuple[int, int], Sequence[float]]]


def record_heads(run: Run, heads: Heads, maximum: float) -> None:
    """Append ``heads``, statistic -> (layer, head) -> values at steps 1, 2, …, in one part."""
    rows = [
        (step, LAYER.format(layer), head, statistic, value)
        for statistic, series in heads.items()
        for (layer, head), values in series.items()
        for step, value in enumerate(values, start=1)
    ]
    columns: dict[str, object] = dict.fromkeys(HEAD_COLUMNS, np.full(len(rows), np.nan, dtype=np.float32))
    for index, name in enumerate(("step", "layer", "head", "statistic", "mean")):
        columns[name] = np.array([row[index] for row in rows])
    columns |= {
        "maximum": np.full(len(rows), maximum, dtype=np.float32),
        "num_rows": np.full(len(rows), 64),
        "num_empty_rows": np.zeros(len(rows), dtype=int),
    }
    run.heads.append(columns)


def ramp(first: float, last: float, num_steps: int = NUM_STEPS) -> list[float]:
    """Stay at ``first`` for the first half and at ``last`` for the second."""
    half = num_steps // 2
    return [first] * half + [last] * (num_steps - half)


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Run]:
    """Return a function that writes a run of heads, losses and gradients."""

    def write(
        heads: Heads | None = None,
        *,
        loss: Sequence[float] = (),
        grad_norm: Sequence[float] = (),
        padding_share: float | None = None,
        maximum: float = np.nan,
    ) -> Run:
        run = Run.create(tmp_path / "run", recipe="by hand")
        record_heads(run, heads or {}, maximum)
        for index, value in enumerate(loss):
            fields: dict[str, float] = {"loss": value}
            if grad_norm:
                fields["grad_norm"] = grad_norm[index]
            if padding_share is not None:
                fields["padding_share"] = padding_share
            run.event("step", step=index + 1, **fields)
        return run

    return write


@pytest.fixture
def four_heads() -> Callable[..., dict[tuple[int, int], list[float]]]:
    """Return a function that gives four heads of one layer: the first as told, the others constant."""

    def series(first: float, last: float, others: float, num_steps: int = NUM_STEPS) -> dict:
        return {(0, 0): ramp(first, last, num_steps), **{(0, head): [others] * num_steps for head in (1, 2, 3)}}

    return series
