"""Statistics of attention columns without the matrix: how the weight is spread over the keys that receive it."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional.call import check_query_mask, checked_call, quiet
from regard.functional.definitions import COLUMN_STATISTICS
from regard.functional.impl import native
from regard.functional.impl.pattern_blocks import PatternBlocks
from regard.functional.impl.rows_call import RowsCall
from regard.functional.impl.statistics_streaming import column_sums, stream
from regard.functional.masks import num_seeing_queries
from regard.functional.patterns import Pattern

__all__ = ["check_column_names", "column_statistics", "measure_columns", "received_mass"]


def received_mass(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    query_mask: Bool[Tensor, "batch q_len"] | None = None,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    pattern: Pattern | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    lse: Float[Tensor, "batch heads q_len"] | None = None,
) -> Float[Tensor, "batch heads kv_len"]:
    """Return the weight that each key receives from all queries, Σ_i p_ij; rows without keys give nothing.

    Args:
        query: as for ``attention``.
        key: as for ``attention``.
        query_mask: True = the query counts; all by default.
        attn_mask: as for ``attention``; the other arguments too.
        attn_bias: as for ``attention``.
        causal: as for ``attention``.
        window: as for ``attention``.
        pattern: as for ``attention``.
        alibi_slopes: as for ``attention``.
        scale: as for ``attention``.
        softcap: as for ``attention``.
        lse: log-sum-exp of every row, where it is known; saves one of two passes.

    References:
        Heavy hitters: Zhang et al., H2O, arXiv:2306.14048.
    """
    with quiet(query):
        counted = check_query_mask(query_mask, query)
        call = checked_call(
            query, key, lse, attn_mask=attn_mask, attn_bias=attn_bias, causal=causal, window=window,
            alibi_slopes=alibi_slopes, scale=scale, softcap=softcap, pattern=pattern,
        )  # fmt: skip
        return _received(call, counted)


def column_statistics(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    statistics: Sequence[str],
    query_mask: Tensor | None = None,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    pattern: Pattern | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    lse: Float[Tensor, "batch heads q_len"] | None = None,
) -> dict[str, Float[Tensor, "batch heads"]]:
    """Return how unevenly the keys of each sequence are looked at, exact and in memory linear in the lengths.

    A key counts where some counted query may see it; a head of a sequence without such a key gets NaN.

    Args:
        query: as for ``attention``.
        key: as for ``attention``.
        statistics: names out of ``COLUMN_STATISTICS``.
        query_mask: bool (batch, q_len), True = the query counts; all by default. Give False for padding.
        attn_mask: as for ``attention``; the other arguments too.
        attn_bias: as for ``attention``.
        causal: as for ``attention``.
        window: as for ``attention``.
        pattern: as for ``attention``.
        alibi_slopes: as for ``attention``.
        scale: as for ``attention``.
        softcap: as for ``attention``.
        lse: log-sum-exp of every row, where it is known; saves one of two passes.

    Returns:
        name -> float32 (float64 for float64 inputs).

    Raises:
        ArgumentError: an unknown statistic, shapes that do not fit.
        DtypeError: types that do not belong.

    References:
        Heavy hitters: Zhang et al., H2O, arXiv:2306.14048.

    Example:
        >>> query, key = torch.zeros(1, 1, 4, 8), torch.zeros(1, 1, 4, 8)
        >>> key[:, :, 2], query[:] = 9.0, 9.0
        >>> column_statistics(query, key, statistics=["received_gini", "heavy_hitter_mass"])
        {'received_gini': tensor([[0.7500]]), 'heavy_hitter_mass': tensor([[1.]])}
    """
    check_column_names(statistics)
    with quiet(query):
        counted = check_query_mask(query_mask, query)
        call = checked_call(
            query, key, lse, attn_mask=attn_mask, attn_bias=attn_bias, causal=causal, window=window,
            alibi_slopes=alibi_slopes, scale=scale, softcap=softcap, pattern=pattern,
        )  # fmt: skip
        received = _received(call, counted)
        return measure_columns(received, _num_queries(call, counted), statistics)


def check_column_names(statistics: Sequence[str]) -> None:
    """Refuse names that are not in ``COLUMN_STATISTICS``."""
    unknown = [name for name in statistics if name not in COLUMN_STATISTICS]
    if unknown:
        raise ArgumentError(f"statistics must be names out of {', '.join(COLUMN_STATISTICS)}; got {unknown}.")


def measure_columns(received: Tensor, num_queries: Tensor, statistics: Sequence[str]) -> dict[str, Tensor]:
    """Return name -> (batch, heads), from the weight that each key received and the number of queries that see it."""
    measures = {"received_gini": _gini, "heavy_hitter_mass": _heavy_hitter_mass}
    return {name: measures[name](received, num_queries) for name in statistics}


def _received(call: RowsCall, counted: Tensor | None) -> Tensor:
    if call.native_obstacle() is None:
        scoring = call.native_scoring()
        lse = native.row_sums(call.query, call.key, scoring, ())["lse"] if call.lse is None else call.lse
        return native.received(call.query, call.key, scoring, lse, counted)
    blocks = call.blocks()
    known = stream(blocks, frozenset())["lse"] if call.lse is None else call.lse
    return column_sums(blocks, known, None if counted is None else counted.to(blocks.dtype))


def _num_queries(call: RowsCall, counted: Tensor | None) -> Tensor:
    q_len, kv_len = call.query.shape[2], call.key.shape[2]
    if call.pattern is not None:
        blocks = call.blocks()
        assert isinstance(blocks, PatternBlocks), "made of a pattern"
        everyone = torch.ones(1, q_len, dtype=torch.int64, device=call.query.device)
        return blocks.num_seeing(everyone if counted is None else counted.to(torch.int64))
    return num_seeing_queries(
        call.attn_mask,
        call.causal,
        q_len=q_len,
        kv_len=kv_len,
        attn_bias=call.attn_bias,
        window=call.window,
        query_mask=counted,
        device=call.query.device,
    )


def _gini(received: Tensor, num_queries: Tensor) -> Tensor:
    """Return Σ_k (n + 1 - 2 k) x_k / (n Σ x) over x in descending order: keys that nobody sees add 0 at its end."""
    shares = (received / num_queries.clamp_min(1)).sort(-1, descending=True).values
    num_keys = (num_queries > 0).sum(-1, keepdim=True)
    ranks = torch.arange(1, shares.shape[-1] + 1, device=shares.device)
    found = (shares * (num_keys + 1 - 2 * ranks)).sum(-1) / (num_keys[..., 0] * shares.sum(-1))
    return found.clamp_(0.0, 1.0).masked_fill(num_keys[..., 0] == 0, torch.nan)


def _heavy_hitter_mass(received: Tensor, num_queries: Tensor) -> Tensor:
    """Return the share of the weight that the tenth of the keys takes that receives most."""
    num_keys = (num_queries > 0).sum(-1, keepdim=True)
    shares = received.sort(-1, descending=True).values
    heavy = torch.arange(shares.shape[-1], device=shares.device) < (num_keys + 9) // 10
    found = (shares * heavy).sum(-1) / shares.sum(-1)
    return found.clamp_max(1.0).masked_fill(num_keys[..., 0] == 0, torch.nan)
