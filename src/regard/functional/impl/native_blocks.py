"""Attention over the pairs that a pattern allows, by the native kernels: a block of queries with its keys at a time.

Keys that follow each other are read where they lie; others are gathered, a few heads at a time, so that a block that
sees everything holds no second copy of all keys. The backward pass gathers them again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from regard._errors import UnsupportedError
from regard.functional import taps
from regard.functional.impl.native import (
    Scoring,
    backward,
    default_scale,
    empty_gradient,
    empty_output,
    forward,
    native_obstacle,
)
from regard.functional.impl.pattern_blocks import sequence_layouts
from regard.functional.impl.torch_private import is_imaginary
from regard.functional.patterns.layout import Index, Part, indices, length_of
from regard.functional.patterns.pattern import Pattern, limited

__all__ = ["native_blocks_with_lse", "run_blocks", "run_blocks_backward"]

_GATHERED_BYTES = 1 << 25  # of keys and values, or of their gradients, held at a time


def native_blocks_with_lse(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    pattern: Pattern,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    alibi_slopes: Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return attention and the log-sum-exp of each row's scores, as ``chunked_with_lse`` does.

    Raises:
        UnsupportedError: what the kernels cannot take.
    """
    obstacle = native_obstacle(query, key, value, attn_bias, alibi_slopes)
    if obstacle is not None:
        raise UnsupportedError(f'impl="native" needs {obstacle}; use impl="auto" or "chunked".')
    seed = torch.randint(1 << 62, ()) if dropout_p > 0 else None
    scale, sides = default_scale(query, scale), (attn_mask, attn_bias, alibi_slopes)
    if torch.compiler.is_compiling():
        from regard.functional.impl.native_blocks_operator import pattern_attention

        compiled: tuple[Tensor, Tensor] = pattern_attention(
            query, key, value, *sides, seed, pattern.number, causal, window, scale, softcap or 0.0, dropout_p
        )
        return compiled
    number = 0 if seed is None else int(seed)
    scoring = Scoring(scale=scale, softcap=softcap, dropout_p=dropout_p, seed=number)
    joined = limited(pattern, causal, window)
    output, lse = _NativeBlocks.apply(query, key, value, *sides, joined, scoring)  # type: ignore[no-untyped-call]
    return output, lse


class _NativeBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None,
        attn_bias: Tensor | None,
        alibi_slopes: Tensor | None,
        pattern: Pattern,
        scoring: Scoring,
    ) -> tuple[Tensor, Tensor]:
        given = query, key, value, attn_mask, attn_bias, alibi_slopes
        output, lse = run_blocks(given, pattern, scoring)
        ctx.save_for_backward(*given, output, lse)
        ctx.pattern, ctx.scoring = pattern, scoring
        return output, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, grad_lse: Tensor) -> tuple[Tensor | None, ...]:
        *given, output, lse = ctx.saved_tensors
        grads = run_blocks_backward(given, ctx.pattern, ctx.scoring, output, lse, grad_output, grad_lse)
        return *grads, *(None,) * 5


def run_blocks(given: Sequence[Any], pattern: Pattern, scoring: Scoring) -> tuple[Tensor, Tensor]:
    """Run the kernel block by block; ``given`` are query, key, value, mask, bias and slopes."""
    query, key, value, attn_mask, attn_bias, alibi_slopes = given
    call = _Call(query, key, value, attn_mask, attn_bias, alibi_slopes, pattern, scoring)
    output = empty_output(query, value).zero_()
    lse = query.new_full(query.shape[:3], -torch.inf, dtype=torch.float32)
    with taps.as_one(taps.NATIVE_BLOCKS, call.told(output)):
        for block in call.blocks():
            found, sums, _ = forward(*call.tensors(block), block.scoring)
            output[block.rows], lse[block.rows] = found, sums
    return output, lse


def run_blocks_backward(
    given: Sequence[Any],
    pattern: Pattern,
    scoring: Scoring,
    output: Tensor,
    lse: Tensor,
    grad_output: Tensor,
    grad_lse: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the kernel of the backward pass block by block; ``given`` as for ``run_blocks``."""
    query, key, value, attn_mask, attn_bias, alibi_slopes = given
    call = _Call(query, key, value, attn_mask, attn_bias, alibi_slopes, pattern, scoring)
    grad_query = empty_gradient(query).zero_()
    grads = [torch.zeros(tensor.shape, dtype=torch.float32) for tensor in (key, value)]
    with taps.as_one(taps.NATIVE_BLOCKS_BACKWARD, call.told(output)):
        for block in call.blocks():
            at = block.rows
            found = backward(
                *call.tensors(block), block.scoring, output=output[at], lse=lse[at], grad_output=grad_output[at],
                grad_lse=grad_lse[at],
            )  # fmt: skip
            grad_query[at] = found[0]
            for grad, some in zip(grads, found[1:], strict=True):
                _add(grad, block, some)
    return grad_query, grads[0].to(key.dtype), grads[1].to(value.dtype)


@dataclass(frozen=True, kw_only=True)
class _Block:
    """One call of the kernel: where its queries and its keys lie, and what shapes their scores."""

    rows: tuple[slice, slice, Index]
    sequences: slice
    heads: slice
    keys: Index
    runs: list[slice] | None
    scoring: Scoring


@dataclass(frozen=True)
class _Call:
    query: Tensor
    key: Tensor
    value: Tensor
    attn_mask: Tensor | None
    attn_bias: Tensor | None
    alibi_slopes: Tensor | None
    pattern: Pattern
    scoring: Scoring

    def told(self, output: Tensor) -> dict[str, Any]:
        """Return what is told to those who count operators."""
        layouts = sequence_layouts(self.pattern, self._positions, self.key.shape[2])
        streams = self.query.shape[0] // max(1, len(layouts)) * self.query.shape[1]
        masked = self.attn_mask is not None or self.attn_bias is not None
        return {
            "query": self.query,
            "key": self.key,
            "value": self.value,
            "output": output,
            "computed": streams * sum(layout.num_computed for layout in layouts),
            "needed": None if masked else streams * sum(int(layout.num_allowed.sum()) for layout in layouts),
        }

    def tensors(self, block: _Block) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value of a block."""
        return self.query[block.rows], _gathered(self.key, block), _gathered(self.value, block)

    def blocks(self) -> Iterator[_Block]:
        """Yield the calls of the kernel; rows without keys are in none."""
        if is_imaginary(self.query):
            return
        batch, kv_heads = self.key.shape[:2]
        layouts = sequence_layouts(self.pattern, self._positions, self.key.shape[2])
        width = (self.key.shape[3] + self.value.shape[3]) * self.key.element_size()
        number = 0
        for index, layout in enumerate(layouts):
            sequences = slice(0, batch) if len(layouts) == 1 else slice(index, index + 1)
            own = self.pattern.sequence(min(index, self.pattern.batch - 1))
            for part in layout.parts():
                keys = part.keys
                if keys is None:
                    continue
                keep = _keep(own, part, keys, self._positions.start)
                held = (sequences.stop - sequences.start) * length_of(keys) * width
                step = max(1, min(kv_heads, _GATHERED_BYTES // held))
                for head in range(0, kv_heads, step):
                    yield self._block(sequences, slice(head, min(head + step, kv_heads)), part, keys, keep, number)
                    number += 1

    @property
    def _positions(self) -> range:
        return range(self.key.shape[2] - self.query.shape[2], self.key.shape[2])

    def _block(
        self, sequences: slice, heads: slice, part: Part, keys: Index, keep: Tensor | None, number: int
    ) -> _Block:
        group = self.query.shape[1] // self.key.shape[1]
        own = slice(heads.start * group, heads.stop * group)
        at = (sequences, own, part.rows, keys)
        mask = None if self.attn_mask is None else _side_part(self.attn_mask, at)
        bias = None if self.attn_bias is None else _side_part(self.attn_bias, at)
        if keep is not None:
            mask = keep if mask is None else mask & keep
        if self.alibi_slopes is not None:
            rows, columns = indices(part.rows) + self._positions.start, indices(keys)
            apart = (rows[:, None] - columns).abs().to(torch.float32)
            lower = self.alibi_slopes[own, None, None].to(torch.float32) * -apart
            bias = lower[None] if bias is None else bias + lower
        scoring = replace(self.scoring, attn_mask=mask, attn_bias=bias, seed=self.scoring.seed + number)
        return _Block(
            rows=(sequences, own, part.rows),
            sequences=sequences,
            heads=heads,
            keys=keys,
            runs=part.runs,
            scoring=scoring,
        )


def _gathered(tensor: Tensor, block: _Block) -> Tensor:
    """Return keys or values: a view where they follow each other, else a copy, of runs where these are few."""
    held = tensor[block.sequences, block.heads]
    if block.runs is None:
        return held.index_select(2, indices(block.keys))
    pieces = [held[:, :, run] for run in block.runs]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2)


def _add(total: Tensor, block: _Block, some: Tensor) -> None:
    """Add the gradients of gathered keys or values where they belong."""
    held = total[block.sequences, block.heads]
    if block.runs is None:
        held.index_add_(2, indices(block.keys), some.to(total.dtype))
        return
    first = 0
    for run in block.runs:
        held[:, :, run] += some[:, :, first : first + run.stop - run.start]
        first += run.stop - run.start


def _keep(pattern: Pattern, part: Part, keys: Index, shift: int) -> Tensor | None:
    """Return which pairs of a part are open, (1, 1, rows, keys); None for all."""
    if part.masked is None:
        return None
    keep = torch.ones(length_of(part.rows), length_of(keys), dtype=torch.bool)
    keep[:, part.masked_at] = pattern.allows(indices(part.rows)[:, None] + shift, indices(part.masked))
    return keep[None, None]


def _side_part(side: Tensor, at: tuple[Index, ...]) -> Tensor:
    """Return the part of a mask or bias of four axes that belongs to a block, unexpanded."""
    *rest, rows, keys = at
    if isinstance(rows, Tensor) and isinstance(keys, Tensor) and min(side.shape[2:]) > 1:
        rows = rows[:, None]
    wanted = (*rest, rows, keys)
    return side[tuple(some if size > 1 else slice(None) for some, size in zip(wanted, side.shape, strict=True))]
