"""Statistics of attention rows without the matrix: what each is, and who computes it.

For a query row, s are its masked scores, p = softmax(s) its weights and lse = log Σ exp s; positions count keys from 0,
and the last query stands at the last key.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regard._errors import ArgumentError, DtypeError, UnsupportedError
from regard.functional.call import check_rows, checked_call, quiet, value_norms
from regard.functional.definitions import VALUE_STATISTICS, check_names
from regard.functional.impl.completion import Rows, bases
from regard.functional.impl.native import row_sums
from regard.functional.impl.rows_call import RowsCall
from regard.functional.impl.statistics_flex import by_flex, flex_statistics_obstacle
from regard.functional.impl.statistics_fused import NAMED_KEYS, by_identities, fused_obstacle
from regard.functional.impl.statistics_streaming import stream
from regard.functional.patterns import Pattern

__all__ = ["RowStatistics", "key_mass", "row_statistics"]


@dataclass(frozen=True, kw_only=True)
class RowStatistics:
    """Statistics of query rows.

    Attributes:
        values: name -> (batch, heads, rows), float32 (float64 for float64 inputs), NaN where not defined.
        lse: (batch, heads, rows) log-sum-exp of the scores, -inf for a row without keys.
        num_keys: (batch or 1, heads or 1, rows) int64, how many keys each row may see.
        route: name -> ``"native"``, ``"fused"``, ``"flex"`` or ``"streaming"``, which ran, or ``"kernel"`` for what was
            known.
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
    window: int | None = None,
    pattern: Pattern | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    lse: Float[Tensor, "batch heads q_len"] | None = None,
    rows: Int[Tensor, "*sequences rows"] | None = None,
    value: Tensor | None = None,
    known: Mapping[str, Tensor] | None = None,
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
        window: as for ``attention``.
        pattern: as for ``attention``.
        alibi_slopes: as for ``attention``.
        scale: as for ``attention``.
        softcap: as for ``attention``.
        lse: log-sum-exp of every row, where the kernel that ran has returned it; saves computing it.
        rows: int64 indices of the query rows wanted, (rows,), or (batch, rows) for other rows in each sequence; all by
            default.
        value: the values of the call, for the statistics that weigh them, ``contribution`` and ``first_contribution``.
        known: statistics of all rows that the kernel returned with its output; where they and ``lse`` are all that it
            takes, nothing is computed again.
        route: ``"streaming"`` takes everything in one pass over blocks of scores; ``"native"`` does so in the kernels
            of ``regard-native``; ``"fused"`` uses identities over PyTorch's fused kernel; ``"flex"``, those over the
            log-sum-exp of FlexAttention, by name only, where the entropy is approximate; ``"auto"`` takes what is
            measured to be cheapest.

    Raises:
        ArgumentError: an unknown statistic or route, a row out of range, shapes that do not fit, a statistic of values
            without ``value``.
        DtypeError: types that do not belong.
        UnsupportedError: ``route="fused"`` or ``"flex"`` for something no identity covers, ``route="native"`` where its
            kernels cannot run.

    References:
        Entropy as a sign of collapse: Zhai et al., arXiv:2303.06296; first token: Xiao et al., arXiv:2309.17453.

    Example:
        >>> query, key = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4)
        >>> row_statistics(query, key, statistics=["effective_keys"], causal=True).values["effective_keys"][0, 0]
        tensor([1., 2., 3.])
    """
    check_names(statistics, value is not None)
    if route not in ("auto", "native", "fused", "flex", "streaming"):
        raise ArgumentError(f'route must be "auto", "native", "fused", "flex" or "streaming", got {route!r}.')
    with quiet(query):
        call = checked_call(
            query, key, lse, attn_mask=attn_mask, attn_bias=attn_bias, causal=causal, window=window,
            alibi_slopes=alibi_slopes, scale=scale, softcap=softcap, pattern=pattern,
        )  # fmt: skip
        if known is not None and lse is not None and rows is None and bases(statistics) <= known.keys():
            return _completed(call, statistics, {**known, "lse": lse}, "kernel")
        norms = value_norms(value, key.shape[:3], key.dtype) if bases(statistics) & VALUE_STATISTICS else None
        parts = call.parts(check_rows(rows, query))
        return _joined([_of_part(part, statistics, route, norms) for part in parts])


def key_mass(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    keys: Bool[Tensor, "batch kv_len"],
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    pattern: Pattern | None = None,
    alibi_slopes: Tensor | None = None,
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
        window: as for ``attention``.
        pattern: as for ``attention``.
        alibi_slopes: as for ``attention``.
        scale: as for ``attention``.
        softcap: as for ``attention``.
        lse: log-sum-exp of every row, where it is known.
    """
    if keys.dtype != torch.bool:
        raise DtypeError(f"keys must be boolean with True = belongs to the set, got {keys.dtype}.")
    with quiet(query):
        call = checked_call(
            query, key, lse, attn_mask=attn_mask, attn_bias=attn_bias, causal=causal, window=window,
            alibi_slopes=alibi_slopes, scale=scale, softcap=softcap, pattern=pattern,
        )  # fmt: skip
        if call.native_obstacle() is None:
            mass = row_sums(call.query, call.key, call.native_scoring(), ["mass"], keys=keys)["mass"]
        else:
            blocks = call.blocks()
            mass = stream(blocks, {"mass"}, lse=lse, keys=keys.to(blocks.query.dtype))["mass"]
        return mass.masked_fill(call.num_keys == 0, torch.nan)


def _of_part(call: RowsCall, statistics: Sequence[str], route: str, norms: Tensor | None) -> RowStatistics:
    wanted = bases(statistics)
    chosen = _choose(call, wanted, route)
    if chosen == "fused":
        found = by_identities(call, wanted)
    elif chosen == "flex":
        found = by_flex(call, wanted)
    elif chosen == "native":
        found = row_sums(call.query, call.key, call.native_scoring(), sorted(wanted), value_norms=norms)
    else:
        found = stream(call.blocks(), wanted, lse=call.lse, value_norms=norms)
    return _completed(call, statistics, found, chosen)


def _completed(call: RowsCall, statistics: Sequence[str], found: Mapping[str, Tensor], route: str) -> RowStatistics:
    rows = Rows(num_keys=call.num_keys, positions=call.position_tensor, dtype=call.query.dtype)
    return RowStatistics(
        values=rows.complete(statistics, found),
        lse=found["lse"].masked_fill(call.num_keys == 0, -torch.inf),
        num_keys=call.num_keys,
        route=dict.fromkeys(statistics, route),
    )


def _joined(parts: Sequence[RowStatistics]) -> RowStatistics:
    """Join statistics of some rows and of the rows after them."""
    if len(parts) == 1:
        return parts[0]
    return RowStatistics(
        values={name: torch.cat([part.values[name] for part in parts], -1) for name in parts[0].values},
        lse=torch.cat([part.lse for part in parts], -1),
        num_keys=torch.cat([part.num_keys for part in parts], -1),
        route=parts[0].route,
    )


def _choose(call: RowsCall, wanted: Set[str], route: str) -> str:
    """Return the route: identities only where they are cheaper, which is where no pass over the scores is needed."""
    obstacle = call.native_obstacle()
    if route not in ("auto", "streaming") and call.pattern is not None:
        raise UnsupportedError(f"route={route!r} has no patterns; use 'streaming' or 'auto'.")
    if route == "auto":
        if call.lse is not None and call.pattern is None and wanted <= set(NAMED_KEYS):
            return "fused"
        return "streaming" if obstacle else "native"
    if route == "native" and obstacle:
        raise UnsupportedError(f"route='native' needs {obstacle}; use 'streaming' or 'auto'.")
    if route not in _OBSTACLES:
        return route
    for name in sorted(wanted):
        obstacle = _OBSTACLES[route](call, name)
        if obstacle is not None:
            raise UnsupportedError(
                f"route={route!r} cannot give {name}: it needs {obstacle}; use 'streaming' or 'auto'."
            )
    return route


_OBSTACLES = {"fused": fused_obstacle, "flex": flex_statistics_obstacle}
