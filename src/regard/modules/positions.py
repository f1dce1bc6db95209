"""Learned positions: one vector a place, found by training."""

from jaxtyping import Float
from torch import Tensor, nn

from regard._errors import ArgumentError

__all__ = ["LearnedPositions"]


class LearnedPositions(nn.Embedding):
    """A table of ``max_len`` vectors of width ``embed_dim``, one for each place of a sequence.

    Example:
        >>> LearnedPositions(512, 8)(5, offset=2).shape  # places 2 to 6
        torch.Size([5, 8])

    Args:
        max_len: number of places; a longer sequence has no vectors and is refused.
        embed_dim: width of the vectors.

    References:
        Gehring et al., Convolutional sequence to sequence learning, arXiv:1705.03122; Devlin et al., arXiv:1810.04805.
    """

    def __init__(self, max_len: int, embed_dim: int) -> None:
        super().__init__(max_len, embed_dim)

    def forward(self, length: int, offset: int = 0) -> Float[Tensor, "len embed_dim"]:  # type: ignore[override]
        """Return the vectors of the places ``offset`` to ``offset + length - 1``, (length, embed_dim).

        Raises:
            ArgumentError: a place beyond the table, or before it.
        """
        if offset < 0 or length < 0 or offset + length > self.num_embeddings:
            raise ArgumentError(
                f"Places must lie in 0 to {self.num_embeddings - 1}, got {offset} to {offset + length - 1}; "
                "cut the sequence or train a longer table."
            )
        return self.weight[offset : offset + length]
