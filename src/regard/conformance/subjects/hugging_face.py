"""Streams of a Hugging Face model, by the conventions that its configuration, its class and its signature follow."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.outcome import NotTestedError
from regard.conformance.stream import Output, Stream, calling
from regard.conformance.subjects.declared import declared
from regard.conformance.subjects.hugging_face_packing import Asked, packings_of_hugging_face
from regard.conformance.subjects.model_subject import ModelSubject
from regard.conformance.subjects.private_copy import parameter_dtype

__all__ = ["is_hugging_face", "streams_of_hugging_face"]

_CONTEXT = 7  # tokens of the other side of an encoder–decoder
_WIDE = 2048  # a vocabulary projection wider than this is left out: it is linear and works token by token
_SPECIAL = ("pad", "bos", "eos", "cls", "sep", "mask", "unk", "decoder_start")
_CACHES = ("cache", "past_key_values")


def is_hugging_face(module: nn.Module) -> bool:
    """Return whether ``module`` looks like a model of ``transformers``."""
    return hasattr(getattr(module, "config", None), "model_type") and hasattr(module, "get_input_embeddings")


def streams_of_hugging_face(subject: ModelSubject, assume: Mapping[str, tuple[Any, str]]) -> None:
    """Find the streams and traits of ``subject``.

    Raises:
        NotTestedError: the model could not be called.
    """
    found = _Conventions(subject)
    subject.traits = subject.traits.told(**declared(subject.copy)).told(**assume)
    found.leave_out_vocabulary()
    streams = found.two_sides() if found.config.is_encoder_decoder else found.one_side()
    subject.streams = streams
    main = streams[-1]
    told: dict[str, tuple[Any, str]] = {
        "padding": (any(one.padding for one in streams), "by its signature"),
        "cache": (main.step is not None, "its output has one" if main.step else "its output has none"),
        "left_padding": (
            main.left_padding,
            "its positions are relative or can be told" if main.left_padding else "its positions cannot be told",
        ),
    }
    subject.traits = subject.traits.told(**told).told(**assume)


class _Conventions:
    """How one model is called."""

    def __init__(self, subject: ModelSubject) -> None:
        self.subject = subject
        self.module: Any = subject.copy
        self.config: Any = self.module.config
        # A forward that was put in the place of the class's own may name nothing and pass everything on.
        self.names = set(inspect.signature(self.module.forward).parameters)
        self.names |= set(inspect.signature(type(self.module).forward).parameters)
        self.main = getattr(self.module, "main_input_name", "input_ids")
        self._allowed = _plain_tokens(self.module)
        self.padding_token = _padding_token(self.config, len(self._allowed))
        self._states = False

    # calling

    def ids(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        return self._allowed[torch.randint(0, len(self._allowed), (batch, length), generator=generator)]

    def result(self, **inputs: Any) -> Any:
        states = {"output_hidden_states": True} if self._states else {}
        # By default each call would make an empty cache, which takes as long as a small model does.
        plain = {"use_cache": False} if "use_cache" in self.names else {}
        return self.module(**{**plain, **inputs}, **states, return_dict=True)

    def leave_out_vocabulary(self) -> None:
        head = self.module.get_output_embeddings()
        if isinstance(head, nn.Linear) and head.out_features > _WIDE and not self.config.is_encoder_decoder:
            self.module.set_output_embeddings(nn.Identity())
            self.subject.notes.append("the projection to the vocabulary is left out: it works token by token")

    # one side

    def one_side(self) -> list[Stream]:
        if self.main == "pixel_values":
            return [self._image()]
        if self.main != "input_ids":
            raise NotTestedError(
                f"its main input is {self.main}; describe how to call it with regard.conformance.Model"
            )

        def call(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
            result = self.result(input_ids=tokens, **_given(attention_mask=keep, position_ids=positions))
            return self._per_token(result, tokens.shape[1])

        with torch.no_grad(), calling("with input_ids"):
            self._look_for_states(self.ids(2, 5, torch.Generator().manual_seed(0)))
        return [self._stream("tokens", call, causal=bool(self.subject.traits.causal), prefix="", fixed={})]

    def _image(self) -> Stream:
        size = self.config.image_size
        height, width = (size, size) if isinstance(size, int) else size

        def call(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
            result = self.result(pixel_values=self.subject.vectors(tokens))
            states = result.get("last_hidden_state")
            if states is None:
                states = self.module(
                    pixel_values=self.subject.vectors(tokens), output_hidden_states=True
                ).hidden_states[-1]
            return Output(states)

        return Stream(
            name="image",
            draw=lambda batch, length, generator: torch.randn(
                batch, self.config.num_channels, height, width, generator=generator, dtype=torch.float64
            ),
            call=call,
            sequential=False,
            text="model(pixel_values={tokens}).last_hidden_state",
        )

    # two sides

    def two_sides(self) -> list[Stream]:
        generator = torch.Generator().manual_seed(1)
        target = self.ids(1, 5, generator)
        draw = self.ids if self.main == "input_ids" else self._spectrum
        context = draw(1, _CONTEXT, generator)

        def encode(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
            given = {self.main: self.subject.vectors(tokens), **_given(attention_mask=keep)}
            result = self.result(**given, decoder_input_ids=target.expand(len(tokens), -1))
            return Output(result.encoder_last_hidden_state, _first(result))

        def decode(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
            given = {self.main: self._context(context, len(tokens))}
            masks = _given(decoder_attention_mask=keep, decoder_position_ids=positions)
            return Output(_first(self.result(**given, decoder_input_ids=tokens, **masks)))

        sequential = self.main == "input_ids"
        encoder = Stream(
            name="encoder",
            draw=draw,
            call=encode,
            sequential=sequential,
            padding=sequential and "attention_mask" in self.names,
            padding_token=self.padding_token,
            left_padding=sequential and not _absolute(self.module),
            has_positions=True,
            text=f"model({self.main}={{tokens}}{{keep}}, decoder_input_ids=target).encoder_last_hidden_state",
            mask_text=", attention_mask={mask}",
            no_packing="the mask of its encoder reaches the cross-attention of its decoder as well",
        )
        fixed = {self.main: context}
        decoder = self._stream("decoder", decode, causal=True, prefix="decoder_", fixed=fixed)
        return [encoder, decoder]

    def _spectrum(self, batch: int, length: int, generator: torch.Generator) -> Tensor:
        frames = 2 * self.config.max_source_positions
        return torch.randn(batch, self.config.num_mel_bins, frames, generator=generator, dtype=torch.float64)

    def _context(self, context: Tensor, batch: int) -> Tensor:
        return self.subject.vectors(context).expand(batch, *context.shape[1:])

    # what both have

    def _stream(self, name: str, call: Any, *, causal: bool, prefix: str, fixed: Mapping[str, Tensor]) -> Stream:
        offset = self._offset(call) if f"{prefix}position_ids" in self.names else None
        tokens_text = "".join(f"{key}={key}, " for key in fixed)
        text = f"model({tokens_text}{prefix}input_ids={{tokens}}"
        packings, no_packing = packings_of_hugging_face(
            Asked(
                module=self.module,
                call=self._called(prefix, fixed),
                names=self.names,
                prefix=prefix,
                causal=causal,
                offset=offset,
                absolute=_absolute(self.module),
                window=self.subject.traits.window,
                text=text,
                float_type=lambda: parameter_dtype(self.module),
            ),
            self.ids(1, 2, torch.Generator().manual_seed(4)),
        )
        return Stream(
            name=name,
            draw=self.ids,
            call=call,
            causal=causal,
            padding=f"{prefix}attention_mask" in self.names,
            positions=offset,
            left_padding=offset is not None or not _absolute(self.module),
            padding_token=self.padding_token,
            step=self._step(prefix, fixed) if causal and self._caches(prefix, fixed) else None,
            cache_name=self._cache_name(),
            has_positions=self.subject.traits.positions is not False,
            text=f"{text}{{keep}})[0]",
            mask_text=f", {prefix}attention_mask={{mask}}",
            packings=packings,
            no_packing=no_packing,
        )

    def _called(self, prefix: str, fixed: Mapping[str, Tensor]) -> Any:
        """Return the call with tokens and further inputs by name, as the outputs per token."""

        def call(tokens: Tensor, **inputs: Any) -> Output:
            given = {name: self._context(one, len(tokens)) for name, one in fixed.items()}
            result = self.result(**{f"{prefix}input_ids": tokens}, **given, **inputs)
            return Output(_first(result)) if fixed else self._per_token(result, tokens.shape[1])

        return call

    def _offset(self, call: Any) -> int | None:
        """Return what explicit positions count from, measured: with them the outputs are those without any."""
        ids = self.ids(1, 4, torch.Generator().manual_seed(2))
        places = torch.arange(4)[None]
        with torch.no_grad(), calling("with position_ids"):
            plain = call(ids, None, None).tokens
            for offset in (0, self.padding_token + 1):
                if torch.allclose(call(ids, None, places + offset).tokens, plain, rtol=1e-5, atol=1e-7):
                    return offset
        return None

    def _caches(self, prefix: str, fixed: Mapping[str, Tensor]) -> bool:
        if not self._cache_name():
            return False
        ids = self.ids(1, 2, torch.Generator().manual_seed(3))
        given = {name: self._context(one, 1) for name, one in fixed.items()}
        with torch.no_grad(), calling("with use_cache=True"):
            result = self.result(**{f"{prefix}input_ids": ids}, **given, use_cache=True)
        return self._cache_of(result) is not None

    def _cache_name(self) -> str:
        return next((name for name in _CACHES if name in self.names), "")

    def _cache_of(self, result: Any) -> Any:
        return next((result[name] for name in _CACHES if result.get(name) is not None), None)

    def _step(self, prefix: str, fixed: Mapping[str, Tensor]) -> Any:
        cached = self._cache_name()

        def step(chunk: Tensor, cache: Any, keep: Tensor | None, positions: Tensor | None) -> tuple[Tensor, Any]:
            given = {name: self._context(one, len(chunk)) for name, one in fixed.items()}
            masks = _given(**{f"{prefix}attention_mask": keep, f"{prefix}position_ids": positions})
            inputs = {f"{prefix}input_ids": chunk, **given, **masks}
            result = self.result(**inputs, **{cached: cache}, use_cache=True)
            output = _first(result) if fixed else self._per_token(result, chunk.shape[1]).tokens
            return output, self._cache_of(result)

        return step

    def _look_for_states(self, ids: Tensor) -> None:
        result = self.result(input_ids=ids)
        first = _first(result)
        self._states = first.ndim != 3 or first.shape[1] != ids.shape[1]

    def _per_token(self, result: Any, length: int) -> Output:
        if self._states:
            return Output(result.hidden_states[-1], _first(result))
        return Output(_first(result))


def _first(result: Any) -> Tensor:
    """Return the states or logits of a result."""
    for name in ("logits", "last_hidden_state"):
        if result.get(name) is not None:
            found: Tensor = result[name]
            return found
    return next(one for one in result.to_tuple() if isinstance(one, Tensor))


def _given(**inputs: Tensor | None) -> dict[str, Tensor]:
    """Return the inputs that are there; a mask as whole numbers."""
    there = {name: one for name, one in inputs.items() if one is not None}
    return {name: one.long() for name, one in there.items()}


def _plain_tokens(module: Any) -> Tensor:
    """Return the ids that are no special token."""
    embedding = module.get_input_embeddings()
    size: int = getattr(embedding, "num_embeddings", getattr(module.config, "vocab_size", 2))
    special = {getattr(module.config, f"{name}_token_id", None) for name in _SPECIAL}
    return torch.tensor([one for one in range(size) if one not in special])


def _padding_token(config: Any, vocabulary: int) -> int:
    token = getattr(config, "pad_token_id", None)
    return token if isinstance(token, int) and 0 <= token < vocabulary else 0


def _absolute(module: nn.Module) -> bool:
    """Return whether the model adds a vector to each token that depends on its place alone."""
    return any("position" in name and isinstance(one, nn.Embedding) for name, one in module.named_modules())
