"""What a recurrent network is made of, as plain validated values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regard._errors import ArgumentError
from regard.modules.recurrent import CELLS

__all__ = ["RecurrentConfig", "RecurrentTranslatorConfig"]

_SIZES = ("vocab_size", "embed_dim", "hidden_dim", "num_layers")
_TIES = ("all", "target", "none")
_ATTENTIONS = ("additive", "none")


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
        _check_shared(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RecurrentConfig":
        """Return the config of ``to_dict``.

        Raises:
            ArgumentError: an unknown field, or a value that cannot be.
        """
        _check_fields(cls, values)
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class RecurrentTranslatorConfig:
    """The sizes and rates of a recurrent encoder–decoder.

    Attributes:
        cell: ``"gru"`` or ``"lstm"``.
        vocab_size: number of token ids of the source, and of the target unless it has its own.
        target_vocab_size: number of token ids of the target; None for the source's vocabulary.
        embed_dim: width of the words.
        hidden_dim: width of the state of one direction, of the decoder and of the attention.
        num_layers: recurrent layers on either side.
        attention: ``"additive"``, or ``"none"`` for one vector of the whole source.
        pad_id: id of the padding token; padding is marked by masks here.
        bos_id: id that the decoder begins with.
        eos_id: id that ends a target.
        tied_embeddings: ``"all"``: words of the source, words of the target and output projection are one matrix;
            ``"target"``: the last two are; ``"none"``.
        dropout_p: dropout of the words, between layers and before the output.

    Raises:
        ArgumentError: a value that cannot be.

    References:
        Bahdanau et al., arXiv:1409.0473; Press and Wolf (tying), arXiv:1608.05859.
    """

    cell: str = "gru"
    vocab_size: int
    target_vocab_size: int | None = None
    embed_dim: int = 256
    hidden_dim: int = 256
    num_layers: int = 1
    attention: str = "additive"
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    tied_embeddings: str = "all"
    dropout_p: float = 0.1

    def __post_init__(self) -> None:
        _check_shared(self)
        _check_size("target_vocab_size", self.output_size)
        for name, known in (("attention", _ATTENTIONS), ("tied_embeddings", _TIES)):
            if getattr(self, name) not in known:
                raise ArgumentError(f"{name} must be one of {known}, got {getattr(self, name)!r}.")
        if self.tied_embeddings == "all" and self.output_size != self.vocab_size:
            raise ArgumentError(
                'tied_embeddings="all" needs one vocabulary for both sides, got '
                f"{self.vocab_size} and {self.output_size} token ids; tie the target's only, or learn a joint one."
            )
        ids = {name: getattr(self, name) for name in ("pad_id", "bos_id", "eos_id")}
        if not all(0 <= one < self.output_size for one in ids.values()):
            raise ArgumentError(f"pad_id, bos_id and eos_id must be ids below {self.output_size}, got {ids}.")
        if self.eos_id in (self.pad_id, self.bos_id):
            raise ArgumentError(f"eos_id must differ from pad_id and bos_id, or no target can end; got {ids}.")

    @property
    def output_size(self) -> int:
        """Number of token ids that the decoder reads and writes."""
        return self.vocab_size if self.target_vocab_size is None else self.target_vocab_size

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RecurrentTranslatorConfig":
        """Return the config of ``to_dict``.

        Raises:
            ArgumentError: an unknown field, or a value that cannot be.
        """
        _check_fields(cls, values)
        return cls(**values)


def _check_shared(config: RecurrentConfig | RecurrentTranslatorConfig) -> None:
    for name in _SIZES:
        _check_size(name, getattr(config, name))
    if config.cell not in CELLS:
        raise ArgumentError(f"cell must be one of {tuple(CELLS)}, got {config.cell!r}.")
    if not 0 <= config.dropout_p < 1:
        raise ArgumentError(f"dropout_p must lie in [0, 1), got {config.dropout_p!r}.")
    if not 0 <= config.pad_id < config.vocab_size:
        raise ArgumentError(f"pad_id must be an id below vocab_size {config.vocab_size}, got {config.pad_id}.")


def _check_size(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} must be a whole number of at least 1, got {value!r}.")


def _check_fields(kind: type[Any], values: Mapping[str, Any]) -> None:
    unknown = sorted(set(values) - {field.name for field in fields(kind)})
    if unknown:
        raise ArgumentError(f"A {kind.__name__} has no field {', '.join(unknown)}; remove it.")
