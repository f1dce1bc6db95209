"""What a recurrent network is made of, as plain validated values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regard._errors import ArgumentError
from regard.modules.recurrent import CELLS

__all__ = ["RecurrentConfig"]

_SIZES = ("vocab_size", "embed_dim", "hidden_dim", "num_layers")


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """The sizes and rates of a recurrent network over tokens.

    Attributes:
        cell: ``"gru"`` or ``"lstm"``.
        vocab_size: number of token ids.
        embed_dim: width of the words.
        hidden_dim: width of the state of one direction.
        num_layers: recurrent layers.
        bidirectional: whether a second network reads from the end.
        dropout_p: dropout of the words and between layers.
        pad_id: id of the padding token, for other software that reads a saved model; padding is marked by masks here.

    Raises:
        ArgumentError: a value that cannot be.
    """

    cell: str = "gru"
    vocab_size: int
    embed_dim: int = 256
    hidden_dim: int = 256
    num_layers: int = 1
    bidirectional: bool = False
    dropout_p: float = 0.1
    pad_id: int = 0

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if self.cell not in CELLS:
            raise ArgumentError(f"cell must be one of {tuple(CELLS)}, got {self.cell!r}.")
        if not 0 <= self.dropout_p < 1:
            raise ArgumentError(f"dropout_p must lie in [0, 1), got {self.dropout_p!r}.")
        if not 0 <= self.pad_id < self.vocab_size:
            raise ArgumentError(f"pad_id must be an id below vocab_size {self.vocab_size}, got {self.pad_id}.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RecurrentConfig":
        """Return the config of ``to_dict``.

        Raises:
            ArgumentError: an unknown field, or a value that cannot be.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ArgumentError(f"A RecurrentConfig has no field {', '.join(unknown)}; remove it.")
        return cls(**values)
