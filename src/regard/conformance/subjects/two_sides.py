"""Streams of a plain encoder–decoder: a module whose ``forward`` takes ``input_ids`` and ``decoder_input_ids``.

The names are Hugging Face's, the module need not be: what it gives is the decoder's output, a tensor. A method
``encode(input_ids, attention_mask)`` lets the encoder be checked too, ``new_cache()`` and an argument ``cache`` the
decoder's cache.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.outcome import NotTestedError
from regard.conformance.stream import Output, Stream, calling
from regard.conformance.subjects.model_subject import ModelSubject

__all__ = ["has_two_sides", "streams_of_two_sides"]

_CONTEXT, _TARGET = 7, 5  # tokens of the other side
_NO_PACKING = "its forward has no known way; tell it with packed= of regard.conformance.Model"


def has_two_sides(module: nn.Module) -> bool:
    """Return whether ``module`` takes the ids of a source and of a target."""
    return {"input_ids", "decoder_input_ids"} <= set(inspect.signature(module.forward).parameters)


def streams_of_two_sides(subject: ModelSubject, assume: Mapping[str, tuple[Any, str]]) -> None:
    """Find the streams and traits of ``subject``.

    Raises:
        NotTestedError: it has no embedding, so that nothing is known of its ids.
    """
    sides = _Sides(subject)
    decoder = sides.decoder()
    told: dict[str, tuple[Any, str]] = {
        "causal": (True, "the decoder of an encoder–decoder is"),
        "padding": (decoder.padding, "by its signature"),
        "cache": (decoder.step is not None, "by its signature"),
        "left_padding": (
            decoder.left_padding,
            "measured: padding on the left changes nothing"
            if decoder.left_padding
            else "measured: padding on the left shifts positions",
        ),
    }
    subject.traits = subject.traits.told(**told).told(**assume)
    subject.streams = [*sides.encoder(), decoder]


class _Sides:
    """How one module is called."""

    def __init__(self, subject: ModelSubject) -> None:
        self.module: Any = subject.copy
        self.names = set(inspect.signature(self.module.forward).parameters)
        sizes = [one.num_embeddings for one in self.module.modules() if isinstance(one, nn.Embedding)]
        if not sizes:
            raise NotTestedError("it takes token ids and has no embedding, so that it is not known which ids there are")
        self.size = min(sizes)  # whichever of them is the vocabulary, these ids are in it
        generator = torch.Generator().manual_seed(1)
        self.context, self.target = self.ids(1, _CONTEXT, generator), self.ids(1, _TARGET, generator)

    def ids(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        return torch.randint(min(3, self.size - 1), self.size, (batch, length), generator=generator)

    def encoder(self) -> list[Stream]:
        if not hasattr(self.module, "encode"):
            return []

        def call(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
            masks = _given(attention_mask=keep)
            written = self.module(tokens, self.target.expand(len(tokens), -1), **masks)
            return Output(self.module.encode(tokens, **masks), written)

        padding = "attention_mask" in self.names
        return [
            Stream(
                name="encoder",
                draw=self.ids,
                call=call,
                padding=padding,
                left_padding=padding and self._ignores_left(call),
                has_positions=True,
                text="model.encode({tokens}{keep})",
                mask_text=", attention_mask={mask}",
                no_packing=_NO_PACKING,
            )
        ]

    def decoder(self) -> Stream:
        def call(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
            masks = _given(decoder_attention_mask=keep)
            return Output(self.module(self.context.expand(len(tokens), -1), tokens, **masks))

        def step(chunk: Tensor, cache: Any, keep: Tensor | None, positions: Tensor | None) -> tuple[Tensor, Any]:
            cache = self.module.new_cache() if cache is None else cache
            masks = _given(decoder_attention_mask=None if keep is None else keep[:, -chunk.shape[1] :])
            return self.module(self.context.expand(len(chunk), -1), chunk, cache=cache, **masks), cache

        padding = "decoder_attention_mask" in self.names
        caches = "cache" in self.names and hasattr(self.module, "new_cache")
        return Stream(
            name="decoder",
            draw=self.ids,
            call=call,
            causal=True,
            padding=padding,
            left_padding=padding and self._ignores_left(call),
            step=step if caches else None,
            cache_name="cache" if caches else "",
            has_positions=True,
            text="model(input_ids, decoder_input_ids={tokens}{keep})",
            mask_text=", decoder_attention_mask={mask}",
            no_packing=_NO_PACKING,
        )

    def _ignores_left(self, call: Any) -> bool:
        """Return whether tokens behind padding have the places that they have alone; measured."""
        ids = self.ids(1, 4, torch.Generator().manual_seed(2))
        padded = torch.cat((torch.zeros(1, 3, dtype=torch.int64), ids), 1)
        keep = torch.arange(7)[None] >= 3
        with torch.no_grad(), calling("with padding on the left"):
            alone, behind = call(ids, None, None).tokens, call(padded, keep, None).tokens[:, 3:]
        return bool(torch.allclose(alone, behind, rtol=1e-5, atol=1e-7))


def _given(**masks: Tensor | None) -> dict[str, Tensor]:
    return {name: mask.long() for name, mask in masks.items() if mask is not None}
