"""A function of packed sequences, called as the functions of four axes are."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["OffsetsFunction", "takes_offsets"]

_OFFSETS = ("offsets", "cu_seqlens", "cu_seqlens_q", "cu_seq_q")
_KV_OFFSETS = ("kv_offsets", "cu_seqlens_k", "cu_seqlens_kv", "cu_seq_k")
_LONGEST = ("max_seqlen", "max_seqlen_q", "max_q")
_LONGEST_KV = ("max_seqlen_k", "max_seqlen_kv", "max_k")


def takes_offsets(names: Sequence[str]) -> bool:
    """Return whether a function with these arguments takes (tokens, heads, head_dim) and where sequences begin."""
    return any(name in names for name in _OFFSETS)


class OffsetsFunction:
    """``function`` over (batch, heads, len, head_dim): its rows one after the other, and their offsets.

    Args:
        function: takes query, key and value of (tokens, heads, head_dim) and integer offsets (sequences + 1,), as
            ``flash_attn_varlen_func`` does.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        names = tuple(inspect.signature(function).parameters)
        self._names = [_first(names, known) for known in (_OFFSETS, _KV_OFFSETS, _LONGEST, _LONGEST_KV)]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        """Attend within each row."""
        ends = [_even_offsets(one) for one in (query, key)]
        return self.packed(query, key, value, *ends, **options)

    def packed(
        self, query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, kv_offsets: Tensor, **options: Any
    ) -> Tensor:
        """Attend within each sequence; ``offsets`` count through the rows one after the other."""
        longest = [int(ends.diff().max()) for ends in (offsets, kv_offsets)]
        known = zip(self._names, (offsets, kv_offsets, *longest), strict=True)
        options |= {name: given for name, given in known if name is not None}
        rows = [one.transpose(1, 2).flatten(0, 1) for one in (query, key, value)]
        result = self.function(*rows, **options)
        flat: Tensor = result[0] if isinstance(result, tuple) else result
        output: Tensor = flat.unflatten(0, (query.shape[0], query.shape[2])).transpose(1, 2)
        return output

    def given(self, ends: str, longest: str) -> list[str]:
        """Return the arguments of offsets, written with these values."""
        return [
            f"{name}={value}" for name, value in zip(self._names, (ends, ends, longest, longest), strict=True) if name
        ]

    def written(self) -> list[str]:
        """Return Python that puts the same function of four axes in the place of the original."""
        offsets, kv_offsets, *longest = self._names
        given = [f"{offsets}=ends[0]", *([f"{kv_offsets}=ends[1]"] if kv_offsets else [])]
        given += [f"{name}={one}.shape[2]" for name, one in zip(longest, ("query", "key"), strict=True) if name]
        return [
            f"over_offsets = {self.__name__}",
            f"def {self.__name__}(query, key, value, **options):",
            "    rows = [one.transpose(1, 2).flatten(0, 1) for one in (query, key, value)]",
            "    ends = [torch.arange(len(one) + 1, dtype=torch.int32) * one.shape[2] for one in (query, key)]",
            f"    output = over_offsets(*rows, {', '.join(given)}, **options)",
            "    return output.unflatten(0, (len(query), -1)).transpose(1, 2)",
        ]


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in known if name in names), None)


def _even_offsets(rows: Tensor) -> Tensor:
    return torch.arange(len(rows) + 1, dtype=torch.int32) * rows.shape[2]
