"""What a person writes for a module whose signature says too little: a dataclass with one function that calls it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

__all__ = ["AttentionModule", "Model"]


@dataclass(frozen=True, kw_only=True)
class AttentionModule:
    """An attention module and how it is called.

    Attributes:
        module: the module.
        call: (module, x, keep, causal) -> output. ``x`` is (batch, len, embed_dim) in and out; ``keep`` is bool
            (batch, len), True = real token, or None; ``causal`` asks for a causal mask.
        embed_dim: width of ``x``.
        num_heads: query heads.
        causal: ``"argument"`` if ``call`` heeds ``causal``, else ``"always"`` or ``"never"``.
        padding: whether ``call`` heeds ``keep``.
        cross: (module, x, context) -> output of attention from ``x`` to another sequence, or None if it has none.
        packed: (module, x, documents, causal) -> output, where each row of ``x`` holds several sequences; ``documents``
            is whole numbers (batch, len), the number of the sequence that each token belongs to. None if it has no way
            to keep them apart.
        scale: factor of the dot products; None for 1 / √head_dim.

    Example:
        >>> from torch import nn
        >>> attention = nn.MultiheadAttention(8, 2, batch_first=True)
        >>> def call(module, x, keep, causal):
        ...     return module(x, x, x, key_padding_mask=None if keep is None else ~keep, need_weights=False)[0]
        >>> subject = AttentionModule(module=attention, call=call, embed_dim=8, num_heads=2, causal="never")
        >>> regard.check(subject, fast=True).ok
        True
    """

    module: nn.Module
    call: Callable[[Any, Tensor, Tensor | None, bool], Tensor]
    embed_dim: int
    num_heads: int
    causal: Literal["argument", "always", "never"] = "argument"
    padding: bool = True
    cross: Callable[[Any, Tensor, Tensor], Tensor] | None = None
    packed: Callable[[Any, Tensor, Tensor, bool], Tensor] | None = None
    scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model and how it is called, where its ``forward`` is not of a known form.

    Attributes:
        module: the model.
        call: (module, tokens, keep) -> (batch, len, width), one vector per token; ``keep`` is bool (batch, len), True =
            real token, or None.
        vocab_size: tokens are whole numbers below this; or
        embed_dim: tokens are vectors of this width.
        causal: whether a token may not depend on later ones.
        padding: whether ``call`` heeds ``keep``.
        left_padding: whether padding may stand on the left.
        padding_token: whole number to pad with.
        step: (module, tokens, cache) -> (output, cache), the cache being None at first; None if there is no cache.
        positions: whether it knows the order of its tokens; None to find out.
        packed: (module, tokens, documents) -> output, where each row of ``tokens`` holds several sequences;
            ``documents`` is whole numbers (batch, len), the number of the sequence that each token belongs to. None if
            it has no way to keep them apart.
    """

    module: nn.Module
    call: Callable[[Any, Tensor, Tensor | None], Tensor]
    vocab_size: int | None = None
    embed_dim: int | None = None
    causal: bool | None = None
    padding: bool = False
    left_padding: bool = False
    padding_token: int = 0
    step: Callable[[Any, Tensor, Any], tuple[Tensor, Any]] | None = None
    positions: bool | None = None
    packed: Callable[[Any, Tensor, Tensor], Tensor] | None = None
