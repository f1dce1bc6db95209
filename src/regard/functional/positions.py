"""Where a token stands: sinusoidal, rotary and ALiBi positions.

Learned positions have parameters and are a module: ``regard.modules.LearnedPositions``.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional.masks import query_positions

__all__ = ["alibi_bias", "alibi_slopes", "apply_rotary", "rotary_tables", "sinusoidal"]


def sinusoidal(
    length: int, dim: int, *, base: float = 10_000.0, device: torch.device | str | None = None
) -> Float[Tensor, "length dim"]:
    """Return the table to add to the embeddings: sines in even columns, cosines in odd ones, float32.

    Column 2i holds sin(position / base^(2i/dim)), column 2i + 1 the cosine of the same angle, so that the row of
    position p + k is a rotation of the row of p which does not depend on p.

    Raises:
        ArgumentError: an odd width.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762, section 3.5.
    """
    angles = _angles(length, dim, base, device)
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-2).float()


def rotary_tables(
    length: int, dim: int, *, base: float = 10_000.0, device: torch.device | str | None = None
) -> tuple[Float[Tensor, "length half_dim"], Float[Tensor, "length half_dim"]]:
    """Return cosines and sines for ``apply_rotary``, float32.

    Args:
        length: number of positions.
        dim: how many columns of a head are rotated, two for each angle.
        base: wavelengths reach from 2π to about 2π · base.
        device: of the tables.

    Raises:
        ArgumentError: an odd width.

    References:
        Su et al., RoFormer, arXiv:2104.09864, equation 15.
    """
    angles = _angles(length, dim, base, device)
    return angles.cos().float(), angles.sin().float()


def apply_rotary(
    x: Float[Tensor, "batch heads len head_dim"],
    cos: Float[Tensor, "max_len half_dim"],
    sin: Float[Tensor, "max_len half_dim"],
    *,
    positions: Int[Tensor, "*sequences len"] | None = None,
) -> Float[Tensor, "batch heads len head_dim"]:
    """Rotate queries or keys by their positions, so that their products depend on the distance alone.

    Column c is paired with column c + half_dim, as in Llama and NeoX. Columns from 2 · half_dim on stay as they are.
    The rotation is computed in float32 and returned in the type of ``x``.

    Args:
        x: queries or keys.
        cos: from ``rotary_tables``.
        sin: from ``rotary_tables``.
        positions: (len,) or (batch, len), of each token; 0, 1, 2, … by default.

    Raises:
        ArgumentError: tables wider than a head, or shorter than the sequence.
    """
    half = cos.shape[-1]
    if 2 * half > x.shape[-1]:
        raise ArgumentError(f"The tables must not be wider than a head, got {2 * half} columns for {x.shape[-1]}.")
    if positions is None:
        if x.shape[2] > cos.shape[0]:
            raise ArgumentError(
                f"The tables hold {cos.shape[0]} positions, got a sequence of {x.shape[2]}; build longer tables."
            )
        cos, sin = cos[: x.shape[2]], sin[: x.shape[2]]
    else:
        cos, sin = cos[positions], sin[positions]
        cos, sin = (cos[:, None], sin[:, None]) if positions.ndim == 2 else (cos, sin)
    first, second, rest = x.split([half, half, x.shape[-1] - 2 * half], -1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)
    return torch.cat((turned, rest), -1) if rest.shape[-1] else turned


def alibi_slopes(num_heads: int) -> Float[Tensor, " heads"]:
    """Return the slope of each head, positive, float32.

    For a power of two n they are 2^(-8/n), 2^(-16/n), …, 2^-8. Otherwise those of the next lower power of two, then
    every other one of the next higher power, as the authors do.

    Raises:
        ArgumentError: no head.

    References:
        Press et al., Train short, test long, arXiv:2108.12409, section 3 and its code.
    """
    if num_heads < 1:
        raise ArgumentError(f"num_heads must be at least 1, got {num_heads}.")
    lower = 1 << (num_heads.bit_length() - 1)
    slopes = _geometric(lower) + _geometric(2 * lower)[::2][: num_heads - lower]
    return torch.tensor(slopes)


def alibi_bias(
    num_heads: int, q_len: int, kv_len: int, *, device: torch.device | str | None = None
) -> Float[Tensor, "1 heads q_len kv_len"]:
    """Return the bias -slope · |i - j| for ``attn_bias``, the last query at the last key, float32.

    It is dense, heads × q_len × kv_len numbers: the one form that every backend takes.

    References:
        Press et al., Train short, test long, arXiv:2108.12409, section 3.
    """
    distance = (query_positions(q_len, kv_len, device)[:, None] - torch.arange(kv_len, device=device)).abs()
    return -alibi_slopes(num_heads).to(distance.device)[None, :, None, None] * distance


def _angles(length: int, dim: int, base: float, device: torch.device | str | None) -> Tensor:
    """Return position · base^(-2i/dim), (length, dim / 2) in float64: large angles need the digits."""
    if dim < 2 or dim % 2:
        raise ArgumentError(f"The width must be even and at least 2, a sine and a cosine per angle; got {dim}.")
    exponents = torch.arange(0, dim, 2, dtype=torch.float64, device=device) / dim
    frequencies = torch.exp(-math.log(base) * exponents)
    return torch.arange(length, dtype=torch.float64, device=device)[:, None] * frequencies


def _geometric(count: int) -> list[float]:
    return [2.0 ** (-8.0 * (index + 1) / count) for index in range(count)]
