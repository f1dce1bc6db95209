"""Recurrent layers that padding cannot touch: GRU or LSTM over the real frames of each row alone."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from regard._errors import ArgumentError

__all__ = ["CELLS", "RecurrentLayers", "State"]

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}
"""Name of a cell -> PyTorch's layers of it."""

State = Tensor | tuple[Tensor, Tensor]
"""What a recurrent network remembers: hidden states (layers · directions, batch, hidden_dim); an LSTM's cells too."""


class RecurrentLayers(nn.Module):
    """PyTorch's ``nn.GRU`` or ``nn.LSTM``, batch first, run over the real frames of each row alone.

    A row gives the same hidden states alone, padded at the left, at the right or in between: its real frames are moved
    together, packed, run, and moved back.

    Args:
        input_dim: width of a frame.
        hidden_dim: width of the state of one direction.
        num_layers: layers.
        cell: ``"gru"`` or ``"lstm"``.
        bidirectional: whether a second network reads from the end; the states of both are joined.
        dropout_p: dropout between layers while training.

    Raises:
        ArgumentError: a size below 1, an unknown cell, or a dropout outside [0, 1).

    References:
        Hochreiter and Schmidhuber, Long short-term memory (Neural Computation 1997); Cho et al. (GRU),
        arXiv:1406.1078.

    Example:
        >>> layers = RecurrentLayers(8, 16, cell="lstm", bidirectional=True)
        >>> layers(torch.zeros(1, 5, 8))[0].shape
        torch.Size([1, 5, 32])
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        *,
        num_layers: int = 1,
        cell: str = "gru",
        bidirectional: bool = False,
        dropout_p: float = 0.0,
    ) -> None:
        super().__init__()
        if min(input_dim, hidden_dim, num_layers) < 1:
            raise ArgumentError(
                f"input_dim, hidden_dim and num_layers must be at least 1, got {input_dim}, {hidden_dim}, {num_layers}."
            )
        if cell not in CELLS:
            raise ArgumentError(f"cell must be one of {tuple(CELLS)}, got {cell!r}.")
        if not 0 <= dropout_p < 1:
            raise ArgumentError(f"dropout_p must lie in [0, 1), got {dropout_p}.")
        self.cell = cell
        self.output_dim = hidden_dim * (2 if bidirectional else 1)
        self.layers = CELLS[cell](
            input_dim,
            hidden_dim,
            num_layers,
            batch_first=True,
            dropout=dropout_p if num_layers > 1 else 0.0,  # PyTorch warns of one that nothing follows
            bidirectional=bidirectional,
        )

    def forward(
        self,
        x: Float[Tensor, "batch len input_dim"],
        keep: Tensor | None = None,
        state: State | None = None,
    ) -> tuple[Float[Tensor, "batch len output_dim"], State]:
        """Run over a batch of sequences.

        Args:
            x: frames.
            keep: bool (batch, len), True = real frame; None where all are. Lengths are read on the CPU, for which
                another device waits.
            state: what an earlier call returned, to go on from; None to begin with zeros.

        Returns:
            Hidden states of the last layer, 0 at padding, and the state after the last real frame of each row.

        Raises:
            ArgumentError: a row without a real frame, a mask of another shape, or a state for a network that reads
                backwards too, which cannot go on.
        """
        if state is not None and self.layers.bidirectional:
            raise ArgumentError("A bidirectional network has read its end and cannot go on from a state; leave it out.")
        if keep is None:
            hidden, last = self.layers(x, state)
            return hidden, last
        if keep.shape != x.shape[:2]:
            raise ArgumentError(f"keep must be (batch, len) = {tuple(x.shape[:2])}, got {tuple(keep.shape)}.")
        return self._packed(x, keep, state)

    def _packed(self, x: Tensor, keep: Tensor, state: State | None) -> tuple[Tensor, State]:
        length, lengths = x.shape[1], keep.sum(1).cpu()
        if int(lengths.min()) == 0:
            row = int(lengths.argmin())
            raise ArgumentError(f"Each row must hold a real frame, row {row} of the mask has none; drop it.")
        order = _real_first(keep)
        x = x if order is None else _taken(x, order)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        hidden, last = self.layers(packed, state)
        hidden, _ = pad_packed_sequence(hidden, batch_first=True, total_length=length)
        return (hidden if order is None else _taken(hidden, order.argsort(1))), last


def _real_first(keep: Tensor) -> Tensor | None:
    """Return the order that moves the real frames of each row to its front, or None where they stand there."""
    if bool((keep[:, :-1] >= keep[:, 1:]).all()):
        return None
    return (~keep).to(torch.uint8).argsort(dim=1, stable=True)


def _taken(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(1, order[:, :, None].expand(-1, -1, x.shape[2]))
