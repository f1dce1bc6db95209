"""Random attention calls: every shape, layout and mask that people may come with, each from a seed of its own."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import regard_native
import torch
from torch import Tensor

__all__ = ["Drawn"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_LAYOUTS = ("contiguous", "heads inside", "sliced", "every other", "reversed axes", "expanded")
_EDGES = (1, 2, 16, 32, 60, 64, 128, 256, 320)  # around these, blocks and vectors of the kernels end
_MOST_SCORES = 1 << 21
_SOURCES = ("none", "none", "none", "mask", "mask", "bias", "both")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One random call.

    Attributes:
        seed: gives the same call again, on a machine with the same instruction sets.
        query: (batch, heads, q_len, head_dim); key and value as for ``attention``.
        masking: what shapes the scores.
        rows: for statistics; None for all.
        counted: queries that count for columns, (batch, q_len), or None.
        keys: a set of keys, (batch, kv_len).
        names: statistics that come with the output.
        differentiated: whether gradients are compared too.
        instruction_set: on which the kernels run.
        threads: with which they run.
        words: what was drawn, for people.
    """

    seed: int
    query: Tensor
    key: Tensor
    value: Tensor
    masking: dict[str, Any]
    rows: Tensor | None
    counted: Tensor | None
    keys: Tensor
    names: tuple[str, ...]
    differentiated: bool
    instruction_set: str
    threads: int
    words: str

    @classmethod
    def of(cls, seed: int) -> "Drawn":
        """Draw the call of ``seed``."""
        return _Drawing(seed).call()

    def randn(self, *shape: int) -> Tensor:
        """Return normal numbers that depend on the seed."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.seed + 1))


class _Drawing:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._words: list[str] = []

    def call(self) -> Drawn:
        """Draw everything."""
        choose = self._random
        self._dtype = choose.choice(_DTYPES)
        self._shapes()
        size = choose.choice((0.1, 1.0, 1.0, 2.0, 8.0))
        query = self._tensor("query", self._heads, self._q_len, self._head_dim) * size
        key = self._tensor("key", self._kv_heads, self._kv_len, self._head_dim)
        value = self._tensor("value", self._kv_heads, self._kv_len, self._value_dim)
        self._say(f"query × {size}")
        batch, q_len, kv_len = self._batch, self._q_len, self._kv_len
        return Drawn(
            seed=self._seed,
            query=self._laid_out("query", query),
            key=self._laid_out("key", key),
            value=self._laid_out("value", value),
            masking=self._masking(),
            rows=self._rows(),
            counted=self._bools((batch, q_len), 0.7) if choose.random() < 0.5 else None,
            keys=self._bools((batch, kv_len), 0.3),
            names=tuple(choose.sample(regard_native.STATISTICS[:11], choose.randrange(12))),
            differentiated=choose.random() < 0.5,
            instruction_set=self._say(choose.choice(regard_native.instruction_sets())),
            threads=choose.choice((1, 2)),
            words=", ".join(self._words),
        )

    def _say(self, words: str) -> str:
        self._words.append(words)
        return words

    def _length(self) -> int:
        choose = self._random
        kind = choose.random()
        if kind < 0.02:
            return 0
        if kind < 0.3:
            return choose.randint(1, 20)
        if kind < 0.6:
            return max(1, choose.choice(_EDGES) + choose.randint(-2, 2))
        return choose.randint(1, 400)

    def _width(self) -> int:
        choose = self._random
        if choose.random() < 0.5:
            return min(256, max(1, choose.choice((8, 16, 32, 64, 80, 96, 128, 256)) + choose.choice((-1, 0, 0, 0, 1))))
        return choose.randint(1, 256 if choose.random() < 0.3 else 64)

    def _shapes(self) -> None:
        choose = self._random
        self._batch = choose.choice((0, *(1, 2, 3) * 8))
        self._kv_heads = choose.randint(1, 8)
        self._heads = self._kv_heads * choose.randint(1, 8 // self._kv_heads)
        self._q_len, self._kv_len = self._length(), self._length()
        if choose.random() < 0.3:
            self._kv_len = self._q_len
        if choose.random() < 0.03:
            self._kv_len = choose.randint(1000, 6000)
            self._q_len = choose.choice((1, 3, 16, 61, 129))
        self._causal = choose.random() < 0.4 and self._q_len <= self._kv_len
        while self._batch * self._heads * self._q_len * self._kv_len > _MOST_SCORES:
            if self._batch > 1:
                self._batch = 1
            else:
                self._kv_heads = max(1, self._kv_heads // 2)
                self._heads = self._kv_heads * choose.randint(1, 2)
        self._head_dim = self._width()
        self._value_dim = self._head_dim if choose.random() < 0.5 else self._width()
        heads = f"{self._heads} over {self._kv_heads} heads"
        lengths = f"{self._q_len} × {self._kv_len}, widths {self._head_dim} and {self._value_dim}"
        self._say(f"{str(self._dtype)[6:]}, batch {self._batch}, {heads}, {lengths}")

    def _tensor(self, name: str, heads: int, length: int, width: int) -> Tensor:
        drawn = torch.randn(self._batch, heads, length, width, generator=self._generator)
        if name != "value" and self._random.random() < 0.05:
            drawn[:, :, : length // 2] = 0.0
        return drawn

    def _laid_out(self, name: str, drawn: Tensor) -> Tensor:
        """Return ``drawn`` rounded to the type, in some layout; what lies between its numbers in memory is NaN."""
        drawn = drawn.to(self._dtype)
        layout = self._random.choice(_LAYOUTS)
        self._say(f"{name} {layout}")
        if layout == "heads inside":
            return drawn.transpose(1, 2).contiguous().transpose(1, 2)
        if layout == "sliced":
            margins = [self._random.randint(0, 3) for _ in range(8)]
            room = [sum(margins[axis::4]) + size for axis, size in enumerate(drawn.shape)]
            whole = torch.full(room, torch.nan, dtype=drawn.dtype)
            part = whole[tuple(slice(at, at + size) for at, size in zip(margins[:4], drawn.shape, strict=True))]
            return part.copy_(drawn)
        if layout == "every other":
            return torch.stack([drawn, torch.full_like(drawn, torch.nan)], -1).flatten(-2)[..., ::2]
        if layout == "reversed axes":
            return drawn.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
        if layout == "expanded":
            axis = self._random.randrange(3)
            return drawn if drawn.shape[axis] == 0 else drawn.narrow(axis, 0, 1).expand(drawn.shape)
        return drawn

    def _masking(self) -> dict[str, Any]:
        choose = self._random
        source = choose.choice(_SOURCES)
        softcap = choose.choice((None, None, None, None, 0.5, 2.0, 30.0))
        scale = choose.choice((None, None, None, None, 0.3, -0.2, 0.0))
        self._say(f"causal {self._causal}, {source}, softcap {softcap}, scale {scale}")
        return {
            "attn_mask": self._mask() if source in ("mask", "both") else None,
            "attn_bias": self._bias() if source in ("bias", "both") else None,
            "causal": self._causal,
            "softcap": softcap,
            "scale": scale,
        }

    def _side_shape(self) -> tuple[int, ...]:
        """Draw a shape that broadcasts to the scores."""
        whole = (self._batch, self._heads, self._q_len, self._kv_len)
        shape = [size if self._random.random() < 0.6 else 1 for size in whole]
        if self._random.random() < 0.3:
            shape = [self._batch, 1, 1, self._kv_len]  # padding
        leading = self._random.choice((0, 0, 1, 2, 3))
        self._say(f"side {shape[leading:]}")
        return tuple(shape[leading:])

    def _side_layout(self, side: Tensor) -> Tensor:
        layout = self._random.choice(("contiguous", "contiguous", "every other", "transposed"))
        if layout == "every other":
            return torch.stack([side, side], -1).flatten(-2)[..., ::2] if side.ndim else side
        if layout == "transposed" and side.ndim > 1:
            return side.mT.contiguous().mT
        return side

    def _bools(self, shape: Sequence[int], share: float) -> Tensor:
        return torch.rand(tuple(shape), generator=self._generator) < share

    def _mask(self) -> Tensor:
        shape = self._side_shape()
        mask = self._bools(shape, self._random.choice((0.02, 0.3, 0.7, 0.95)))
        if self._random.random() < 0.3:  # blocks without any key, and others without a hidden one
            mask[..., : mask.shape[-1] // 2] = bool(self._random.randrange(2))
        if self._random.random() < 0.3 and mask.ndim > 1:
            mask[..., self._bools((mask.shape[-2],), 0.3), :] = False
        if self._random.random() < 0.2 and mask.ndim == 4 and mask.shape[0]:
            mask[self._random.randrange(mask.shape[0])] = False
            self._say("a sequence without keys")
        return self._side_layout(mask)

    def _bias(self) -> Tensor:
        shape = self._side_shape()
        bias = torch.randn(shape, generator=self._generator)
        hidden = self._random.choice((None, None, -torch.inf, -1e4, -1e9, 1e4))
        dtype = self._random.choice((self._dtype, torch.float32, torch.float64))
        self._say(f"bias {str(dtype)[6:]} with {hidden}")
        if hidden is not None:
            hidden = hidden if hidden == -torch.inf else max(hidden, torch.finfo(dtype).min)
            bias[self._bools(shape, self._random.choice((0.1, 0.5, 1.0)))] = hidden
        return self._side_layout(bias.to(dtype))

    def _rows(self) -> Tensor | None:
        if self._random.random() < 0.5:
            return None
        number = self._random.randint(0, 70) if self._q_len else 0
        shape = (number,) if self._random.random() < 0.5 else (self._batch, number)
        self._say(f"{list(shape)} rows")
        return torch.randint(max(1, self._q_len), shape, generator=self._generator)
