"""Norms between sublayers, by name."""

from torch import nn

from regard._errors import ArgumentError

__all__ = ["NORMS", "make_norm"]

NORMS = ("layer", "rms")
"""Names that ``make_norm`` takes."""


def make_norm(kind: str, dim: int, eps: float) -> nn.Module:
    """Return ``"layer"`` (mean and variance, scale and shift) or ``"rms"`` (root mean square, scale alone).

    Args:
        kind: ``"layer"`` or ``"rms"``.
        dim: width of what is normed.
        eps: added to the variance, or to the mean square.

    Raises:
        ArgumentError: another kind.

    References:
        Ba et al., Layer normalization, arXiv:1607.06450; Zhang and Sennrich, Root mean square layer normalization,
        arXiv:1910.07467.

    Example:
        >>> make_norm("rms", 8, 1e-6)
        RMSNorm((8,), eps=1e-06, elementwise_affine=True)
    """
    if kind not in NORMS:
        raise ArgumentError(f"A norm must be one of {', '.join(NORMS)}, got {kind!r}.")
    return nn.LayerNorm(dim, eps=eps) if kind == "layer" else nn.RMSNorm(dim, eps=eps)
