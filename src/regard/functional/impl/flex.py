"""PyTorch's FlexAttention: what shapes the scores becomes its functions, what hides them its blocks.

On a GPU it is compiled to one fused kernel for all of it, in memory linear in the lengths. On a CPU it computes the
dense formula and no gradients: good for checking what a GPU would be asked for. It is imported by the first call.

References:
    Dong et al., Flex Attention: a programming model for generating optimized attention kernels, arXiv:2412.05496.
"""

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from regard._errors import UnsupportedError
from regard.functional.impl.blocks import accumulation_dtype

__all__ = ["flex_attend", "flex_obstacle"]

_BLOCK = 128  # queries, and keys, of one block: what FlexAttention takes unless it is told otherwise

Modification = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
Mask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def flex_attend(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    value: Float[Tensor, "batch kv_heads kv_len value_dim"],
    *,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    temperature: float = 1.0,
    wants_lse: bool = True,
    wants_max: bool = False,
) -> tuple[Float[Tensor, "batch heads q_len value_dim"], Tensor | None, Tensor | None]:
    """Return attention, and of each row's scores the log-sum-exp and the largest, where they are wanted.

    Args:
        query: as for ``regard.functional.attention``, and so is what is not said here; masks of four axes.
        key: likewise.
        value: likewise.
        attn_mask: likewise.
        attn_bias: likewise; it must not need a gradient.
        causal: likewise.
        window: likewise.
        alibi_slopes: likewise; they must not need a gradient.
        scale: likewise.
        softcap: likewise.
        dropout_p: must be 0.
        temperature: what the final scores, softcap and bias included, are divided by.
        wants_lse: whether the log-sum-exp is returned; not in code that is compiled for a CPU.
        wants_max: whether the largest score is returned; not on a CPU.

    Raises:
        UnsupportedError: what ``flex_obstacle`` finds.
    """
    obstacle = flex_obstacle(query, key, value, (attn_bias, alibi_slopes), dropout_p)
    if obstacle is None and query.device.type == "cpu" and wants_max:
        obstacle = "a GPU in order to give the largest scores"
    if obstacle is not None:
        raise UnsupportedError(f'impl="flex" needs {obstacle}; use impl="auto", "sdpa" or "chunked".')
    if query.numel() == 0 or key.numel() == 0:
        nothing = query.new_full(query.shape[:3], -torch.inf, dtype=accumulation_dtype(query.dtype))
        return query.new_zeros(*query.shape[:3], value.shape[3]), nothing, nothing
    from torch.nn.attention.flex_attention import AuxRequest

    q_len, kv_len = query.shape[2], key.shape[2]
    reach = _Reach(q_len, kv_len, causal, window, query.device)
    target, dtype = (*query.shape[:3], kv_len), accumulation_dtype(query.dtype)
    output, aux = _run(
        query,
        key,
        value,
        score_mod=_modification(reach, target, attn_bias, alibi_slopes, softcap, temperature, dtype),
        block_mask=_block_mask(reach, target, attn_mask),
        scale=1.0 / math.sqrt(query.shape[3]) if scale is None else scale,
        enable_gqa=query.shape[1] != key.shape[1],
        return_aux=AuxRequest(lse=wants_lse, max_scores=wants_max),
    )
    return output, aux.lse, aux.max_scores


def flex_obstacle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    biases: tuple[Tensor | None, ...] = (),
    dropout_p: float = 0.0,
) -> str | None:
    """Return what ``flex_attend`` would need in order to run this call, or None where it can."""
    if query.device.type not in ("cpu", "cuda"):
        return "tensors on a CUDA device, or on a CPU"
    if dropout_p > 0:
        return "dropout_p=0"
    if not torch.is_grad_enabled():
        return None
    if any(bias is not None and bias.requires_grad for bias in biases):
        return "a bias and slopes without a gradient"
    if query.device.type == "cpu" and any(tensor.requires_grad for tensor in (query, key, value)):
        return "a GPU in order to give gradients, or torch.no_grad()"
    return None


def _run(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    if torch.compiler.is_compiling():
        return flex_attention(query, key, value, **options)
    if query.is_cuda:
        return _compiled()(query, key, value, **options)
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        # That it allocates the matrix is what a CPU is used for here.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        return flex_attention(query, key, value, **options)


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # Never without the compiler, which is what a break in the graph would mean: it would allocate the matrix.
    return torch.compile(flex_attention, fullgraph=True)


class _Reach:
    """Which keys a query may see by where it stands."""

    def __init__(self, q_len: int, kv_len: int, causal: bool, window: int | None, device: torch.device) -> None:
        self.q_len, self.kv_len, self.causal, self.window, self.device = q_len, kv_len, causal, window, device
        self.shift = _number(kv_len - q_len, torch.int64, device)
        self.is_limited = causal or window is not None

    def mask(self) -> Mask:
        """Return whether a query may see a key."""
        shift, causal = self.shift, self.causal
        if self.window is None:
            return lambda batch, head, row, at: at <= row + shift
        near = _number(self.window, torch.int64, self.device)
        if causal:
            return lambda batch, head, row, at: (at <= row + shift) & (row + shift - at < near)
        return lambda batch, head, row, at: (row + shift - at).abs() < near

    def blocks(self) -> tuple[Tensor, Tensor]:
        """Return which blocks some query of theirs sees some key of, and which all see all of, bool (rows, keys)."""
        first_row, last_row = (ends + (self.kv_len - self.q_len) for ends in self._ends(self.q_len))
        first_key, last_key = (ends[None] for ends in self._ends(self.kv_len))
        first_row, last_row = first_row[:, None], last_row[:, None]
        seen = torch.ones(len(first_row), first_key.shape[1], dtype=torch.bool, device=self.device)
        whole = seen & (last_row - first_row == _BLOCK - 1) & (last_key - first_key == _BLOCK - 1)
        if self.causal:
            seen, whole = seen & (first_key <= last_row), whole & (last_key <= first_row)
        if self.window is not None:
            seen, whole = seen & (last_key > first_row - self.window), whole & (first_key > last_row - self.window)
            if not self.causal:
                seen, whole = seen & (first_key < last_row + self.window), whole & (last_key < first_row + self.window)
        return seen, whole

    def _ends(self, length: int) -> tuple[Tensor, Tensor]:
        first = torch.arange(0, length, _BLOCK, device=self.device)
        return first, (first + _BLOCK).clamp_max(length) - 1


def _number(value: int | float, dtype: torch.dtype, device: torch.device) -> Any:
    """Return a tensor, so that another number needs no other kernel; within code that is compiled a constant."""
    return value if torch.compiler.is_compiling() else torch.tensor(value, dtype=dtype, device=device)


def _modification(
    reach: _Reach,
    target: tuple[int, ...],
    attn_bias: Tensor | None,
    alibi_slopes: Tensor | None,
    softcap: float | None,
    temperature: float,
    dtype: torch.dtype,
) -> Modification | None:
    """Return what is done to each score, composed of what there is."""
    steps: list[Modification] = []
    if softcap is not None:
        limit = _number(softcap, dtype, reach.device)
        steps.append(lambda score, batch, head, row, at: torch.tanh(score / limit) * limit)
    if attn_bias is not None:
        bias = attn_bias.expand(target)
        steps.append(lambda score, batch, head, row, at: score + bias[batch, head, row, at])
    if alibi_slopes is not None:
        shift, slopes = reach.shift, alibi_slopes
        steps.append(lambda score, batch, head, row, at: score - slopes[head] * (row + shift - at).abs())
    if temperature != 1.0:
        factor = _number(1.0 / temperature, dtype, reach.device)
        steps.append(lambda score, batch, head, row, at: score * factor)
    if not steps:
        return None

    def modified(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, at: Tensor) -> Tensor:
        for step in steps:
            score = step(score, batch, head, row, at).to(score.dtype)
        return score

    return modified


def _block_mask(reach: _Reach, target: tuple[int, ...], attn_mask: Tensor | None) -> Any:
    """Return the blocks that are computed, found without a matrix that was not given; None for all of them."""
    if attn_mask is None and not reach.is_limited:
        return None
    from torch.nn.attention.flex_attention import BlockMask

    seen, whole = reach.blocks()
    masks = [reach.mask()] if reach.is_limited else []
    if attn_mask is None:
        partial, full = (seen & ~whole)[None, None], (seen & whole)[None, None]
    else:
        kept = attn_mask.expand(target)
        masks.append(lambda batch, head, row, at: kept[batch, head, row, at])
        partial, full = _any_in_blocks(attn_mask, target) & seen, None

    def allowed(batch: Tensor, head: Tensor, row: Tensor, at: Tensor) -> Tensor:
        found = masks[0](batch, head, row, at)
        return found if len(masks) == 1 else found & masks[1](batch, head, row, at)

    counts, indices = _listed(partial)
    full_counts, full_indices = (None, None) if full is None else _listed(full)
    return BlockMask.from_kv_blocks(
        counts,
        indices,
        full_counts,
        full_indices,
        BLOCK_SIZE=_BLOCK,
        mask_mod=allowed,
        seq_lengths=(reach.q_len, reach.kv_len),
    )


def _any_in_blocks(mask: Tensor, target: tuple[int, ...]) -> Tensor:
    """Return whether a mask of four axes lets some query of each block see some key of it."""
    for axis in (2, 3):
        size = target[axis]
        if mask.shape[axis] == 1:
            mask = mask.expand(*(-1 if at != axis else -(-size // _BLOCK) for at in range(4)))
            continue
        missing = -size % _BLOCK
        padded = F.pad(mask, (0, missing) if axis == 3 else (0, 0, 0, missing))
        mask = padded.unflatten(axis, (-1, _BLOCK)).any(axis + 1)
    return mask


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each block of queries how many blocks of keys there are, and which, those first."""
    order = torch.argsort(blocks.to(torch.int32), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.to(torch.int32)
