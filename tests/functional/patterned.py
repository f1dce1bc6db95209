"""One list of patterns and of calls that drives every test of them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regard.functional import Pattern, alibi_slopes, patterns, reference

LEN = 200  # no multiple of the 64 tokens of a block
_DOCUMENTS = torch.tensor([3] * 80 + [1] * 47 + [7] * 73)

PATTERNS: dict[str, Pattern] = {
    "window": patterns.sliding(20),
    "uneven window": patterns.sliding(150, ahead=3),
    "longformer": patterns.longformer(20, [0, 5, 150, 199, 5000]),
    "sinks": patterns.sliding(10) | patterns.global_tokens([0, 1], see_all=False),
    "bigbird": patterns.bigbird(LEN, block=32, num_random=1, seed=3),
    "blocks across blocks": patterns.block_sparse([(0, 0), (3, 1), (3, 3)], block=50),
    "no block at all": patterns.block_sparse(torch.zeros(0, 2, dtype=torch.int64)),
    "documents": patterns.documents(_DOCUMENTS),
    "documents by sequence": patterns.documents(torch.stack([_DOCUMENTS, _DOCUMENTS.flip(0)])),
    "scattered documents": patterns.documents(torch.arange(LEN) % 4),
    "longformer in documents": patterns.documents(_DOCUMENTS) & patterns.longformer(9, [0, 80]),
}


@dataclass(frozen=True, kw_only=True)
class PatternCall:
    """A call, and the dense mask that says the same as its pattern."""

    q_len: int = LEN
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    value_dim: int = 12
    causal: bool = False
    window: int | None = None
    mask: str = "none"
    bias: bool = False
    slopes: bool = False
    softcap: float | None = None
    scale: float | None = None

    def __str__(self) -> str:
        default = PatternCall()
        changed = {name: value for name, value in vars(self).items() if value != getattr(default, name)}
        return ",".join(f"{name}={value}" for name, value in changed.items()) or "plain"

    def tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)

        def drawn(heads: int, length: int, width: int) -> Tensor:
            return torch.randn(2, heads, length, width, generator=generator, dtype=torch.float64).to(dtype)

        return (
            drawn(self.heads, self.q_len, self.head_dim),
            drawn(self.kv_heads, LEN, self.head_dim),
            drawn(self.kv_heads, LEN, self.value_dim),
        )

    def masking(self, dtype: torch.dtype) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(1)
        shapes = {"padding": (2, 1, 1, LEN), "rows": (self.q_len, 1), "full": (2, self.heads, self.q_len, LEN)}
        mask = bias = None
        if self.mask != "none":
            mask = torch.rand(shapes[self.mask], generator=generator) < 0.6
        if self.bias:
            bias = torch.randn(self.heads, self.q_len, LEN, generator=generator, dtype=torch.float64).to(dtype)
        return {
            "attn_mask": mask,
            "attn_bias": bias,
            "causal": self.causal,
            "window": self.window,
            "alibi_slopes": alibi_slopes(self.heads).to(dtype) if self.slopes else None,
            "softcap": self.softcap,
            "scale": self.scale,
        }

    def dense(self, pattern: Pattern, dtype: torch.dtype) -> dict[str, Any]:
        """Return what shapes the scores without a pattern, its mask joined to the call's."""
        masking, mask = self.masking(dtype), pattern.mask(self.q_len, LEN)
        return {**masking, "attn_mask": mask if masking["attn_mask"] is None else mask & masking["attn_mask"]}

    def scores(self, pattern: Pattern, dtype: torch.dtype) -> Tensor:
        """Return the dense masked scores in float64 of tensors rounded to ``dtype``."""
        query, key, _ = self.tensors(dtype)
        given = {
            name: one.double() if isinstance(one, Tensor) and one.is_floating_point() else one
            for name, one in self.dense(pattern, dtype).items()
        }
        return reference.scores(query.double(), key.double(), **given)


CALLS = [
    PatternCall(),
    PatternCall(causal=True),
    PatternCall(q_len=133, causal=True, kv_heads=4),
    PatternCall(q_len=1, mask="padding"),
    PatternCall(mask="padding", causal=True, kv_heads=1),
    PatternCall(mask="rows"),
    PatternCall(mask="full", bias=True, softcap=3.0, scale=0.4),
    PatternCall(slopes=True, window=40),
]
