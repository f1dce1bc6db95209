"""What one attention call takes: the pairs of query and key that it must compare, and those that its kernel computes.

A causal mask halves what the mathematics needs. A kernel computes whole tiles of pairs, so it saves less, and where the
mask is a tensor that it cannot read ahead it saves nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["AttentionWork", "Reach", "native_backward_pairs", "native_pairs", "open_pairs", "torch_cpu_pairs"]

_NATIVE_KEYS = 256
_NATIVE_ROWS = 60
_NATIVE_QUERIES = 64


@dataclass(frozen=True, kw_only=True)
class AttentionWork:
    """One call of attention.

    Attributes:
        kernel: what computed it.
        module: dotted name of the module that called it, "" for the model itself.
        streams: batch × heads.
        q_len: queries of one head.
        kv_len: keys of one head.
        head_dim: width of query and key.
        value_dim: width of the values.
        computed: pairs that the kernel compares, of all streams.
        needed: pairs that may attend, of all streams; ``computed`` where a mask could not be read.
        mask_is_read: whether ``needed`` knows of every mask.
        has_mask: whether the kernel was given a mask or bias.
        kv_bytes: size of keys and values: what a cache of this length holds.
        element_bytes: size of one number of the scores, were they written out.
    """

    kernel: str
    module: str
    streams: int
    q_len: int
    kv_len: int
    head_dim: int
    value_dim: int
    computed: int
    needed: int
    mask_is_read: bool
    has_mask: bool
    kv_bytes: int
    element_bytes: int

    @property
    def forward_flops(self) -> tuple[int, int]:
        """Operations in products as computed and as needed: scores, and weights times values."""
        width = self.head_dim + self.value_dim
        return 2 * width * self.computed, 2 * width * self.needed

    @property
    def backward_flops(self) -> tuple[int, int]:
        """The same of the backward pass: a fused kernel computes the scores again, which the mathematics needs not."""
        again = 3 * self.head_dim + 2 * self.value_dim
        return 2 * again * self.computed, 4 * (self.head_dim + self.value_dim) * self.needed

    @property
    def map_bytes(self) -> int:
        """Size of one map of all pairs, which a kernel that is not fused allocates, more than once."""
        return self.streams * self.q_len * self.kv_len * self.element_bytes


@dataclass(frozen=True)
class Reach:
    """Which keys a query may see by where it stands: ``shift`` is the position of the first query among the keys."""

    q_len: int
    kv_len: int
    causal: bool = False
    window: int | None = None
    shift: int = 0

    def end(self, row: int) -> int:
        """Return one past the last key that ``row`` sees."""
        position = row + self.shift
        ahead = position + 1 if self.causal else self.kv_len if self.window is None else position + self.window
        return max(0, min(self.kv_len, ahead))

    def first(self, row: int) -> int:
        """Return the first key that ``row`` sees."""
        return 0 if self.window is None else min(self.kv_len, max(0, row + self.shift - self.window + 1))

    @property
    def needed(self) -> int:
        """Pairs of one head that may attend."""
        return _needed(self)


@lru_cache(maxsize=256)
def _needed(reach: Reach) -> int:
    if not reach.causal and reach.window is None:
        return reach.q_len * reach.kv_len
    return sum(max(0, reach.end(row) - reach.first(row)) for row in range(reach.q_len))


def open_pairs(masks: Iterable[Tensor | None], pairs: int, reach: Reach | None = None) -> int | None:
    """Return how many of ``pairs`` of all streams masks and biases let attend; None where one has no numbers.

    Args:
        masks: bool, True = may attend, or floats to be added, of which those below half of their type's range forbid.
        pairs: of all streams.
        reach: which keys a query may see besides.
    """
    given = [mask for mask in masks if mask is not None]
    per_head = None if reach is None else reach.q_len * reach.kv_len
    if not given:
        return pairs if reach is None or per_head == 0 else pairs // (per_head or 1) * reach.needed
    if any(getattr(mask, "fake_mode", None) is not None for mask in given):
        return None
    keep = given[0] if given[0].dtype == torch.bool else given[0] > torch.finfo(given[0].dtype).min / 2
    for mask in given[1:]:
        keep = keep & (mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2)
    if reach is not None and (reach.causal or reach.window is not None):
        keep = keep.expand(*keep.shape[:-2], reach.q_len, reach.kv_len)
        keep = keep & _near(reach, keep.device)
    return 0 if not keep.numel() else pairs // keep.numel() * int(keep.sum())


def _near(reach: Reach, device: torch.device) -> Tensor:
    keys = torch.arange(reach.kv_len, device=device)
    first = torch.tensor([reach.first(row) for row in range(reach.q_len)], device=device)
    end = torch.tensor([reach.end(row) for row in range(reach.q_len)], device=device)
    return (keys >= first[:, None]) & (keys < end[:, None])


@lru_cache(maxsize=256)
def torch_cpu_pairs(q_len: int, kv_len: int, is_causal: bool) -> int:
    """Return the pairs of one head that PyTorch's fused CPU kernel computes, forward as backward.

    It takes 256, 64 or 32 queries at a time and 512 keys; where it is causal it stops after the block of keys that
    holds the last query's own, so up to 512 keys it saves nothing. A mask saves nothing either.
    """
    if not is_causal:
        return q_len * kv_len
    rows, keys = 256 if q_len >= 768 else 64 if q_len >= 192 else 32, min(512, kv_len)
    found = 0
    for first in range(0, q_len, rows):
        count = min(rows, q_len - first)
        found += count * min(kv_len, -(-min(first + count, kv_len) // keys) * keys)
    return found


@lru_cache(maxsize=256)
def native_pairs(reach: Reach, group: int, near: bool) -> int:
    """Return the pairs that the native kernel computes for the ``group`` query heads of one key head.

    Their rows form one list, of which it takes about 60 at a time, or 240 where keys and values do not stay ``near``
    the core, and walks from the first key that one of them sees to the last.
    """
    step, found = _NATIVE_ROWS if near else 4 * _NATIVE_ROWS, 0
    for first in range(0, group * reach.q_len, step):
        rows = [row % reach.q_len for row in range(first, min(first + step, group * reach.q_len))]
        found += len(rows) * max(0, max(map(reach.end, rows)) - min(map(reach.first, rows)))
    return found


@lru_cache(maxsize=256)
def native_backward_pairs(reach: Reach) -> int:
    """Return the pairs of one query head that the native backward computes: 60 keys by 64 queries at a time."""
    found = 0
    for first in range(0, reach.kv_len, _NATIVE_ROWS):
        last = min(first + _NATIVE_ROWS, reach.kv_len) - 1
        begin = max(0, first - reach.shift) if reach.causal else 0
        if not reach.causal and reach.window is not None:
            begin = max(0, first - reach.window + 1 - reach.shift)
        end = reach.q_len if reach.window is None else min(reach.q_len, max(0, last + reach.window - reach.shift))
        begin = min(begin, reach.q_len) // _NATIVE_QUERIES * _NATIVE_QUERIES
        blocks = max(0, -(-(end - begin) // _NATIVE_QUERIES))
        found += (last + 1 - first) * blocks * _NATIVE_QUERIES
    return found
