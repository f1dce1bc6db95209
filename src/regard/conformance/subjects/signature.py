"""Streams of a plain module: what its ``forward`` takes, found by its signature and by calling it."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.documents import visible
from regard.conformance.outcome import NotTestedError
from regard.conformance.stream import Output, Packing, Stream, calling
from regard.conformance.subjects.declared import declared
from regard.conformance.subjects.model_subject import ModelSubject

__all__ = ["streams_of_signature"]

_REAL = ("attention_mask",)  # 1 = real token
_CACHE, _NEW_CACHE = "cache", "new_cache"  # the argument, and the method that makes an empty one
_NO_PACKING = "its forward has no known way; tell it with packed= of regard.conformance.Model"
_STACKS = (nn.TransformerEncoder, nn.TransformerEncoderLayer)
_PADDING = ("key_padding_mask", "src_key_padding_mask", "padding_mask")  # True = padding


def streams_of_signature(subject: ModelSubject, assume: Mapping[str, tuple[Any, str]]) -> None:
    """Find the stream and traits of ``subject``.

    Raises:
        NotTestedError: neither ids nor vectors could be given to it.
    """
    module = subject.copy
    names = list(inspect.signature(module.forward).parameters)
    swapped = any(isinstance(one, nn.MultiheadAttention) and not one.batch_first for one in module.modules())
    mask = next((name for name in (*_REAL, *_PADDING) if name in names), None)

    def call(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
        tokens = subject.vectors(tokens)
        given = {}
        if keep is not None and mask is not None:
            given[mask] = keep.long() if mask in _REAL else ~keep
        result = module(tokens.transpose(0, 1) if swapped else tokens, **given)
        found = _per_token(result, tokens.shape[1], swapped)
        return Output(found.transpose(0, 1) if swapped else found)

    def pack(tokens: Tensor, documents: Tensor) -> Output:
        heads = max(one.num_heads for one in module.modules() if isinstance(one, nn.MultiheadAttention))
        keep = visible(documents, causal=bool(subject.traits.causal)).expand(-1, heads, -1, -1).flatten(0, 1)
        tokens = subject.vectors(tokens)
        result = module(tokens.transpose(0, 1) if swapped else tokens, ~keep)
        return Output(result.transpose(0, 1) if swapped else result)

    draw = _drawn(module, call)
    step = _step(module, subject, mask) if _CACHE in names and hasattr(module, _NEW_CACHE) else None
    subject.traits = subject.traits.told(**declared(module))
    subject.traits = subject.traits.told(padding=(mask is not None, f"its forward takes {mask or 'no mask of tokens'}"))
    if step is not None:
        subject.traits = subject.traits.told(cache=(True, f"its forward takes {_CACHE}, which {_NEW_CACHE}() makes"))
    subject.traits = subject.traits.told(**assume)
    subject.streams = [
        Stream(
            name="tokens",
            draw=draw,
            call=call,
            causal=bool(subject.traits.causal),
            padding=mask is not None,
            left_padding=not any("position" in name for name, _ in module.named_modules()),
            step=step,
            has_positions=subject.traits.positions,
            text="model({tokens}{keep})",
            mask_text=f", {mask}={'{mask}' if mask in _REAL else '~{mask}'}",
            packings=(_packing_of_torch(pack),) if isinstance(module, _STACKS) else (),
            no_packing="" if isinstance(module, _STACKS) else _NO_PACKING,
        )
    ]


def _step(module: Any, subject: ModelSubject, mask: str | None) -> Any:
    """Return the function that feeds a chunk; its mask lies over the chunk alone."""

    def step(chunk: Tensor, cache: Any, keep: Tensor | None, positions: Tensor | None) -> tuple[Tensor, Any]:
        cache = getattr(module, _NEW_CACHE)() if cache is None else cache
        given: dict[str, Any] = {_CACHE: cache}
        if keep is not None and mask is not None:
            new = keep[:, -chunk.shape[1] :]
            given[mask] = new.long() if mask in _REAL else ~new
        return _per_token(module(subject.vectors(chunk), **given), chunk.shape[1], False), cache

    return step


def _packing_of_torch(call: Any) -> Packing:
    return Packing(
        name="a mask of blocks",
        call=call,
        lines=(
            "documents = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))",
            "keep = documents[:, None] == documents",
        ),
        text="model({tokens}, ~keep)",
    )


def _drawn(module: nn.Module, call: Any) -> Any:
    """Return the function that draws what ``module`` takes."""
    candidates = [*_ids(module), *_vectors(module)]
    reasons = []
    for draw in candidates:
        try:
            with torch.no_grad(), calling("with such tokens"):
                call(draw(2, 5, torch.Generator().manual_seed(0)), None, None)
        except NotTestedError as error:
            reasons.append(str(error))
        else:
            return draw
    raise NotTestedError(
        f"its forward takes neither ids nor vectors ({'; '.join(reasons) or 'no embedding and no linear layer found'})"
    )


def _ids(module: nn.Module) -> list[Any]:
    sizes = [one.num_embeddings for one in module.modules() if isinstance(one, nn.Embedding)]

    def draw(batch: int, length: int, generator: torch.Generator) -> Tensor:
        return torch.randint(min(3, sizes[0] - 1), sizes[0], (batch, length), generator=generator)

    return [draw] if sizes else []


def _vectors(module: nn.Module) -> list[Any]:
    widths: list[int] = []
    for one in module.modules():
        width = getattr(one, "embed_dim", None) or getattr(one, "in_features", None)
        if isinstance(width, int) and width not in widths:
            widths.append(width)
    return [_vectors_of(width) for width in widths]


def _vectors_of(width: int) -> Any:
    def draw(batch: int, length: int, generator: torch.Generator) -> Tensor:
        return torch.randn(batch, length, width, generator=generator, dtype=torch.float64)

    return draw


def _per_token(result: Any, length: int, swapped: bool) -> Tensor:
    """Return the first tensor that has a vector per token."""
    values = (
        result.values() if isinstance(result, Mapping) else result if isinstance(result, (tuple, list)) else [result]
    )
    for one in values:
        if isinstance(one, Tensor) and one.ndim == 3 and one.shape[0 if swapped else 1] == length:
            return one
    raise ValueError(f"no output has one vector for each of {length} tokens")
