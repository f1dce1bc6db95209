"""The stack of layers that reads patches and frames."""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from regard.modules import ResidualAttention

__all__ = ["PreNormEncoder"]


class PreNormEncoder(nn.Module):
    """Pre-norm layers of self-attention, and the norm that such a stack needs at its end.

    Args:
        layers: of one width.

    References:
        Xiong et al., On layer normalization in the Transformer architecture, arXiv:2002.04745.
    """

    def __init__(self, layers: Iterable[ResidualAttention]) -> None:
        super().__init__()
        self.layer = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(self.layer[0].attention.embed_dim)  # type: ignore[union-attr]

    def forward(
        self, hidden: Float[Tensor, "batch len embed_dim"], key_padding_mask: Tensor | None = None
    ) -> Float[Tensor, "batch len embed_dim"]:
        """Return the hidden states after the last layer.

        Args:
            hidden: patches or frames, embedded.
            key_padding_mask: bool (batch, len), True = padding; hidden states there mean nothing.
        """
        for layer in self.layer:
            hidden = layer(hidden, key_padding_mask=key_padding_mask)
        normed: Tensor = self.norm(hidden)
        return normed
