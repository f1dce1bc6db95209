"""The patterns that there are: windows, global tokens, blocks, documents."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard._errors import ArgumentError, DtypeError
from regard.functional.masks import check_window
from regard.functional.patterns.layout import Extent
from regard.functional.patterns.pattern import Near, Pattern

__all__ = ["bigbird", "block_sparse", "documents", "global_tokens", "longformer", "sliding"]


def sliding(window: int, *, ahead: int | None = None) -> Pattern:
    """Return a window around each query, itself included.

    Args:
        window: keys less than this far before the query are seen.
        ahead: keys less than this far behind it; ``window`` by default, 1 for none.

    Raises:
        ArgumentError: a window that holds no key.

    References:
        Beltagy et al., Longformer, arXiv:2004.05150, section 3.1.

    Example:
        >>> sliding(2, ahead=1).mask(3, 3)[0, 0].int()
        tensor([[1, 0, 0],
                [1, 1, 0],
                [0, 1, 1]], dtype=torch.int32)
    """
    check_window(window)
    if ahead is not None:
        check_window(ahead)
    return Near(window, window if ahead is None else ahead)


def global_tokens(positions: Iterable[int], *, see_all: bool = True) -> Pattern:
    """Return a pattern in which a few tokens are seen by all, and see all.

    Args:
        positions: of the tokens; those beyond the end of a sequence are left out there.
        see_all: whether they also see every key; False for tokens that are only looked at, such as attention sinks.

    Raises:
        ArgumentError: no position, or one below 0.

    References:
        Longformer's global attention, arXiv:2004.05150; sinks: Xiao et al., arXiv:2309.17453.
    """
    found = torch.tensor(sorted(set(positions)), dtype=torch.int64)
    if not len(found) or int(found[0]) < 0:
        raise ArgumentError(f"positions must be at least one number from 0, got {found.tolist()}.")
    return _Global(found, see_all)


def longformer(window: int, global_at: Iterable[int]) -> Pattern:
    """Return ``sliding(window) | global_tokens(global_at)``: a window everywhere, and a few tokens that join all.

    References:
        Beltagy et al., Longformer, arXiv:2004.05150, figure 2d.
    """
    return sliding(window) | global_tokens(global_at)


def block_sparse(pairs: Tensor | Sequence[tuple[int, int]], *, block: int = 64) -> Pattern:
    """Return a pattern of blocks that are open as a whole.

    Args:
        pairs: number of a block of queries and number of a block of keys, each pair one that is open.
        block: tokens of a block; multiples of 64 are computed without waste.

    Raises:
        ArgumentError: a block without tokens, numbers below 0, or no pairs of two numbers.

    References:
        Child et al., Sparse Transformers, arXiv:1904.10509.
    """
    found = torch.as_tensor(pairs, dtype=torch.int64)
    if block < 1:
        raise ArgumentError(f"block must be at least 1 token, got {block}.")
    if found.ndim != 2 or found.shape[1] != 2 or (found.numel() and int(found.min()) < 0):
        raise ArgumentError(f"pairs must be (pairs, 2) block numbers from 0, got the shape {tuple(found.shape)}.")
    width = int(found[:, 1].max()) + 1 if len(found) else 1
    return _Blocks((found[:, 0] * width + found[:, 1]).unique(), width, block)


def bigbird(
    length: int, *, block: int = 64, num_window: int = 3, num_global: int = 1, num_random: int = 3, seed: int = 0
) -> Pattern:
    """Return BigBird's pattern: a window of blocks, global blocks at the start, and some blocks at random.

    Args:
        length: tokens of the longest sequence.
        block: tokens of a block.
        num_window: blocks of the window, odd: so many keys are seen around a query, its own block in the middle.
        num_global: blocks at the start that see all and are seen by all.
        num_random: further blocks of keys that each block of queries sees, drawn once.
        seed: of the draw.

    Raises:
        ArgumentError: sizes below what they can be, or an even window.

    References:
        Zaheer et al., BigBird, arXiv:2007.14062.
    """
    if length < 1 or block < 1 or num_window < 1 or num_window % 2 == 0 or num_global < 0 or num_random < 0:
        raise ArgumentError(
            "bigbird needs a length and a block from 1, an odd num_window from 1, num_global and num_random from 0, "
            f"got {length}, {block}, {num_window}, {num_global} and {num_random}."
        )
    count = -(-length // block)
    generator, half = torch.Generator().manual_seed(seed), num_window // 2
    found: set[tuple[int, int]] = set()
    for row in range(count):
        near = range(max(0, row - half), min(count, row + half + 1))
        fixed = {*near, *range(min(num_global, count))}
        # Drawn among all and what is there already passed over: what costs no list of all blocks for each row.
        drawn = torch.randint(count, (4 * num_random + len(fixed),), generator=generator).tolist()
        extra = [at for at in dict.fromkeys(drawn) if at not in fixed][:num_random]
        found.update((row, at) for at in (*fixed, *extra))
    found.update((row, at) for row in range(min(num_global, count)) for at in range(count))
    return block_sparse(sorted(found), block=block)


def documents(numbers: Tensor) -> Pattern:
    """Return a pattern in which a token sees its own document only, for texts that share a sequence.

    Args:
        numbers: document of each token, integer (kv_len,), or (batch, kv_len) where sequences differ. Documents that
            lie in one piece are cheap; others are exact, and cost what lies between their parts.

    Raises:
        DtypeError: they are no integers.
        ArgumentError: they have neither one nor two axes.

    Example:
        >>> documents(torch.tensor([0, 0, 1])).mask(3, 3)[0, 0].int()
        tensor([[1, 1, 0],
                [1, 1, 0],
                [0, 0, 1]], dtype=torch.int32)
    """
    if numbers.dtype.is_floating_point or numbers.dtype.is_complex or numbers.dtype == torch.bool:
        raise DtypeError(f"numbers of documents must be integers, got {numbers.dtype}; convert them first.")
    if numbers.ndim not in (1, 2):
        raise ArgumentError(f"numbers must be (kv_len,) or (batch, kv_len), got the shape {tuple(numbers.shape)}.")
    rows = numbers.detach().cpu().to(torch.int64).reshape(-1, numbers.shape[-1])
    return _Documents(rows)


@dataclass(frozen=True, eq=False)
class _Global(Pattern):
    positions: Tensor
    see_all: bool

    def __repr__(self) -> str:
        return f"global_tokens({len(self.positions)} tokens)"

    def allows(self, queries: Tensor, keys: Tensor) -> Tensor:
        seen, seeing = self._has(keys), self._has(queries)
        return seen | seeing if self.see_all else seen & torch.ones_like(seeing)

    def bounds(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        some, every = self._any(keys).expand(len(queries), -1), self._all(keys).expand(len(queries), -1)
        if not self.see_all:
            return some, every
        return some | self._any(queries)[:, None], every | self._all(queries)[:, None]

    def wide(self, kv_len: int) -> tuple[Tensor, Tensor]:
        found = torch.zeros(kv_len, dtype=torch.bool)
        found[self.positions[self.positions < kv_len]] = True
        return (found if self.see_all else torch.zeros_like(found)), found

    def _has(self, tokens: Tensor) -> Tensor:
        return torch.isin(tokens, self.positions.to(tokens.device))

    def _any(self, blocks: Tensor) -> Tensor:
        return self._has(blocks).any(-1)

    def _all(self, blocks: Tensor) -> Tensor:
        return (self._has(blocks) | (blocks < 0)).all(-1)


@dataclass(frozen=True, eq=False)
class _Blocks(Pattern):
    """``codes``: rising, number of the block of queries · width + number of the block of keys."""

    codes: Tensor
    width: int
    block: int

    def __repr__(self) -> str:
        return f"block_sparse({len(self.codes)} pairs, block={self.block})"

    def allows(self, queries: Tensor, keys: Tensor) -> Tensor:
        return self._has(queries // self.block, keys // self.block)

    def bounds(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = Extent.of(queries), Extent.of(keys)
        (first, last), (left, right) = (
            (extent.low // self.block, extent.high // self.block) for extent in (rows, columns)
        )
        open_before = torch.nn.functional.pad(self._opened(queries).cumsum(-1, dtype=torch.int32), (1, 0))
        some = open_before[:, right.clamp_max(self.width - 1) + 1] > open_before[:, left.clamp_max(self.width)]
        return some, some & (first == last)[:, None] & (left == right)

    def _opened(self, queries: Tensor) -> Tensor:
        """Return which blocks of keys some query of each block may see, bool (query blocks, width)."""
        found = torch.zeros(len(queries), self.width, dtype=torch.bool)
        numbers = torch.arange(len(queries))[:, None].expand_as(queries)[queries >= 0]
        own = queries[queries >= 0] // self.block
        rows, blocks = torch.stack([numbers, own]).unique(dim=1)
        begins, ends = (torch.searchsorted(self.codes, (blocks + more) * self.width) for more in (0, 1))
        counts = ends - begins
        first = (begins - counts.cumsum(0) + counts).repeat_interleave(counts)
        codes = self.codes[first + torch.arange(int(counts.sum()))]
        found[rows.repeat_interleave(counts), codes % self.width] = True
        return found

    def _has(self, rows: Tensor, columns: Tensor) -> Tensor:
        codes = self.codes.to(rows.device)
        if not len(codes):
            return torch.zeros_like(rows * columns, dtype=torch.bool)
        wanted = rows * self.width + columns
        at = torch.searchsorted(codes, wanted).clamp_max_(len(codes) - 1)
        return (codes[at] == wanted) & (columns < self.width)


@dataclass(frozen=True, eq=False)
class _Documents(Pattern):
    """``numbers``: int64 (sequences, kv_len)."""

    numbers: Tensor

    def __repr__(self) -> str:
        return f"documents({tuple(self.numbers.shape)})"

    @property
    def batch(self) -> int:
        return self.numbers.shape[0]

    def sequences(self, start: int, stop: int) -> Pattern:
        return self if self.batch == 1 else _Documents(self.numbers[start:stop])

    def check(self, q_len: int, kv_len: int) -> None:
        super().check(q_len, kv_len)
        if self.numbers.shape[1] != kv_len:
            raise ArgumentError(
                f"documents need the number of each of the {kv_len} keys, got {self.numbers.shape[1]} numbers."
            )

    def allows(self, queries: Tensor, keys: Tensor) -> Tensor:
        numbers = self.numbers[0].to(queries.device)
        return numbers[queries] == numbers[keys]

    def bounds(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        (first, last), (left, right) = self._ends(queries), self._ends(keys)
        some = (first[:, None] <= right) & (left <= last[:, None])
        return some, (first == last)[:, None] & (left == right) & (first[:, None] == left)

    def _ends(self, blocks: Tensor) -> tuple[Tensor, Tensor]:
        found, nobody = self.numbers[0][blocks.clamp_min(0)], blocks < 0
        limits = torch.iinfo(torch.int64)
        return found.masked_fill(nobody, limits.max).amin(-1), found.masked_fill(nobody, limits.min).amax(-1)
