"""From PyTorch's attention module to ours."""

from typing import Any

from torch import Tensor, nn

from regard._errors import ArgumentError, UnsupportedError
from regard.modules.multi_head import MultiHeadAttention

__all__ = ["from_torch"]


def from_torch(module: nn.Module, **options: Any) -> MultiHeadAttention:
    """Return a layer with a copy of the weights of an ``nn.MultiheadAttention``, equal to 1e-5 in float32.

    Ours is always batch first, whatever ``batch_first`` says. What ``forward`` is given changes a little:
    ``module(query, key, value)`` becomes ``layer(query, key, value_context=value)``, or ``layer(x)`` for three times
    the same; ``key_padding_mask`` stays; a boolean ``attn_mask`` is negated (theirs is True = forbidden); a float one
    becomes ``attn_bias``.

    Args:
        module: the module; it stays as it is.
        **options: further options of ``MultiHeadAttention``, such as ``compute_dtype``.

    Raises:
        ArgumentError: ``module`` is something else.
        UnsupportedError: it was made with ``add_bias_kv`` or ``add_zero_attn``.

    Example:
        >>> theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        >>> x = torch.randn(1, 5, 8)
        >>> torch.allclose(from_torch(theirs)(x), theirs(x, x, x)[0], atol=1e-5)
        True
    """
    if not isinstance(module, nn.MultiheadAttention):
        raise ArgumentError(f"from_torch needs an nn.MultiheadAttention, got {type(module).__name__}.")
    for name, used in (("add_bias_kv", module.bias_k is not None), ("add_zero_attn", module.add_zero_attn)):
        if used:
            raise UnsupportedError(f"{name} of nn.MultiheadAttention has no counterpart here; leave it out.")
    ours = MultiHeadAttention(
        module.embed_dim,
        module.num_heads,
        kdim=module.kdim,
        vdim=module.vdim,
        bias=module.in_proj_bias is not None,
        dropout_p=module.dropout,
        **options,
    ).to(module.out_proj.weight)
    ours.load_state_dict(_weights(module))
    return ours.train(module.training)


def _weights(module: nn.MultiheadAttention) -> dict[str, Tensor]:
    """Return the weights under our names."""
    names = ("query", "key", "value")
    packed = module.in_proj_weight
    parts = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight) if packed is None else packed.chunk(3)
    weights = {f"{name}.weight": part for name, part in zip(names, parts, strict=True)}
    weights["output.weight"] = module.out_proj.weight
    if module.in_proj_bias is not None:
        weights |= {f"{name}.bias": part for name, part in zip(names, module.in_proj_bias.chunk(3), strict=True)}
        weights["output.bias"] = module.out_proj.bias
    return weights
