"""What a forecaster is made of, as plain validated values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regard._errors import ArgumentError

__all__ = ["ForecasterConfig"]

_SIZES = (
    "input_len", "horizon", "patch_len", "stride", "embed_dim", "hidden_dim", "num_heads", "num_layers",
    "feed_forward_dim",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ForecasterConfig:
    """The sizes and rates of a forecaster over patches; the defaults are those of the paper for small data.

    Attributes:
        architecture: what reads the patches: ``"transformer"``, ``"gru"`` or ``"lstm"``.
        input_len: values that are read of each channel.
        horizon: values that are forecast.
        patch_len: values in a patch, the token of this model.
        stride: values between the beginnings of two patches; the last value is repeated so often at the end.
        embed_dim: width of a patch.
        hidden_dim: width of a recurrent network's state; None for ``embed_dim``.
        num_heads: attention heads a layer.
        num_layers: layers.
        feed_forward_dim: width inside the feed-forward networks.
        num_channels: learn the reversible norm's factor and shift for so many channels; None for a norm without.
        dropout_p: dropout of patches, sublayers and of what the forecast is made of.
        attention_dropout_p: dropout of the attention weights; above 0 attention leaves the fused kernel on a CPU.

    Raises:
        ArgumentError: a value that cannot be.

    References:
        Nie et al., A time series is worth 64 words, arXiv:2211.14730, appendix A.1.4.
    """

    architecture: str = "transformer"
    input_len: int = 336
    horizon: int = 96
    patch_len: int = 16
    stride: int = 8
    embed_dim: int = 16
    hidden_dim: int | None = None
    num_heads: int = 4
    num_layers: int = 3
    feed_forward_dim: int = 128
    num_channels: int | None = None
    dropout_p: float = 0.3
    attention_dropout_p: float = 0.0

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = self.state_dim if name == "hidden_dim" else getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if self.architecture not in ("transformer", "gru", "lstm"):
            raise ArgumentError(f"architecture must be 'transformer', 'gru' or 'lstm', got {self.architecture!r}.")
        if self.patch_len > self.input_len:
            raise ArgumentError(
                f"patch_len must be at most input_len, got {self.patch_len} and {self.input_len}; shorten the patch."
            )
        if self.architecture == "transformer" and self.embed_dim % self.num_heads:
            raise ArgumentError(
                f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}; change one."
            )
        for name in ("dropout_p", "attention_dropout_p"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}.")

    @property
    def state_dim(self) -> int:
        """Width of a recurrent network's state."""
        return self.embed_dim if self.hidden_dim is None else self.hidden_dim

    @property
    def num_patches(self) -> int:
        """Patches of one channel."""
        return (self.input_len - self.patch_len) // self.stride + 2

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ForecasterConfig":
        """Return the config of ``to_dict``.

        Raises:
            ArgumentError: an unknown field, or a value that cannot be.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ArgumentError(f"A ForecasterConfig has no field {', '.join(unknown)}; remove it.")
        return cls(**values)
