"""What a Transformer is made of, as plain validated values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regard._errors import ArgumentError

__all__ = ["TransformerConfig"]

_CHOICES = {
    "activation": ("relu", "gelu", "swiglu"),
    "norm": ("post", "pre"),
    "positions": ("sinusoidal", "learned"),
    "tied_embeddings": ("all", "target", "none"),
}
_SIZES = (
    "vocab_size", "target_vocab_size", "embed_dim", "num_heads", "num_encoder_layers", "num_decoder_layers",
    "feed_forward_dim", "max_len",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The sizes and rates of an encoder–decoder Transformer; the defaults are those of the paper's base model.

    Attributes:
        vocab_size: number of token ids of the source, and of the target unless it has its own.
        target_vocab_size: number of token ids of the target; None for the source's vocabulary.
        embed_dim: width of the hidden states; a multiple of ``num_heads``, and even with sinusoidal positions.
        num_heads: attention heads a layer.
        num_encoder_layers: layers that read the source.
        num_decoder_layers: layers that write the target.
        feed_forward_dim: width inside the feed-forward networks.
        max_len: longest sequence, in tokens, on either side.
        pad_id: id of the padding token; padding is marked by masks here.
        bos_id: id that the decoder begins with.
        eos_id: id that ends a target.
        activation: of the feed-forward networks, ``"relu"``, ``"gelu"`` (exact) or ``"swiglu"``.
        norm: ``"post"`` (the paper) or ``"pre"``, which trains without warm-up.
        final_norm: whether each stack ends in one more norm; None for: with ``pre``, where one is needed.
        positions: ``"sinusoidal"`` or ``"learned"``.
        tied_embeddings: ``"all"``: source embeddings, target embeddings and output projection are one matrix;
            ``"target"``: the last two are; ``"none"``.
        dropout_p: dropout of the embeddings and of each sublayer's output.
        attention_dropout_p: dropout of the attention weights; above 0 attention leaves the fused kernel on a CPU.
        layer_norm_eps: added to the variance in each layer norm.

    Raises:
        ArgumentError: a value that cannot be.

    References:
        Vaswani et al., Attention is all you need, arXiv:1706.03762, table 3; Press and Wolf (tying),
        arXiv:1608.05859.
    """

    vocab_size: int = 37_000
    target_vocab_size: int | None = None
    embed_dim: int = 512
    num_heads: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    feed_forward_dim: int = 2_048
    max_len: int = 1_024
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    activation: str = "relu"
    norm: str = "post"
    final_norm: bool | None = None
    positions: str = "sinusoidal"
    tied_embeddings: str = "all"
    dropout_p: float = 0.1
    attention_dropout_p: float = 0.0
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in _SIZES:
            _check_size(name, getattr(self, name), optional=name == "target_vocab_size")
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ArgumentError(f"{name} must be one of {known}, got {getattr(self, name)!r}.")
        for name in ("dropout_p", "attention_dropout_p"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}.")
        if not self.layer_norm_eps > 0:
            raise ArgumentError(f"layer_norm_eps must be above 0, got {self.layer_norm_eps!r}.")
        self._check_widths()
        self._check_vocabularies()

    @property
    def output_size(self) -> int:
        """Number of token ids that the decoder reads and writes."""
        return self.vocab_size if self.target_vocab_size is None else self.target_vocab_size

    @property
    def has_final_norm(self) -> bool:
        """Whether each stack ends in one more norm."""
        return self.norm == "pre" if self.final_norm is None else self.final_norm

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TransformerConfig":
        """Return the config of ``to_dict``.

        Raises:
            ArgumentError: an unknown field, or a value that cannot be.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ArgumentError(f"A TransformerConfig has no field {', '.join(unknown)}; remove it.")
        return cls(**values)

    def _check_widths(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ArgumentError(
                f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}; change one."
            )
        if self.positions == "sinusoidal" and self.embed_dim % 2:
            raise ArgumentError(f"Sinusoidal positions need an even embed_dim, got {self.embed_dim}; change one.")

    def _check_vocabularies(self) -> None:
        if self.tied_embeddings == "all" and self.output_size != self.vocab_size:
            raise ArgumentError(
                'tied_embeddings="all" needs one vocabulary for both sides, got '
                f"{self.vocab_size} and {self.output_size} token ids; tie the target's only, or learn a joint one."
            )
        ids = {name: getattr(self, name) for name in ("pad_id", "bos_id", "eos_id")}
        if not all(isinstance(one, int) and 0 <= one < self.output_size for one in ids.values()):
            raise ArgumentError(f"pad_id, bos_id and eos_id must be ids below {self.output_size}, got {ids}.")
        if self.pad_id >= self.vocab_size:
            raise ArgumentError(f"pad_id must be an id of the source too, below {self.vocab_size}, got {self.pad_id}.")
        if self.eos_id in (self.pad_id, self.bos_id):
            raise ArgumentError(f"eos_id must differ from pad_id and bos_id, or no target can end; got {ids}.")


def _check_size(name: str, value: Any, *, optional: bool) -> None:
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}.")
