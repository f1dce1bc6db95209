"""How a model is called with a batch of sequences of any length, found by what it is and what its ``forward`` takes."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard._errors import ArgumentError, RegardError
from regard.cost.count import count, tensors_of

__all__ = ["Arguments", "Inputs", "call_of", "default_loss", "model_width"]

_OF_TOKENS = ("ForCausalLM", "ForMaskedLM", "LMHeadModel", "ForConditionalGeneration")
"""Ends of names of classes of ``transformers`` that take a label for each token."""

_OF_TARGET = ("decoder_", "target", "tgt")
"""Beginnings of names of arguments that are the second sequence of an encoder–decoder."""

Inputs = Callable[[int, int], "Arguments"]
"""From batch and length to the arguments of one call."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What a model is called with, by position and by name."""

    positional: Sequence[Any] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Any:
        return iter((self.positional, self.named))

    def call(self, model: nn.Module) -> Any:
        """Call ``model``."""
        return model(*self.positional, **self.named)


def call_of(model: nn.Module, *, trains: bool = False, seed: int = 0) -> Inputs:
    """Return what gives ``model`` a batch of random sequences, with labels where it ``trains`` and takes some.

    Known are models of ``transformers`` that read token ids, PyTorch's attention, Transformer and recurrent modules,
    and modules whose ``forward`` takes ids or vectors, tried in this order on shapes alone.

    Raises:
        ArgumentError: none of this fits.
    """
    for make in _candidates(model, trains, seed):
        problem = _problem(model, make)
        if problem is None:
            return make
    raise ArgumentError(
        f"The model must take token ids or vectors of one width, got {type(model).__name__}, which took neither; give "
        "a function that returns the model and what makes its inputs from (batch, length)."
    )


def default_loss(result: Any, arguments: Arguments) -> Tensor:
    """Return a loss to train with: that of the model, cross-entropy with its ids, or else the mean of squares."""
    own = getattr(result, "loss", None)
    if isinstance(own, Tensor):
        return own
    first = next(one for one in tensors_of(result) if one.dtype.is_floating_point)
    ids = [one for one in tensors_of(list(arguments)) if one.dtype == torch.int64 and one.shape == first.shape[:-1]]
    if first.ndim == 3 and ids and first.shape[-1] > 512:  # logits of a vocabulary
        return F.cross_entropy(first.flatten(0, 1).float(), ids[-1].flatten())
    return first.float().square().mean()


def model_width(model: nn.Module) -> int:
    """Return the width of the vectors that ``model`` works on.

    Raises:
        ArgumentError: nothing tells it.
    """
    for name in ("hidden_size", "embed_dim", "d_model", "n_embd"):
        for holder in (model, getattr(model, "config", None)):
            if isinstance(found := getattr(holder, name, None), int):
                return found
    widths = _widths(model)
    if not widths:
        raise ArgumentError(f"The model must have a width, got {type(model).__name__} without a layer that tells it.")
    return widths[0]


def _problem(model: nn.Module, make: Inputs) -> str | None:
    """Return why ``model`` cannot be called so, on shapes alone."""
    try:
        with torch.no_grad():
            positional, named = make(2, 5)
            count(model, *positional, **named)
    except RegardError as error:
        return None if "real=True" in str(error) else str(error)
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError) as error:
        return str(error)
    return None


def _candidates(model: nn.Module, trains: bool, seed: int) -> list[Inputs]:
    draw = _Draw(seed)
    if hasattr(getattr(model, "config", None), "model_type"):
        found = _hugging_face(model, trains, draw)
        return [found] if found is not None else []
    known = _of_torch(model, draw)
    if known is not None:
        return [known]
    sizes = [one.num_embeddings for one in model.modules() if isinstance(one, nn.Embedding)]
    made: list[Inputs] = []
    if sizes and any(name.startswith(_OF_TARGET) for name in inspect.signature(model.forward).parameters):
        made.append(_ids(draw, (sizes[0], sizes[-1])))
    if sizes:
        made.append(_ids(draw, (sizes[0],)))
    return made + [_vectors(draw, width) for width in _widths(model)]


def _ids(draw: "_Draw", sizes: Sequence[int]) -> Inputs:
    return lambda batch, length: Arguments(positional=[draw.ids(size, batch, length) for size in sizes])


def _vectors(draw: "_Draw", width: int) -> Inputs:
    return lambda batch, length: Arguments(positional=[draw.vectors(width, batch, length)])


def _widths(model: nn.Module) -> list[int]:
    found: dict[int, None] = {}
    for one in model.modules():
        for name in ("embed_dim", "input_size", "in_features"):
            if isinstance(width := getattr(one, name, None), int):
                found[width] = None
    return list(found)


class _Draw:
    """Random ids and vectors, the same for the same seed and sizes."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def ids(self, size: int, batch: int, length: int) -> Tensor:
        return torch.randint(min(3, size - 1), size, (batch, length), generator=self._generator())

    def vectors(self, width: int, batch: int, length: int) -> Tensor:
        return torch.randn(batch, length, width, generator=self._generator())

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed)


def _of_torch(model: nn.Module, draw: _Draw) -> Inputs | None:
    """Return how a module of PyTorch is called, or None where it is none that is known."""

    def vectors(width: int, batch: int, length: int, batch_first: bool) -> Tensor:
        drawn = draw.vectors(width, batch, length)
        return drawn if batch_first else drawn.transpose(0, 1)

    if isinstance(model, nn.MultiheadAttention):
        widths = (model.embed_dim, model.kdim or model.embed_dim, model.vdim or model.embed_dim)
        return lambda batch, length: Arguments(
            positional=[vectors(width, batch, length, model.batch_first) for width in widths],
            named={"need_weights": False},
        )
    if isinstance(model, nn.RNNBase):
        return lambda batch, length: Arguments(positional=[vectors(model.input_size, batch, length, model.batch_first)])
    attention = next((one for one in model.modules() if isinstance(one, nn.MultiheadAttention)), None)
    if attention is None:
        return None
    width, first = attention.embed_dim, attention.batch_first
    if isinstance(model, nn.TransformerEncoder | nn.TransformerEncoderLayer):
        return lambda batch, length: Arguments(positional=[vectors(width, batch, length, first)])
    if isinstance(model, nn.Transformer | nn.TransformerDecoder | nn.TransformerDecoderLayer):
        return lambda batch, length: Arguments(positional=[vectors(width, batch, length, first) for _ in range(2)])
    return None


def _hugging_face(model: Any, trains: bool, draw: _Draw) -> Inputs | None:
    if getattr(model, "main_input_name", "input_ids") != "input_ids":
        return None
    vocabulary, kind = int(model.config.get_text_config().vocab_size), type(model).__name__
    two = bool(getattr(model.config, "is_encoder_decoder", False))

    def make(batch: int, length: int) -> Arguments:
        ids = draw.ids(vocabulary, batch, length)
        named: dict[str, Any] = {"input_ids": ids}
        if trains and kind.endswith(_OF_TOKENS):
            named["labels"] = ids
        elif two:
            named["decoder_input_ids"] = ids
        if trains and kind.endswith("ForSequenceClassification"):
            named["labels"] = torch.zeros(batch, dtype=torch.int64)
        return Arguments(named=named)

    return make
