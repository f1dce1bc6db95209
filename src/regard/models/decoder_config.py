"""What a decoder is made of, as plain validated values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regard._errors import ArgumentError
from regard.modules.feed_forward import ACTIVATIONS
from regard.modules.norms import NORMS

__all__ = ["DecoderConfig"]

_POSITIONS = ("learned", "rotary")
_SIZES = ("vocab_size", "embed_dim", "num_heads", "num_layers", "feed_forward_dim", "max_len")
_OPTIONAL_SIZES = ("num_kv_heads", "head_dim")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The sizes, parts and rates of a decoder; the defaults are those of GPT-2 small, but for its dropout.

    Attributes:
        vocab_size: number of token ids.
        embed_dim: width of the hidden states.
        num_heads: query heads a layer.
        num_kv_heads: key and value heads a layer, each shared by num_heads / num_kv_heads query heads; None for
            ``num_heads``.
        head_dim: width per head; None for embed_dim / num_heads.
        num_layers: layers.
        feed_forward_dim: width inside the feed-forward networks.
        max_len: longest sequence, in tokens; of rotary positions the longest that the model is meant for.
        positions: ``"learned"`` (a table that is added to the words) or ``"rotary"`` (queries and keys are turned).
        rotary_base: of rotary positions.
        norm: ``"layer"`` or ``"rms"``, before each sublayer and at the end.
        norm_eps: added to the variance, or the mean square, in each norm.
        activation: of the feed-forward networks, see ``FeedForward``.
        attention_bias: whether the projections of attention have biases.
        feed_forward_bias: whether the feed-forward networks have biases.
        tied_embeddings: whether the output layer is the table of words.
        dropout_p: dropout of embeddings and of each sublayer's output.
        attention_dropout_p: dropout of the attention weights; above 0 attention leaves the fused kernel on a CPU.
        bos_id: id that begins a text, None where there is none.
        eos_ids: ids that end a text, for ``generate(..., stop=config.eos_ids)``.
        pad_id: id of padding, None where there is none; padding is marked by masks here.

    Raises:
        ArgumentError: a value that cannot be.

    References:
        Radford et al., Language models are unsupervised multitask learners (2019); Touvron et al., LLaMA,
        arXiv:2302.13971.
    """

    vocab_size: int = 50_257
    embed_dim: int = 768
    num_heads: int = 12
    num_kv_heads: int | None = None
    head_dim: int | None = None
    num_layers: int = 12
    feed_forward_dim: int = 3_072
    max_len: int = 1_024
    positions: str = "learned"
    rotary_base: float = 10_000.0
    norm: str = "layer"
    norm_eps: float = 1e-5
    activation: str = "gelu_tanh"
    attention_bias: bool = True
    feed_forward_bias: bool = True
    tied_embeddings: bool = True
    dropout_p: float = 0.0
    attention_dropout_p: float = 0.0
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None

    def __post_init__(self) -> None:
        for name in (*_SIZES, *_OPTIONAL_SIZES):
            value = getattr(self, name)
            if value is None and name in _OPTIONAL_SIZES:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}.")
        self._check_heads()
        self._check_numbers()
        for name, known in (("positions", _POSITIONS), ("norm", NORMS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in known:
                raise ArgumentError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")

    @property
    def kv_heads(self) -> int:
        """Return the number of key and value heads."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def width_per_head(self) -> int:
        """Return the width of a head."""
        return self.embed_dim // self.num_heads if self.head_dim is None else self.head_dim

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "eos_ids": list(self.eos_ids)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DecoderConfig":
        """Return the config of ``to_dict``.

        Raises:
            ArgumentError: an unknown field, or a value that cannot be.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ArgumentError(f"A DecoderConfig has no field {', '.join(unknown)}; remove it.")
        return cls(**{**values, "eos_ids": tuple(values.get("eos_ids", ()))})

    def _check_heads(self) -> None:
        if self.head_dim is None and self.embed_dim % self.num_heads:
            raise ArgumentError(
                f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}; "
                "change one or give head_dim."
            )
        if self.num_heads % self.kv_heads:
            raise ArgumentError(
                f"num_heads must be a multiple of num_kv_heads, got {self.num_heads} and {self.num_kv_heads}."
            )
        if self.positions == "rotary" and self.width_per_head % 2:
            raise ArgumentError(f"Rotary positions need heads of an even width, got {self.width_per_head}.")

    def _check_numbers(self) -> None:
        for name, ids in (("bos_id", (self.bos_id,)), ("pad_id", (self.pad_id,)), ("eos_ids", self.eos_ids)):
            if any(one is not None and one < 0 for one in ids):
                raise ArgumentError(f"{name} must be a token id from 0 on, got {getattr(self, name)}.")
        for name in ("dropout_p", "attention_dropout_p"):
            if not 0 <= getattr(self, name) < 1:
                raise ArgumentError(f"{name} must lie in [0, 1), got {getattr(self, name)!r}.")
        for name in ("rotary_base", "norm_eps"):
            if not getattr(self, name) > 0:
                raise ArgumentError(f"{name} must be above 0, got {getattr(self, name)!r}.")
