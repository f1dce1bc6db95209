"""Statistics of attention rows without the matrix: what each is, and who computes it.

For a query row, s are its masked scores, p = softmax(s) its weights and lse = log Σ exp s; positions count keys from 0,
and the last query stands at the last key.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regard._errors import ArgumentError, DtypeError, UnsupportedError
from regard.functional import reference
from regard.functional.attention import check_arguments
from regard.functional.impl.rows_call import RowsCall
from regard.functional.impl.statistics_fused import NAMED_KEYS, by_identities, fused_obstacle
from regard.functional.impl.statistics_streaming import column_sums, stream

__all__ = ["ROW_STATISTICS", "Definition", "RowStatistics", "key_mass", "received_mass", "row_statistics"]


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a statistic is.

    Attributes:
        formula: over the keys j of row i.
        unit: of the value.
        range: of the value, n the number of keys that the row may see.
        reference: the dense computation from masked scores, for tests and small inputs.
    """

    formula: str
    unit: str
    range: str
    reference: Callable[[Tensor], Tensor]


def _define(name: str, formula: str, unit: str, bounds: str) -> Definition:
    return Definition(formula=formula, unit=unit, range=bounds, reference=reference.STATISTICS[name])


ROW_STATISTICS: Mapping[str, Definition] = {
    name: _define(name, formula, unit, bounds)
    for name, formula, unit, bounds in (
        ("entropy", "-sum p_ij log p_ij", "nats", "0 to log n"),
        ("normalized_entropy", "entropy / log n; NaN for n = 1", "1", "0 to 1"),
        ("effective_keys", "exp(entropy)", "keys", "1 to n"),
        ("collision", "sum p_ij^2", "1", "1/n to 1"),
        ("max_weight", "max p_ij", "1", "1/n to 1"),
        ("max_score", "max s_ij", "1", "any"),
        ("first_mass", "p_i0", "1", "0 to 1"),
        ("self_mass", "p_ii; NaN where the row has no own key", "1", "0 to 1"),
        ("previous_mass", "p_i,i-1; NaN where there is no such key", "1", "0 to 1"),
        ("distance", "sum p_ij |i - j|", "tokens", "0 to kv_len - 1"),
        ("expected_position", "sum p_ij j", "tokens", "0 to kv_len - 1"),
        ("saturated_share", "1 if max p_ij > 0.99 else 0; its mean is the share", "1", "0 or 1"),
    )
}
"""Statistics of a query row, NaN for a row that may see no key."""

_MADE_FROM = {"normalized_entropy": "entropy", "effective_keys": "entropy", "saturated_share": "max_weight"}


@dataclass(frozen=True, kw_only=True)
class RowStatistics:
    """Statistics of query rows.

    Attributes:
        values: name -> (batch, heads, rows), float32 (float64 for float64 inputs), NaN where not defined.
        lse: (batch, heads, rows) log-sum-exp of the scores, -inf for a row without keys.
        num_keys: (batch or 1, heads or 1, rows) int64, how many keys each row may see.
        route: name -> ``"fused"`` or ``"streaming"``, which ran.
    """

    values: dict[str, Tensor]
    lse: Tensor
    num_keys: Tensor
    route: dict[str, str]


def row_statistics(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    statistics: Sequence[str],
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    softcap: float | None = None,
    lse: Float[Tensor, "batch heads q_len"] | None = None,
    rows: Int[Tensor, " rows"] | None = None,
    route: str = "auto",
) -> RowStatistics:
    """Return exact statistics of the attention weights, in memory linear in the lengths and without gradients.

    Args:
        query: as given to the attention call, after any rotation.
        key: likewise.
        statistics: names out of ``ROW_STATISTICS``.
        attn_mask: as for ``attention``: bool, True = may attend.
        attn_bias: as for ``attention``.
        causal: as for ``attention``.
        scale: as for ``attention``.
        softcap: as for ``attention``.
        lse: log-sum-exp of every row, where the kernel that ran has returned it; saves computing it.
        rows: indices of the query rows wanted, all by default.
        route: ``"streaming"`` takes everything in one pass over blocks of scores; ``"fused"`` uses identities over
            PyTorch's fused kernel; ``"auto"`` takes what is measured to be cheaper.

    Raises:
        ArgumentError: an unknown statistic or route, a row out of range, shapes that do not fit.
        DtypeError: types that do not belong.
        UnsupportedError: ``route="fused"`` for something no identity covers.

    References:
        Entropy as a sign of collapse: Zhai et al., arXiv:2303.06296; first token: Xiao et al., arXiv:2309.17453.

    Example:
        >>> query, key = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4)
        >>> row_statistics(query, key, statistics=["effective_keys"], causal=True).values["effective_keys"][0, 0]
        tensor([1., 2., 3.])
    """
    unknown = [name for name in statistics if name not in ROW_STATISTICS]
    if unknown:
        raise ArgumentError(f"statistics must be names out of {', '.join(ROW_STATISTICS)}; got {unknown}.")
    if route not in ("auto", "fused", "streaming"):
        raise ArgumentError(f'route must be "auto", "fused" or "streaming", got {route!r}.')
    with _quiet(query):
        call = _checked(query, key, attn_mask, attn_bias, causal, scale, softcap, lse).pick(_checked_rows(rows, query))
        wanted = {_MADE_FROM.get(name, name) for name in statistics}
        chosen = _choose(call, wanted, route)
        found = by_identities(call, wanted) if chosen == "fused" else stream(call.blocks(), wanted, lse=call.lse)
        return RowStatistics(
            values={name: _complete(call, found, name) for name in statistics},
            lse=found["lse"].masked_fill(call.num_keys == 0, -torch.inf),
            num_keys=call.num_keys,
            route=dict.fromkeys(statistics, chosen),
        )


def key_mass(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    keys: Bool[Tensor, "batch kv_len"],
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    softcap: float | None = None,
    lse: Float[Tensor, "batch heads q_len"] | None = None,
) -> Float[Tensor, "batch heads q_len"]:
    """Return the weight that each query puts on the set ``keys``, 0 to 1, NaN for a row that may see no key.

    Args:
        query: as for ``attention``.
        key: as for ``attention``.
        keys: True = belongs to the set.
        attn_mask: as for ``attention``; the other arguments too.
        attn_bias: as for ``attention``.
        causal: as for ``attention``.
        scale: as for ``attention``.
        softcap: as for ``attention``.
        lse: log-sum-exp of every row, where it is known.
    """
    if keys.dtype != torch.bool:
        raise DtypeError(f"keys must be boolean with True = belongs to the set, got {keys.dtype}.")
    with _quiet(query):
        call = _checked(query, key, attn_mask, attn_bias, causal, scale, softcap, lse)
        blocks = call.blocks()
        mass = stream(blocks, {"mass"}, lse=lse, keys=keys.to(blocks.query.dtype))["mass"]
        return mass.masked_fill(call.num_keys == 0, torch.nan)


def received_mass(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    query_mask: Bool[Tensor, "batch q_len"] | None = None,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
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
        scale: as for ``attention``.
        softcap: as for ``attention``.
        lse: log-sum-exp of every row, where it is known; saves one of two passes.

    References:
        Heavy hitters: Zhang et al., H2O, arXiv:2306.14048.
    """
    with _quiet(query):
        call = _checked(query, key, attn_mask, attn_bias, causal, scale, softcap, lse)
        blocks = call.blocks()
        known = stream(blocks, frozenset())["lse"] if lse is None else lse
        return column_sums(blocks, known, None if query_mask is None else query_mask.to(blocks.query.dtype))


@contextmanager
def _quiet(query: Tensor) -> Iterator[None]:
    """No gradients, and no autocast: it would take the scores to half precision."""
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        yield


def _checked(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None,
    attn_bias: Tensor | None,
    causal: bool,
    scale: float | None,
    softcap: float | None,
    lse: Tensor | None,
) -> RowsCall:
    masks = check_arguments(query, key, attn_mask, attn_bias, causal, softcap)
    if lse is not None and lse.shape != query.shape[:3]:
        raise ArgumentError(
            f"lse must be (batch, heads, q_len) = {tuple(query.shape[:3])}, got the shape {tuple(lse.shape)}."
        )
    return RowsCall(
        query=query.detach(),
        key=key.detach(),
        **masks,
        causal=causal,
        scale=1.0 / math.sqrt(query.shape[-1]) if scale is None else scale,
        softcap=softcap,
        positions=range(key.shape[2] - query.shape[2], key.shape[2]),
        lse=lse,
    )


def _checked_rows(rows: Tensor | None, query: Tensor) -> Tensor | None:
    if rows is None:
        return None
    if rows.ndim != 1 or rows.dtype != torch.int64:
        raise DtypeError(f"rows must be int64 of one axis, got {rows.dtype} of the shape {tuple(rows.shape)}.")
    if rows.numel() and not (int(rows.min()) >= 0 and int(rows.max()) < query.shape[2]):
        raise ArgumentError(f"rows must lie in 0 to {query.shape[2] - 1}, got {int(rows.min())} to {int(rows.max())}.")
    return rows.to(query.device)


def _choose(call: RowsCall, wanted: Set[str], route: str) -> str:
    """Return the route: identities only where they are cheaper, which is where no pass over the scores is needed."""
    if route == "streaming":
        return route
    if route == "auto":
        return "fused" if call.lse is not None and wanted <= set(NAMED_KEYS) else "streaming"
    for name in sorted(wanted):
        obstacle = fused_obstacle(call, name)
        if obstacle is not None:
            raise UnsupportedError(f"route='fused' cannot give {name}: it needs {obstacle}; use 'streaming' or 'auto'.")
    return route


def _complete(call: RowsCall, found: Mapping[str, Tensor], name: str) -> Tensor:
    """Return the statistic ``name`` from what was computed, NaN where it is not defined."""
    values = found[_MADE_FROM.get(name, name)]
    undefined = call.num_keys == 0
    if name == "normalized_entropy":
        values = (values / call.num_keys.to(values.dtype).log()).clamp_max(1.0)
        undefined = call.num_keys <= 1
    elif name == "effective_keys":
        values = values.exp()
    elif name == "saturated_share":
        values = (values > reference.SATURATION).to(values.dtype)
    elif name in ("self_mass", "previous_mass"):
        undefined = undefined | (call.position_tensor < (1 if name == "previous_mass" else 0))
    return values.masked_fill(undefined, torch.nan)
