"""Random attention calls for tests of laws: shapes, types, masks and biases, drawn by hypothesis."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from regard.functional import attention
from regard.functional.impl import blocks, native

from ..native.dense import Dense

NEEDS_NATIVE = pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")
NATIVE = pytest.param("native", marks=NEEDS_NATIVE)
BACKENDS = ["reference", "sdpa", "chunked", "chunked in tiny blocks", NATIVE]
WITH_LSE = ["chunked", "chunked in tiny blocks", NATIVE]
FEW = settings(max_examples=50)
"""Of laws that are checked on five backends each."""

EVERY_BACKEND = pytest.mark.parametrize("backend", BACKENDS)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
PRECISE = DTYPES[:2]
WITH_NATIVE = DTYPES[1:]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One random call; ``seed`` and ``words`` are what the tensors were drawn from."""

    seed: int
    words: dict[str, Any]
    query: Tensor
    key: Tensor
    value: Tensor
    masking: dict[str, Any]

    def __repr__(self) -> str:
        return f"Call(seed={self.seed}, {self.words})"

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.query, self.key, self.value

    @property
    def dense(self) -> Dense:
        return Dense(*self.tensors, self.masking)

    def randn(self, *shape: int) -> Tensor:
        """Return other normal numbers of the seed."""
        return torch.randn(shape, generator=torch.Generator().manual_seed(self.seed + 1))

    def index(self, length: int) -> int:
        """Return a number below ``length`` that depends on the seed."""
        return self.seed * 7919 % length


@st.composite
def calls(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = DTYPES, **fixed: Any) -> Call:
    """Draw shapes, type, masks, bias and what else shapes the scores; ``fixed`` arguments are left as they are."""
    kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    q_len, kv_len = draw(st.integers(1, 12)), draw(st.integers(1, 70))
    words = {
        "dtype": draw(st.sampled_from(dtypes)),
        "batch": draw(st.integers(1, 2)),
        "heads": kv_heads * group,
        "kv_heads": kv_heads,
        "q_len": q_len,
        "kv_len": kv_len,
        "head_dim": draw(st.integers(1, 20)),
        "value_dim": draw(st.integers(1, 20)),
        "size": draw(st.sampled_from((0.1, 1.0, 1.0, 4.0))),
        "mask": draw(st.sampled_from(("none", "none", "keys", "rows", "shared", "full"))),
        "visible": draw(st.sampled_from((0.1, 0.6, 0.95))),
        "bias": draw(st.sampled_from(("none", "none", "keys", "heads", "full"))),
        "closed": draw(st.sampled_from((0.0, 0.3))),
        "causal": draw(st.booleans()) and q_len <= kv_len,
        "softcap": draw(st.sampled_from((None, None, 0.5, 20.0))),
        "scale": draw(st.sampled_from((None, None, 0.3, -0.2, 0.0))),
        **fixed,
    }
    return made(draw(st.integers(0, 1 << 16)), words)


def made(seed: int, words: dict[str, Any]) -> Call:
    generator = torch.Generator().manual_seed(seed)
    batch, heads, kv_heads = words["batch"], words["heads"], words["kv_heads"]
    q_len, kv_len, dtype = words["q_len"], words["kv_len"], words["dtype"]

    def drawn(heads: int, length: int, width: int) -> Tensor:
        return torch.randn(batch, heads, length, width, generator=generator)

    sides = {
        "keys": (batch, 1, 1, kv_len),
        "rows": (batch, 1, q_len, 1),
        "heads": (heads, q_len, kv_len),
        "shared": (q_len, kv_len),
        "full": (batch, heads, q_len, kv_len),
    }
    mask = bias = None
    if words["mask"] != "none":
        mask = torch.rand(sides[words["mask"]], generator=generator) < words["visible"]
    if words["bias"] != "none":
        bias = torch.randn(sides[words["bias"]], generator=generator).to(dtype)
        bias[torch.rand(bias.shape, generator=generator) < words["closed"]] = -torch.inf
    return Call(
        seed=seed,
        words=words,
        query=(drawn(heads, q_len, words["head_dim"]) * words["size"]).to(dtype),
        key=drawn(kv_heads, kv_len, words["head_dim"]).to(dtype),
        value=drawn(kv_heads, kv_len, words["value_dim"]).to(dtype),
        masking={"attn_mask": mask, "attn_bias": bias} | {name: words[name] for name in ("causal", "softcap", "scale")},
    )


def can(backend: str, call: Call) -> bool:
    """Return whether the backend takes the call; the others say that they do not, which other tests see to."""
    if backend == "native":
        return call.query.dtype in WITH_NATIVE
    return backend != "sdpa" or call.masking["softcap"] is None


def tiny(backend: str) -> AbstractContextManager[Any]:
    """Make blocks hold a few scores only where the backend's name says so."""
    if not backend.endswith("tiny blocks"):
        return nullcontext()
    return patch.multiple(blocks, _BLOCK_SCORES=24, _BLOCK_KEYS=4, _CAUSAL_ROWS=2)


def attend(backend: str, call: Call, **changed: Any) -> Tensor:
    """Return the output of the call with some arguments changed."""
    given = dict(zip(("query", "key", "value"), call.tensors, strict=True)) | call.masking | changed
    with tiny(backend):
        return attention(**given, impl=backend.split()[0])


def four_axes(masking: dict[str, Any]) -> dict[str, Any]:
    return {
        name: given[(None,) * (4 - given.ndim)] if isinstance(given, Tensor) else given
        for name, given in masking.items()
    }
