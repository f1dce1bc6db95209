"""Additive attention: a small network compares query and key, which need not have the same width."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.functional import reference
from regard.functional.scoring import additive, attend_hidden
from regard.modules.padding import keep_mask

__all__ = ["AdditiveAttention"]


class AdditiveAttention(nn.Module):
    """Attention with the scores vᵀ tanh(W q + U k): Σ_j softmax_j(vᵀ tanh(W q_i + U k_j)) · value_j.

    One head, and values as they are: what a decoder reads from an encoder's states. Scores are made for a block of
    queries at a time, so memory grows with the lengths and not with their product.

    Args:
        embed_dim: width of what asks.
        hidden_dim: width of the comparing network.
        kdim: width of what is compared with; None for ``embed_dim``.

    Raises:
        ArgumentError: a width below 1.

    References:
        Bahdanau et al., Neural machine translation by jointly learning to align and translate, arXiv:1409.0473,
        appendix A.1.2.

    Example:
        >>> layer = AdditiveAttention(4, 16, kdim=6)
        >>> layer(torch.zeros(1, 2, 4), torch.zeros(1, 5, 6)).shape
        torch.Size([1, 2, 6])
    """

    def __init__(self, embed_dim: int, hidden_dim: int, *, kdim: int | None = None) -> None:
        super().__init__()
        kdim = embed_dim if kdim is None else kdim
        if min(embed_dim, hidden_dim, kdim) < 1:
            raise ArgumentError(
                f"embed_dim, hidden_dim and kdim must be at least 1, got {embed_dim}, {hidden_dim} and {kdim}."
            )
        self.query_weight = nn.Parameter(torch.empty(embed_dim, hidden_dim))
        self.key_weight = nn.Parameter(torch.empty(kdim, hidden_dim))
        self.vector = nn.Parameter(torch.empty(hidden_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights, uniform in ±1/√fan_in as those of ``nn.Linear``."""
        for parameter in self.parameters():
            bound = parameter.shape[0] ** -0.5
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self,
        x: Float[Tensor, "batch q_len embed_dim"],
        context: Float[Tensor, "batch kv_len kdim"] | None = None,
        *,
        value_context: Float[Tensor, "batch kv_len vdim"] | None = None,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        hidden_key: Float[Tensor, "batch kv_len hidden_dim"] | None = None,
    ) -> Float[Tensor, "batch q_len value_dim"]:
        """Attend from ``x`` to ``context``.

        Args:
            x: what asks.
            context: what is compared with; None for ``x``.
            value_context: what is summed; None for ``context``.
            key_padding_mask: bool (batch, kv_len), **True = padding**.
            attn_mask: bool, **True = may attend**, broadcasts to (batch, 1, q_len, kv_len).
            hidden_key: what ``hidden_key(context)`` gave, for a decoder that asks the same context at every step; None
                to compute it.

        Returns:
            The weighted sum of the values for each query; 0 for a query without a single key.

        Raises:
            ArgumentError: a shape that does not fit.
            DtypeError: a mask that is not boolean.
        """
        context = x if context is None else context
        value = context if value_context is None else value_context
        needed, got = (self.query_weight.shape[0], self.key_weight.shape[0]), (x.shape[-1], context.shape[-1])
        if needed != got:
            raise ArgumentError(f"x and context must have the layer's widths {needed}, got {got}.")
        hidden_key = self.hidden_key(context) if hidden_key is None else hidden_key
        attended = attend_hidden(
            (x @ self.query_weight)[:, None],
            hidden_key[:, None],
            value[:, None],
            vector=self.vector,
            attn_mask=keep_mask(attn_mask, key_padding_mask, context),
        )
        return attended[:, 0]

    def weights(
        self,
        x: Float[Tensor, "batch q_len embed_dim"],
        context: Float[Tensor, "batch kv_len kdim"],
        *,
        key_padding_mask: Tensor | None = None,
    ) -> Float[Tensor, "batch q_len kv_len"]:
        """Return the weights with which ``forward`` would sum the values: what each query looks at.

        Dense, for inspection. The arguments are those of ``forward``; a query without a single key has weights of 0.
        """
        scores = additive(
            x[:, None], context[:, None], query_weight=self.query_weight, key_weight=self.key_weight, vector=self.vector
        )
        if key_padding_mask is not None:
            scores = scores.masked_fill(key_padding_mask[:, None, None], -torch.inf)
        return reference.weights(scores)[:, 0]

    def hidden_key(self, context: Float[Tensor, "batch kv_len kdim"]) -> Float[Tensor, "batch kv_len hidden_dim"]:
        """Return U k for each key of ``context``."""
        return context @ self.key_weight
