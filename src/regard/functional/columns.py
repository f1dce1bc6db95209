"""Statistics of attention columns without the matrix: how the weight is spread over the keys that receive it."""

from jaxtyping import Bool, Float
from torch import Tensor

from regard.functional.call import check_query_mask, checked_call, quiet
from regard.functional.impl.statistics_streaming import column_sums, stream

__all__ = ["received_mass"]


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
    with quiet(query):
        counted = check_query_mask(query_mask, query)
        call = checked_call(query, key, attn_mask, attn_bias, causal, scale, softcap, lse)
        blocks = call.blocks()
        known = stream(blocks, frozenset())["lse"] if lse is None else lse
        return column_sums(blocks, known, None if counted is None else counted.to(blocks.dtype))
