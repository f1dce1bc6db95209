"""Everything about masks: the one file that builds, checks, combines and converts them.

Inside regard only *keep* masks travel: boolean, **True = may attend**, broadcasting to (batch, heads, q_len, kv_len).
Other meanings (True = padding, 1 = real token) are converted here and nowhere else.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regard._errors import ArgumentError, DtypeError

__all__ = [
    "as_bias",
    "causal_mask",
    "check_bias",
    "check_mask",
    "combine",
    "distances",
    "document_mask",
    "keep_from_attention_mask",
    "keep_from_padding",
    "num_allowed_keys",
    "num_seeing_queries",
    "prefix_mask",
    "sliding_window_mask",
]

_BLOCK_ELEMENTS = 1 << 20


def causal_mask(q_len: int, kv_len: int, device: torch.device | str | None = None) -> Bool[Tensor, "q_len kv_len"]:
    """Return the keep mask of causal attention, aligned at the **bottom right**.

    The last query sees every key; query i sees the keys j <= i + kv_len - q_len. This is the alignment that a cache
    needs, and the usual triangle where the lengths are equal.

    Raises:
        ArgumentError: more queries than keys, which would leave queries without any key.
    """
    check_causal_lengths(q_len, kv_len)
    return _key_before_or_at_query(q_len, kv_len, device)


def keep_from_padding(key_padding_mask: Bool[Tensor, "batch kv_len"]) -> Bool[Tensor, "batch 1 1 kv_len"]:
    """Turn PyTorch's ``key_padding_mask`` (**True = padding**) into a keep mask.

    Raises:
        DtypeError: the mask is not boolean.
    """
    if key_padding_mask.dtype != torch.bool:
        raise DtypeError(
            f"key_padding_mask must be boolean with True = padding, got {key_padding_mask.dtype}; "
            "write `token_ids == padding_id`, or use keep_from_attention_mask for a mask with 1 = real token."
        )
    return ~key_padding_mask[:, None, None, :]


def keep_from_attention_mask(attention_mask: Tensor) -> Bool[Tensor, "batch 1 1 kv_len"]:
    """Turn Hugging Face's ``attention_mask`` (bool or integer (batch, kv_len), **1 = real token**) into a keep mask.

    Raises:
        DtypeError: the mask is of a floating type.
        ArgumentError: the mask does not have two axes.
    """
    if attention_mask.dtype.is_floating_point or attention_mask.dtype.is_complex:
        raise DtypeError(
            f"attention_mask must be boolean or integer with 1 = real token, got {attention_mask.dtype}; "
            "convert it with `attention_mask.bool()`."
        )
    if attention_mask.ndim != 2:
        raise ArgumentError(f"attention_mask must be (batch, kv_len), got the shape {tuple(attention_mask.shape)}.")
    return (attention_mask != 0)[:, None, None, :]


def sliding_window_mask(
    q_len: int, kv_len: int, *, window: int, causal: bool = True, device: torch.device | str | None = None
) -> Bool[Tensor, "q_len kv_len"]:
    """Return the keep mask of local attention, aligned at the bottom right.

    Args:
        q_len: number of queries.
        kv_len: number of keys.
        window: how many keys back a query sees, itself included (causal), or the largest distance + 1 to either side.
        causal: whether keys after the query are hidden.
        device: of the mask.

    Raises:
        ArgumentError: the window is empty, or causal with more queries than keys.

    References:
        Beltagy et al., Longformer, arXiv:2004.05150.
    """
    check_window(window)
    if causal:
        check_causal_lengths(q_len, kv_len)
    distance = query_positions(q_len, kv_len, device)[:, None] - torch.arange(kv_len, device=device)
    return (distance >= 0) & (distance < window) if causal else distance.abs() < window


def document_mask(
    documents: Int[Tensor, "batch q_len"], key_documents: Int[Tensor, "batch kv_len"] | None = None
) -> Bool[Tensor, "batch 1 q_len kv_len"]:
    """Return the keep mask of packed sequences: a token sees its own document only.

    Args:
        documents: the document number of each query.
        key_documents: the same of each key; the queries' own where absent.
    """
    key_documents = documents if key_documents is None else key_documents
    return (documents[:, :, None] == key_documents[:, None, :])[:, None]


def prefix_mask(
    q_len: int, kv_len: int, *, prefix_len: int, device: torch.device | str | None = None
) -> Bool[Tensor, "q_len kv_len"]:
    """Return the keep mask of a prefix language model: causal, but every query sees the first ``prefix_len`` keys.

    Raises:
        ArgumentError: a prefix longer than the keys, or more queries than keys.

    References:
        Raffel et al., Exploring the limits of transfer learning (T5), arXiv:1910.10683, figure 4.
    """
    if not 0 <= prefix_len <= kv_len:
        raise ArgumentError(f"prefix_len must lie between 0 and the number of keys, {kv_len}, got {prefix_len}.")
    return causal_mask(q_len, kv_len, device) | (torch.arange(kv_len, device=device) < prefix_len)


def combine(*masks: Tensor | None) -> Tensor | None:
    """Return the keep mask that allows what every given mask allows; None stands for no restriction.

    Raises:
        DtypeError: one of them is not boolean.
    """
    combined: Tensor | None = None
    for mask in masks:
        if mask is None:
            continue
        _check_boolean(mask, "a mask to combine")
        combined = mask if combined is None else combined & mask
    return combined


def as_bias(mask: Bool[Tensor, "*shape"], dtype: torch.dtype = torch.float32) -> Float[Tensor, "*shape"]:
    """Return 0 where ``mask`` allows and -inf where it does not, to be added to the scores.

    Never a large negative number: a row without any key must stay recognisable, and -1e9 overflows half precision.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)


def num_allowed_keys(
    mask: Tensor | None = None,
    causal: bool = False,
    *,
    q_len: int,
    kv_len: int,
    attn_bias: Tensor | None = None,
    window: int | None = None,
    positions: Int[Tensor, "*sequences q_len"] | None = None,
    device: torch.device | str | None = None,
) -> Int[Tensor, "_batch _heads q_len"]:
    """Count the keys that each query may see, without a matrix that was not given.

    Args:
        mask: keep mask that broadcasts to (batch, heads, q_len, kv_len), or None.
        causal: bottom-right causal as well.
        q_len: number of queries.
        kv_len: number of keys.
        attn_bias: bias of the scores; where it is -inf the key is not allowed.
        window: as for ``sliding_window_mask``.
        positions: of the queries among the keys, (q_len,) or (batch, q_len); by default the last query is at the last
            key.
        device: where neither mask nor bias is given.

    Returns:
        int64; batch and heads are 1 unless mask or bias tell them apart.
    """
    parts = [as_four_axes(part) for part in (mask, attn_bias) if part is not None]
    device = parts[0].device if parts else device
    positions = query_positions(q_len, kv_len, device) if positions is None else positions
    first, end = _reach(positions, causal, window, kv_len)
    if not parts:
        seen = end - first
        return seen[:, None] if seen.ndim == 2 else seen[None, None]
    limited = causal or window is not None
    if all(part.shape[2] == 1 for part in parts):
        keep = _keep(parts, slice(0, 1))
        keep = keep.expand(*keep.shape[:3], kv_len)[:, :, 0]
        if not limited:
            return keep.sum(-1, keepdim=True).expand(*keep.shape[:2], q_len)
        running = torch.nn.functional.pad(keep.cumsum(-1), (1, 0))
        upto = _at_keys(running, end)
        return upto if window is None else upto - _at_keys(running, first)
    return _count_in_blocks(parts, (first, end) if limited else None, q_len, kv_len)


def num_seeing_queries(
    mask: Tensor | None = None,
    causal: bool = False,
    *,
    q_len: int,
    kv_len: int,
    attn_bias: Tensor | None = None,
    window: int | None = None,
    query_mask: Bool[Tensor, "batch q_len"] | None = None,
    device: torch.device | str | None = None,
) -> Int[Tensor, "_batch _heads kv_len"]:
    """Count the queries that may see each key, without a matrix that was not given.

    Args:
        mask: keep mask that broadcasts to (batch, heads, q_len, kv_len), or None.
        causal: bottom-right causal as well.
        q_len: number of queries.
        kv_len: number of keys.
        attn_bias: bias of the scores; where it is -inf the key is not allowed.
        window: as for ``sliding_window_mask``.
        query_mask: True = the query counts; all by default.
        device: of the result.

    Returns:
        int64; batch and heads are 1 unless the arguments tell them apart.
    """
    parts = [as_four_axes(part) for part in (mask, attn_bias) if part is not None]
    everyone = torch.ones(1, q_len, dtype=torch.bool, device=device)
    counted = (everyone if query_mask is None else query_mask).to(torch.int64)
    if any(part.shape[2] > 1 for part in parts):
        return _count_columns_in_blocks(parts, counted, causal, window, kv_len)
    if causal or window is not None:
        # Key j stands at the query of number j - (kv_len - q_len): that one and later ones see it, within the window.
        own = torch.arange(kv_len, device=device) - (kv_len - q_len)
        running = torch.nn.functional.pad(counted.cumsum(-1), (1, 0))
        end = torch.full_like(own, q_len) if window is None else (own + window).clamp(0, q_len)
        first = own if causal else own - (window or 0) + 1
        seen = (running.index_select(-1, end) - running.index_select(-1, first.clamp(0, q_len)))[:, None]
    else:
        seen = counted.sum(-1)[:, None, None].expand(-1, 1, kv_len)
    return seen * _keep(parts, slice(0, 1))[:, :, 0] if parts else seen


def check_mask(mask: Tensor, batch: int, heads: int, q_len: int, kv_len: int) -> Tensor:
    """Return ``mask`` with four axes, or raise.

    Raises:
        DtypeError: it is not boolean.
        ArgumentError: it does not broadcast to (batch, heads, q_len, kv_len).
    """
    _check_boolean(mask, "attn_mask")
    return _check_shape(mask, "attn_mask", (batch, heads, q_len, kv_len))


def check_bias(bias: Tensor, batch: int, heads: int, q_len: int, kv_len: int) -> Tensor:
    """Return ``bias`` with four axes, or raise.

    Raises:
        DtypeError: it is not floating.
        ArgumentError: it does not broadcast to (batch, heads, q_len, kv_len).
    """
    if not bias.dtype.is_floating_point:
        raise DtypeError(f"attn_bias must be floating, got {bias.dtype}; give a boolean mask as attn_mask.")
    return _check_shape(bias, "attn_bias", (batch, heads, q_len, kv_len))


def check_causal_lengths(q_len: int, kv_len: int) -> None:
    """Raise ``ArgumentError`` where causal attention would leave queries without keys."""
    if q_len > kv_len:
        raise ArgumentError(
            f"Causal attention needs at least as many keys as queries, got {q_len} queries and {kv_len} keys; "
            "its last query is aligned with its last key."
        )


def check_window(window: int) -> None:
    """Raise ``ArgumentError`` for a window that holds no key."""
    if window < 1:
        raise ArgumentError(f"window must be at least 1 key, got {window}.")


def hiding_window(window: int | None, q_len: int, kv_len: int) -> int | None:
    """Return ``window`` where it hides a key, None where it is wider than all distances there are."""
    return None if window is None or window >= max(q_len, kv_len) else window


def check_slopes(slopes: Tensor, heads: int) -> None:
    """Raise where slopes are not floating numbers, one for each head.

    Raises:
        DtypeError: they are not floating.
        ArgumentError: they are not (heads,).
    """
    if not slopes.dtype.is_floating_point:
        raise DtypeError(f"alibi_slopes must be floating, got {slopes.dtype}; convert them first.")
    if slopes.shape != (heads,):
        raise ArgumentError(
            f"alibi_slopes must be one number for each of the {heads} heads, got the shape {tuple(slopes.shape)}."
        )


def distances(q_len: int, kv_len: int, device: torch.device | str | None = None) -> Int[Tensor, "q_len kv_len"]:
    """Return how far each query stands from each key, the last query at the last key."""
    return (query_positions(q_len, kv_len, device)[:, None] - torch.arange(kv_len, device=device)).abs()


def query_positions(q_len: int, kv_len: int, device: torch.device | str | None = None) -> Int[Tensor, " q_len"]:
    """Return the position of each query among the keys, the last query at the last key."""
    return torch.arange(q_len, device=device) + (kv_len - q_len)


def as_four_axes(tensor: Tensor) -> Tensor:
    """Return a view with leading axes of length one."""
    return tensor[(None,) * (4 - tensor.ndim)]


def _check_boolean(mask: Tensor, name: str) -> None:
    if mask.dtype != torch.bool:
        raise DtypeError(
            f"{name} must be boolean with True = may attend, got {mask.dtype}; "
            "give numbers that are added to the scores as attn_bias."
        )


def _check_shape(tensor: Tensor, name: str, target: tuple[int, int, int, int]) -> Tensor:
    fits = tensor.ndim <= 4 and all(
        size in (1, wanted) for size, wanted in zip(reversed(tensor.shape), reversed(target), strict=False)
    )
    if not fits:
        raise ArgumentError(
            f"{name} must broadcast to (batch, heads, q_len, kv_len) = {target}, got the shape {tuple(tensor.shape)}."
        )
    return as_four_axes(tensor)


def _key_before_or_at_query(q_len: int, kv_len: int, device: torch.device | str | None) -> Tensor:
    return torch.arange(kv_len, device=device) <= query_positions(q_len, kv_len, device)[:, None]


def _keep(parts: list[Tensor], rows: slice) -> Tensor:
    """Return the keep mask of some query rows from masks and biases of four axes."""
    cut = [part if part.shape[2] == 1 else part[:, :, rows] for part in parts]
    keep = [part if part.dtype == torch.bool else part > -torch.inf for part in cut]
    return keep[0] if len(keep) == 1 else keep[0] & keep[1]


def _reach(positions: Tensor, causal: bool, window: int | None, kv_len: int) -> tuple[Tensor, Tensor]:
    """Return the first key that causality and window let each position see, and one past the last."""
    first = torch.zeros_like(positions) if window is None else (positions - window + 1).clamp(0, kv_len)
    if causal:
        return first, torch.maximum((positions + 1).clamp(0, kv_len), first)
    end = torch.full_like(positions, kv_len) if window is None else (positions + window).clamp(0, kv_len)
    return first, end


def _count_columns_in_blocks(
    parts: list[Tensor], counted: Tensor, causal: bool, window: int | None, kv_len: int
) -> Tensor:
    batch, heads = (_broadcast(part.shape[axis] for part in parts) for axis in (0, 1))
    batch, q_len, device = _broadcast((batch, counted.shape[0])), counted.shape[1], counted.device
    counts = torch.zeros(batch, heads, kv_len, dtype=torch.int64, device=device)
    first, end = _reach(query_positions(q_len, kv_len, device), causal, window, kv_len)
    keys = torch.arange(kv_len, device=device)
    step = max(1, _BLOCK_ELEMENTS // max(1, batch * heads * kv_len))
    for start in range(0, q_len, step):
        rows = slice(start, min(start + step, q_len))
        keep = _keep(parts, rows) & (counted[:, None, rows, None] > 0)
        if causal or window is not None:
            keep = keep & (keys >= first[rows, None]) & (keys < end[rows, None])
        counts += keep.sum(2)
    return counts


def _broadcast(sizes: Iterable[int]) -> int:
    """Return the size of an axis that is broadcast from these: the one that is not 1, which may be 0."""
    return next((size for size in sizes if size != 1), 1)


def _at_keys(values: Tensor, keys: Tensor) -> Tensor:
    """Return (batch, heads, kv_len) at keys (q_len,) or (batch, q_len)."""
    if keys.ndim == 1:
        return values.index_select(-1, keys)
    shape = (keys.shape[0], *values.shape[1:])
    return values.expand(shape).gather(-1, keys[:, None].expand(*shape[:2], -1))


def _count_in_blocks(parts: list[Tensor], reach: tuple[Tensor, Tensor] | None, q_len: int, kv_len: int) -> Tensor:
    batch, heads = (_broadcast(part.shape[axis] for part in parts) for axis in (0, 1))
    if reach is not None:
        first, end = (limit[:, None] if limit.ndim == 2 else limit[None, None] for limit in reach)
        batch = batch if end.shape[0] == 1 else end.shape[0]
    counts = torch.empty(batch, heads, q_len, dtype=torch.int64, device=parts[0].device)
    keys = torch.arange(kv_len, device=counts.device)
    step = max(1, _BLOCK_ELEMENTS // max(1, batch * heads * kv_len))
    for start in range(0, q_len, step):
        rows = slice(start, min(start + step, q_len))
        keep = _keep(parts, rows)
        keep = keep.expand(*keep.shape[:3], kv_len)
        if reach is not None:
            keep = keep & (keys >= first[..., rows, None]) & (keys < end[..., rows, None])
        counts[:, :, rows] = keep.sum(-1)
    return counts
