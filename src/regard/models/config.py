"""What a BERT is made of, as plain validated values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regard._errors import ArgumentError

__all__ = ["BertConfig"]

_ACTIVATIONS = ("gelu", "relu")


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The sizes and rates of a BERT encoder; the defaults are those of BERT base.

    Attributes:
        vocab_size: number of token ids.
        embed_dim: width of the hidden states; a multiple of ``num_heads``.
        num_heads: attention heads a layer.
        num_layers: layers.
        feed_forward_dim: width inside the feed-forward networks.
        max_len: longest sequence, in tokens, that has position embeddings.
        num_token_types: token types (segments).
        pad_id: id of the padding token, for other software that reads a saved model; padding is marked by masks here.
        activation: of the feed-forward networks, ``"gelu"`` (exact) or ``"relu"``.
        dropout_p: dropout of embeddings and of each sublayer's output.
        attention_dropout_p: dropout of the attention weights; above 0 attention leaves the fused kernel on a CPU.
        layer_norm_eps: added to the variance in each layer norm.

    Raises:
        ArgumentError: a value that cannot be.

    References:
        Devlin et al., BERT, arXiv:1810.04805.
    """

    vocab_size: int = 30_522
    embed_dim: int = 768
    num_heads: int = 12
    num_layers: int = 12
    feed_forward_dim: int = 3_072
    max_len: int = 512
    num_token_types: int = 2
    pad_id: int = 0
    activation: str = "gelu"
    dropout_p: float = 0.1
    attention_dropout_p: float = 0.0
    layer_norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        for name in _SIZES:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if self.embed_dim % self.num_heads:
            raise ArgumentError(
                f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}; change one."
            )
        for name in ("dropout_p", "attention_dropout_p"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}.")
        if not self.layer_norm_eps > 0:
            raise ArgumentError(f"layer_norm_eps must be above 0, got {self.layer_norm_eps!r}.")
        if not 0 <= self.pad_id < self.vocab_size:
            raise ArgumentError(f"pad_id must be an id below vocab_size {self.vocab_size}, got {self.pad_id}.")
        if self.activation not in _ACTIVATIONS:
            raise ArgumentError(f"activation must be one of {_ACTIVATIONS}, got {self.activation!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "BertConfig":
        """Return the config of ``to_dict``.

        Raises:
            ArgumentError: an unknown field, or a value that cannot be.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ArgumentError(f"A BertConfig has no field {', '.join(unknown)}; remove it.")
        return cls(**values)


_SIZES = ("vocab_size", "embed_dim", "num_heads", "num_layers", "feed_forward_dim", "max_len", "num_token_types")
