"""What a model of numeric frames is made of, as plain validated values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regard._errors import ArgumentError

__all__ = ["FrameConfig"]

_SIZES = (
    "num_channels", "num_outputs", "patch_len", "embed_dim", "hidden_dim", "num_heads", "num_layers",
    "feed_forward_dim",
)  # fmt: skip
_CHOICES = {"architecture": ("transformer", "gru", "lstm"), "positions": ("sinusoidal", "rotary", "none")}


@dataclass(frozen=True, kw_only=True)
class FrameConfig:
    """The sizes and rates of a model that reads whole sequences of frames.

    Attributes:
        architecture: what reads the frames: ``"transformer"``, ``"gru"`` or ``"lstm"``.
        num_channels: values of a frame.
        num_outputs: classes; 1 for a number.
        patch_len: frames in a patch, the token of this model.
        positions: how a Transformer is told the order: ``"sinusoidal"``, ``"rotary"`` or ``"none"``; a recurrent
            network reads in order and has none.
        embed_dim: width of a patch.
        hidden_dim: width of a recurrent network's state in one direction; None for ``embed_dim``.
        num_heads: attention heads a layer.
        num_layers: layers.
        feed_forward_dim: width inside the feed-forward networks.
        dropout_p: dropout of patches, sublayers and of what the outputs are made of.
        attention_dropout_p: dropout of the attention weights; above 0 attention leaves the fused kernel on a CPU.

    Raises:
        ArgumentError: a value that cannot be.
    """

    architecture: str = "transformer"
    num_channels: int
    num_outputs: int
    patch_len: int = 1
    positions: str = "sinusoidal"
    embed_dim: int = 64
    hidden_dim: int | None = None
    num_heads: int = 4
    num_layers: int = 2
    feed_forward_dim: int = 128
    dropout_p: float = 0.1
    attention_dropout_p: float = 0.0

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = self.state_dim if name == "hidden_dim" else getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}.")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ArgumentError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        self._check_widths()
        for name in ("dropout_p", "attention_dropout_p"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}.")

    def _check_widths(self) -> None:
        if self.architecture != "transformer":
            return
        if self.embed_dim % self.num_heads:
            raise ArgumentError(
                f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}; change one."
            )
        turned = self.embed_dim if self.positions == "sinusoidal" else self.embed_dim // self.num_heads
        if self.positions != "none" and turned % 2:
            what = "embed_dim" if self.positions == "sinusoidal" else "embed_dim / num_heads"
            raise ArgumentError(f"{what} must be even for {self.positions} positions, got {turned}; change it.")

    @property
    def state_dim(self) -> int:
        """Width of a recurrent network's state in one direction."""
        return self.embed_dim if self.hidden_dim is None else self.hidden_dim

    def num_patches(self, length: int) -> int:
        """Return how many patches a sequence of ``length`` frames makes."""
        return -(-length // self.patch_len)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FrameConfig":
        """Return the config of ``to_dict``.

        Raises:
            ArgumentError: an unknown field, or a value that cannot be.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ArgumentError(f"A FrameConfig has no field {', '.join(unknown)}; remove it.")
        return cls(**values)
