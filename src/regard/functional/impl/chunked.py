"""Exact attention over blocks of queries and keys, forward and backward in memory linear in the lengths.

Forward is online softmax; backward keeps query, key, value, output and log-sum-exp and computes the scores again, block
by block. Sums are taken in float32 for half-precision inputs. It supports everything that ``attention`` has.

References:
    Rabe and Staats, Self-attention does not need O(n²) memory, arXiv:2112.05682; Dao et al., FlashAttention,
    arXiv:2205.14135, algorithms 1 and 4.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard.functional import taps
from regard.functional.impl.blocks import LN2, LOG2E, Place, ScoreBlocks
from regard.functional.impl.pattern_blocks import PatternBlocks, score_blocks
from regard.functional.patterns.layout import Index
from regard.functional.patterns.pattern import Pattern

__all__ = ["attend_rows", "chunked_with_lse"]

_LEVELS = 1 << 16


def chunked_with_lse(
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
    pattern: Pattern | None = None,
    rows_at_once: int | None = None,
) -> tuple[Float[Tensor, "batch heads q_len value_dim"], Float[Tensor, "batch heads q_len"]]:
    """Return attention and the log-sum-exp of each row's scores, both differentiable.

    With the log-sum-exp, results over disjoint sets of keys can be merged. It is float32 (float64 for float64 inputs)
    and -inf for a row without keys. ``rows_at_once`` makes a block of so many rows of all heads and of all keys, in
    place of one that fits the cache.
    """
    seed = int(torch.randint(1 << 62, ()).item()) if dropout_p > 0 else 0
    options = _Options(causal, window, scale, softcap, dropout_p, seed, pattern, rows_at_once)
    tensors = query, key, value, attn_mask, attn_bias, alibi_slopes
    with torch.autocast(query.device.type, enabled=False):
        output, lse = _Chunked.apply(*tensors, options)  # type: ignore[no-untyped-call]
    return output, lse


@dataclass(frozen=True)
class _Options:
    causal: bool
    window: int | None
    scale: float | None
    softcap: float | None
    dropout_p: float
    seed: int
    pattern: Pattern | None
    rows_at_once: int | None = None

    def blocks(
        self,
        query: Tensor,
        key: Tensor,
        attn_mask: Tensor | None,
        attn_bias: Tensor | None,
        alibi_slopes: Tensor | None,
    ) -> ScoreBlocks:
        return score_blocks(
            query,
            key,
            attn_mask=attn_mask,
            attn_bias=attn_bias,
            causal=self.causal,
            window=self.window,
            alibi_slopes=alibi_slopes,
            scale=self.scale,
            softcap=self.softcap,
            pattern=self.pattern,
            rows_at_once=self.rows_at_once,
        )


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None,
        attn_bias: Tensor | None,
        alibi_slopes: Tensor | None,
        options: _Options,
    ) -> tuple[Tensor, Tensor]:
        blocks = options.blocks(query, key, attn_mask, attn_bias, alibi_slopes)
        values = value.to(blocks.query.dtype)
        output = blocks.query.new_zeros(*blocks.query.shape[:4], value.shape[-1])
        lse = blocks.query.new_full(blocks.query.shape[:4], -torch.inf)
        with taps.as_one(taps.CHUNKED, _call(query, key, value, output, blocks)):
            for number, place in enumerate(blocks.places()):
                at = (place.batch, place.heads, slice(None), place.rows)
                output[at], lse[at] = _attend(blocks, values, place, _Dropout(options, number))
        output, lse = blocks.ungrouped(output).to(query.dtype), blocks.ungrouped(lse)
        ctx.save_for_backward(query, key, value, attn_mask, attn_bias, alibi_slopes, output, lse)
        ctx.options = options
        return output, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attn_mask, attn_bias, alibi_slopes, output, lse = ctx.saved_tensors
        with torch.autocast(query.device.type, enabled=False):
            blocks = ctx.options.blocks(query, key, attn_mask, attn_bias, alibi_slopes)
            _, _, _, _, needs_bias, needs_slopes, _ = ctx.needs_input_grad
            backward = _Backward(blocks, value, lse, output, grad_output, grad_lse, needs_bias, needs_slopes)
            with taps.as_one(taps.CHUNKED_BACKWARD, _call(query, key, value, output, blocks)):
                for number, place in enumerate(blocks.places()):
                    backward.add(place, _Dropout(ctx.options, number))
        grads = (
            blocks.ungrouped(backward.query).mul_(blocks.scale).to(query.dtype),
            backward.key.mul_(blocks.unscaled).to(key.dtype),
            backward.value.to(value.dtype),
        )
        bias = None if backward.bias is None else backward.bias_gradient(attn_bias)
        slopes = None if backward.slopes is None else backward.slopes.flatten().to(alibi_slopes.dtype)
        return (*grads, None, bias, slopes, None)


def _call(query: Tensor, key: Tensor, value: Tensor, output: Tensor, blocks: ScoreBlocks) -> dict[str, Any]:
    """Return what is told to those who count operators."""
    told = {"query": query, "key": key, "value": value, "output": output}
    if isinstance(blocks, PatternBlocks):
        return {**told, "computed": blocks.num_pairs, "needed": blocks.num_allowed}
    return {**told, "blocks": blocks}


def attend_rows(blocks: ScoreBlocks, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return output (batch, heads, rows, value_dim) and lse of the rows of ``blocks``, without gradients or dropout."""
    output = blocks.query.new_zeros(*blocks.query.shape[:4], values.shape[-1])
    lse = blocks.query.new_full(blocks.query.shape[:4], -torch.inf)
    nothing = _Dropout(_Options(False, None, None, None, 0.0, 0, None), 0)
    for place in blocks.places():
        at = (place.batch, place.heads, slice(None), place.rows)
        output[at], lse[at] = _attend(blocks, values, place, nothing)
    return blocks.ungrouped(output), blocks.ungrouped(lse)


def _attend(blocks: ScoreBlocks, values: Tensor, place: Place, dropout: "_Dropout") -> tuple[Tensor, Tensor]:
    """Return output (batch, kv_heads, group, rows, value_dim) and lse of a place by online softmax."""
    query_rows = blocks.query_rows(place)
    running: tuple[Tensor, Tensor, Tensor] | None = None
    for keys, generator in dropout.over(blocks.key_slices(place)):
        scores = blocks.scores(place, keys, query_rows)
        largest = scores.amax(-1)
        if running is not None:
            largest = torch.maximum(largest, running[0])
        shift = largest.masked_fill(largest == -torch.inf, 0.0)
        weights = scores.sub_(shift[..., None]).exp2_()
        total = weights.sum(-1)
        if generator is not None:
            weights.mul_(dropout.factors(weights, generator))
        output = _times(weights, values[place.batch, place.heads, keys])
        if running is not None:
            factor = torch.exp2(running[0] - shift)
            total += running[1] * factor
            output += running[2] * factor[..., None]
        running = (largest, total, output)
    if running is None:
        rows = blocks.query[place.batch, place.heads, :, place.rows]
        return rows.new_zeros(*rows.shape[:-1], values.shape[-1]), rows.new_full(rows.shape[:-1], -torch.inf)
    largest, total, output = running
    return output.div_(total.masked_fill(total == 0, 1.0)[..., None]), (largest + total.log2()).mul_(LN2)


class _Backward:
    """Gradients, summed up place by place."""

    def __init__(
        self,
        blocks: ScoreBlocks,
        value: Tensor,
        lse: Tensor,
        output: Tensor,
        grad_output: Tensor,
        grad_lse: Tensor,
        needs_bias: bool,
        needs_slopes: bool,
    ) -> None:
        dtype = blocks.query.dtype
        self._blocks = blocks
        self._values = value.to(dtype)
        shift = blocks.grouped(lse * LOG2E)
        self._shift = shift.masked_fill(shift == -torch.inf, 0.0)
        self._grad_output = blocks.grouped(grad_output).to(dtype)
        # d score = weight · (d weight - Σ output · d output + d lse)
        inner = torch.linalg.vecdot(output.to(dtype), grad_output.to(dtype))
        self._inner = blocks.grouped(inner - grad_lse)
        self.query = torch.zeros_like(blocks.query)
        self.key = torch.zeros_like(blocks.key)
        self.value = torch.zeros_like(self._values)
        self.bias = torch.zeros_like(blocks.bias, dtype=dtype) if needs_bias and blocks.bias is not None else None
        self.slopes = torch.zeros_like(blocks.slopes) if needs_slopes and blocks.slopes is not None else None

    def add(self, place: Place, dropout: "_Dropout") -> None:
        """Add what the rows of ``place`` contribute."""
        blocks = self._blocks
        at = (place.batch, place.heads, slice(None), place.rows)
        query_rows, grad_output, inner = blocks.query_rows(place), self._grad_output[at], self._inner[at]
        for keys, generator in dropout.over(blocks.key_slices(place)):
            scores, slope = blocks.scores_and_slope(place, keys, query_rows)
            weights = scores.sub_(self._shift[at][..., None]).exp2_()
            grad_weights = _times(grad_output, self._values[place.batch, place.heads, keys].mT)
            dropped = weights
            if generator is not None:
                factors = dropout.factors(weights, generator)
                dropped = weights * factors
                grad_weights.mul_(factors)
            self.value[place.batch, place.heads, keys] += dropped.flatten(2, 3).mT @ grad_output.flatten(2, 3)
            grad_scores = grad_weights.sub_(inner[..., None]).mul_(weights)
            if self.bias is not None:
                self._add_bias(place, keys, grad_scores)
            if self.slopes is not None:
                parts = grad_scores * blocks.distances(place, keys)
                self.slopes[:, place.heads] -= parts.sum((0, 3, 4), keepdim=True)
            if slope is not None:
                grad_scores.mul_(slope)
            self.query[at] += _times(grad_scores, blocks.key[place.batch, place.heads, keys])
            self.key[place.batch, place.heads, keys] += grad_scores.flatten(2, 3).mT @ query_rows

    def bias_gradient(self, attn_bias: Tensor) -> Tensor:
        """Return the gradient of the bias as it was given, with four axes."""
        assert self.bias is not None, "asked for only where the bias needs a gradient"
        return self.bias.reshape(attn_bias.shape).to(attn_bias.dtype)

    def _add_bias(self, place: Place, keys: Index, grad_scores: Tensor) -> None:
        assert self.bias is not None, "asked for only where the bias needs a gradient"
        at = self._blocks.side_index(self.bias, place, keys)
        broadcast = [axis for axis, size in enumerate(self.bias.shape) if size == 1]
        self.bias[at] += grad_scores.sum(broadcast, keepdim=True) if broadcast else grad_scores


class _Dropout:
    """Which weights of one place are dropped: the same in forward and backward, from the call's seed and the place."""

    def __init__(self, options: _Options, number: int) -> None:
        self._seed = options.seed + number
        self._level = min(round(options.dropout_p * _LEVELS), _LEVELS - 1) if options.dropout_p > 0 else 0

    def over(self, key_slices: Iterator[Index]) -> Iterator[tuple[Index, torch.Generator | None]]:
        """Yield each slice with the generator to draw its factors from, None where nothing is dropped."""
        generator: torch.Generator | None = None
        for keys in key_slices:
            if self._level and generator is None:
                generator = torch.Generator().manual_seed(self._seed)
            yield keys, generator

    def factors(self, weights: Tensor, generator: torch.Generator) -> Tensor:
        """Return 0 for what is dropped and 1 / (1 - p) for the rest.

        One 64-bit number decides about four weights with 16 bits each: drawing numbers is what dropout costs.
        """
        count = weights.numel()
        numbers = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None, generator=generator)
        kept = numbers.view(torch.int16)[:count].view(weights.shape) >= self._level - _LEVELS // 2
        return kept.to(weights.device, weights.dtype).mul_(_LEVELS / (_LEVELS - self._level))


def _times(left: Tensor, right: Tensor) -> Tensor:
    """Multiply (batch, kv_heads, group, rows, a) by (batch, kv_heads, a, b) without expanding the latter."""
    product = left.flatten(2, 3) @ right
    return product.reshape(*left.shape[:-1], right.shape[-1])
