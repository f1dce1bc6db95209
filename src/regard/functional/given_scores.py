"""Statistics of scores that a model has computed itself, for attention that materialises its matrix."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from regard._errors import ArgumentError, DtypeError
from regard.functional.call import check_query_mask, quiet, value_norms
from regard.functional.columns import check_column_names, measure_columns
from regard.functional.definitions import VALUE_STATISTICS, check_names
from regard.functional.impl.blocks import LOG2E, Grid, Place, accumulation_dtype, positions_of
from regard.functional.impl.completion import Rows, bases
from regard.functional.impl.statistics_streaming import column_sums, stream
from regard.functional.patterns.layout import Index
from regard.functional.statistics import RowStatistics

__all__ = ["column_statistics_of_scores", "statistics_of_scores"]

_COUNTED_AT_ONCE = 1 << 20


def statistics_of_scores(
    scores: Float[Tensor, "batch heads q_len kv_len"],
    *,
    statistics: Sequence[str],
    positions: Tensor | None = None,
    value: Tensor | None = None,
) -> RowStatistics:
    """Return exact statistics of attention weights from masked scores, as ``row_statistics`` does from query and key.

    For eager attention, which holds its scores anyway: they are read block by block, so that a few MiB come on top,
    and sums are taken in float32 (float64 for float64). A score counts as forbidden where it is -inf, or at most half
    of the type's most negative number, which models put there in place of -inf; a row of which every key is forbidden
    is empty.

    Args:
        scores: before the softmax, scaled, with bias and mask added; ``headroom`` is that of their type.
        statistics: names out of ``ROW_STATISTICS``.
        positions: int64 positions of the query rows among the keys, (q_len,), or (batch, q_len) where they differ; by
            default the last query is at the last key.
        value: (batch, kv_heads, kv_len, value_dim), for the statistics that weigh the values; ``heads`` must be a
            multiple of ``kv_heads``.

    Raises:
        ArgumentError: an unknown statistic, shapes that do not fit, a statistic of values without ``value``.
        DtypeError: types that do not belong.

    Example:
        >>> scores = torch.zeros(1, 2, 3, 3) + torch.full((3, 3), torch.finfo(torch.float32).min).triu(1)
        >>> statistics_of_scores(scores, statistics=["effective_keys"]).values["effective_keys"][0, 0]
        tensor([1., 2., 3.])
    """
    check_names(statistics, value is not None)
    _check_scores(scores)
    with quiet(scores):
        norms = _norms(scores, value) if bases(statistics) & VALUE_STATISTICS else None
        blocks = _GivenScores(
            scores.detach(), 1 if norms is None else norms.shape[1], _check_positions(positions, scores)
        )
        found = stream(blocks, bases(statistics) | {"num_keys"}, value_norms=norms)
        num_keys = found["num_keys"].to(torch.int64)
        own = positions_of(blocks.positions, scores.device)
        rows = Rows(num_keys=num_keys, positions=own if own.ndim == 1 else own[:, None], dtype=scores.dtype)
        return RowStatistics(
            values=rows.complete(statistics, found),
            lse=found["lse"].masked_fill(num_keys == 0, -torch.inf),
            num_keys=num_keys,
            route=dict.fromkeys(statistics, "streaming"),
        )


def column_statistics_of_scores(
    scores: Float[Tensor, "batch heads q_len kv_len"],
    *,
    statistics: Sequence[str],
    query_mask: Tensor | None = None,
) -> dict[str, Float[Tensor, "batch heads"]]:
    """Return how unevenly keys are looked at from masked scores, as ``column_statistics`` does from query and key.

    Args:
        scores: as for ``statistics_of_scores``.
        statistics: names out of ``COLUMN_STATISTICS``.
        query_mask: bool (batch, q_len), True = the query counts; all by default.

    Raises:
        ArgumentError: an unknown statistic, shapes that do not fit.
        DtypeError: types that do not belong.

    Example:
        >>> column_statistics_of_scores(torch.zeros(1, 1, 3, 4), statistics=["received_gini"])
        {'received_gini': tensor([[0.]])}
    """
    check_column_names(statistics)
    _check_scores(scores)
    with quiet(scores):
        counted = check_query_mask(query_mask, scores)
        blocks = _GivenScores(scores.detach(), 1, _check_positions(None, scores))
        lse = stream(blocks, frozenset())["lse"]
        received = column_sums(blocks, lse, None if counted is None else counted.to(blocks.dtype))
        return measure_columns(received, _num_queries(scores, counted), statistics)


def _num_queries(scores: Tensor, counted: Tensor | None) -> Tensor:
    """Return how many counted queries may see each key, (batch, heads, kv_len), a few rows at a time."""
    found = torch.zeros(scores.shape[0], scores.shape[1], scores.shape[3], dtype=torch.int64, device=scores.device)
    step = max(1, _COUNTED_AT_ONCE // max(1, scores[:, :, 0].numel()))
    for first in range(0, scores.shape[2], step):
        seen = scores[:, :, first : first + step] > torch.finfo(scores.dtype).min / 2
        if counted is not None:
            seen &= counted[:, None, first : first + step, None]
        found += seen.sum(2)
    return found


def _check_scores(scores: Tensor) -> None:
    if not scores.dtype.is_floating_point:
        raise DtypeError(f"scores must be floating, got {scores.dtype}; give them as they go into the softmax.")
    if scores.ndim != 4:
        raise ArgumentError(f"scores must be (batch, heads, q_len, kv_len), got the shape {tuple(scores.shape)}.")


class _GivenScores(Grid):
    def __init__(self, scores: Tensor, kv_heads: int, positions: range | Tensor) -> None:
        batch, heads, num_rows, kv_len = scores.shape
        super().__init__(
            (batch, kv_heads, heads // kv_heads, num_rows),
            kv_len,
            causal=False,
            positions=positions,
            dtype=accumulation_dtype(scores.dtype),
            device=scores.device,
        )
        self._scores = scores.unflatten(1, (kv_heads, heads // kv_heads))
        self._forbidden = torch.finfo(scores.dtype).min / 2

    @property
    def is_masked(self) -> bool:
        return True

    def scores_of(self, place: Place) -> Callable[[Index], Tensor]:
        return lambda keys: self._block(self._scores[place.batch, place.heads, :, place.rows, keys])

    def _block(self, scores: Tensor) -> Tensor:
        forbidden = scores <= self._forbidden
        return (scores.to(self.dtype) * LOG2E).masked_fill_(forbidden, -torch.inf)


def _norms(scores: Tensor, value: Tensor | None) -> Tensor:
    assert value is not None, "checked by check_names"
    batch, heads, _, kv_len = scores.shape
    if value.ndim != 4 or value.shape[1] == 0 or heads % value.shape[1]:
        raise ArgumentError(
            f"value must be (batch, kv_heads, kv_len, value_dim) with a kv_heads that divides the {heads} heads, "
            f"got the shape {tuple(value.shape)}."
        )
    return value_norms(value, (batch, value.shape[1], kv_len), scores.dtype)


def _check_positions(positions: Tensor | None, scores: Tensor) -> range | Tensor:
    batch, _, q_len, kv_len = scores.shape
    if positions is None:
        return range(kv_len - q_len, kv_len)
    if positions.dtype != torch.int64:
        raise DtypeError(f"positions must be int64, got {positions.dtype}; convert them with `positions.long()`.")
    if positions.shape not in ((q_len,), (batch, q_len)):
        raise ArgumentError(
            f"positions must be (q_len,) = {(q_len,)} or (batch, q_len) = {(batch, q_len)}, "
            f"got the shape {tuple(positions.shape)}."
        )
    return positions.to(scores.device)
