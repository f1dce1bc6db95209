"""Turning queries and keys by their positions, with tables that are made once."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard.functional.masks import check_causal_lengths
from regard.functional.positions import apply_rotary, rotary_tables

__all__ = ["turned", "turned_at_end"]

_SHORTEST = 256  # positions of a table; longer ones double


def turned(
    x: Float[Tensor, "batch heads len head_dim"],
    positions: Int[Tensor, "*sequences len"],
    *,
    base: float,
    num_positions: int,
) -> Float[Tensor, "batch heads len head_dim"]:
    """Return ``x`` turned by the position of each token.

    Args:
        x: queries or keys.
        positions: (len,) or (batch, len).
        base: of the wavelengths.
        num_positions: more than the largest position.
    """
    cos, sin = _tables(num_positions, x.shape[3], base, x.device)
    return apply_rotary(x, cos, sin, positions=positions)


def turned_at_end(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    base: float,
) -> tuple[Float[Tensor, "batch heads q_len head_dim"], Float[Tensor, "batch kv_heads kv_len head_dim"]]:
    """Return query and key turned; keys stand at 0, 1, 2, … and the last query at the last key.

    Raises:
        ArgumentError: more queries than keys.
    """
    q_len, kv_len = query.shape[2], key.shape[2]
    check_causal_lengths(q_len, kv_len)
    cos, sin = (table[:kv_len] for table in _tables(kv_len, key.shape[3], base, key.device))
    return apply_rotary(query, cos[kv_len - q_len :], sin[kv_len - q_len :]), apply_rotary(key, cos, sin)


def _tables(length: int, dim: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return tables of at least ``length`` positions."""
    if torch.compiler.is_compiling():  # a graph makes its own; what is kept outside of it would be baked in
        return rotary_tables(length, dim, base=base, device=device)
    return _kept_tables(max(_SHORTEST, 1 << (length - 1).bit_length()), dim, base, device)


@lru_cache(maxsize=16)
def _kept_tables(length: int, dim: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    # Tensors made under inference mode could not be used in training afterwards.
    with torch.inference_mode(False), torch.no_grad():
        return rotary_tables(length, dim, base=base, device=device)
