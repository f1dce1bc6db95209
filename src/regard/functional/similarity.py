"""How alike the attention maps of two heads are, without a map."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional.call import check_query_mask, checked_call, quiet
from regard.functional.impl.blocks import LN2, LOG2E, Grid, Place
from regard.functional.impl.rows_call import RowsCall
from regard.functional.impl.statistics_streaming import stream
from regard.functional.patterns import Pattern

__all__ = ["head_similarity"]


def head_similarity(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    measure: str = "cosine",
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
) -> Float[Tensor, "batch heads heads"]:
    """Return how alike the maps of each two heads are, exact and in memory linear in the lengths.

    ``"cosine"`` is Σ p_a p_b / √(Σ p_a² Σ p_b²) over all weights of the counted rows: 0 to 1, 1 for equal maps.
    ``"kl"`` is the mean of KL(p_a ‖ p_b) over the counted rows in which head a may see a key: nats from 0, 0 for equal
    maps, inf where head b may not see what head a may; entry [a, b] is not entry [b, a].

    Args:
        query: as given to the attention call, after any rotation.
        key: likewise.
        measure: ``"cosine"`` or ``"kl"``.
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
        float32 (float64 for float64 inputs), NaN for a head without a counted row that may see a key.

    Raises:
        ArgumentError: an unknown measure, shapes that do not fit.
        DtypeError: types that do not belong.

    Example:
        >>> query, key = torch.randn(1, 2, 4, 8), torch.randn(1, 1, 4, 8)
        >>> head_similarity(query[:, :1].expand(-1, 2, -1, -1), key, measure="kl", causal=True)
        tensor([[[0., 0.],
                 [0., 0.]]])
    """
    if measure not in ("cosine", "kl"):
        raise ArgumentError(f'measure must be "cosine" or "kl", got {measure!r}.')
    with quiet(query):
        counted = check_query_mask(query_mask, query)
        call = checked_call(
            query, key, lse, attn_mask=attn_mask, attn_bias=attn_bias, causal=causal, window=window,
            alibi_slopes=alibi_slopes, scale=scale, softcap=softcap, pattern=pattern,
        )  # fmt: skip
        return _cosine(call, counted) if measure == "cosine" else _divergence(call, counted)


def _cosine(call: RowsCall, counted: Tensor | None) -> Tensor:
    blocks = call.blocks()
    products = _square(blocks)
    for place, logs in _log_weights(call, blocks):
        weights = _counted(logs.exp2_(), counted, place).flatten(2)
        products[place.batch] += weights @ weights.mT
    norms = products.diagonal(dim1=1, dim2=2).sqrt()
    return (products / norms[:, :, None] / norms[:, None, :]).clamp_max_(1.0)


def _divergence(call: RowsCall, counted: Tensor | None) -> Tensor:
    blocks = call.blocks()
    expected, escaped = _square(blocks), _square(blocks)
    differ = any(side is not None and side.shape[1] > 1 for side in (call.attn_mask, call.attn_bias))
    for place, logs in _log_weights(call, blocks):
        weights = _counted(logs.exp2(), counted, place).flatten(2)
        hidden = logs == -torch.inf
        expected[place.batch] += weights @ logs.masked_fill_(hidden, 0.0).flatten(2).mT
        if differ:
            # Masks, not weights, say what a head may see: a weight may be too small for its type.
            seen = _counted((~hidden).to(logs.dtype), counted, place).flatten(2)
            escaped[place.batch] += seen @ hidden.to(logs.dtype).flatten(2).mT
    own = expected.diagonal(dim1=1, dim2=2)[:, :, None]
    total = ((own - expected) * LN2).clamp_min_(0.0).masked_fill_(escaped > 0, torch.inf)
    num_rows = _num_rows(call, counted).to(total.dtype)[:, :, None]
    return (total / num_rows).masked_fill_(num_rows == 0, torch.nan)


def _log_weights(call: RowsCall, blocks: Grid) -> Iterator[tuple[Place, Tensor]]:
    """Yield log2 of the weights of all heads, (batch, heads, rows, keys), in blocks; -inf where a key is not seen."""
    lse = stream(blocks, frozenset())["lse"] if call.lse is None else call.lse.to(blocks.dtype)
    shift = blocks.grouped(lse.masked_fill(lse == -torch.inf, 0.0) * LOG2E)[..., None]
    for place in blocks.places(whole_heads=True):
        scores_of = blocks.scores_of(place)
        for keys in blocks.key_slices(place):
            yield place, blocks.ungrouped(scores_of(keys).sub_(shift[place.batch, :, :, place.rows]))


def _counted(values: Tensor, counted: Tensor | None, place: Place) -> Tensor:
    return values if counted is None else values.mul_(counted[place.batch, None, place.rows, None])


def _num_rows(call: RowsCall, counted: Tensor | None) -> Tensor:
    """Return how many counted rows of each head may see a key, (batch or 1, heads or 1)."""
    filled = call.num_keys > 0
    return (filled if counted is None else filled & counted[:, None]).sum(-1)


def _square(blocks: Grid) -> Tensor:
    heads = blocks.shape[1] * blocks.shape[2]
    return blocks.empty(blocks.shape[0], heads, heads).zero_()
