"""A function with the signature of ``scaled_dot_product_attention``, or part of it."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regard._errors import ArgumentError
from regard.conformance.documents import offsets_of, visible
from regard.conformance.outcome import NotTestedError
from regard.conformance.stream import Output, Packing, Stream, calling
from regard.conformance.subjects.offsets_function import OffsetsFunction, takes_offsets
from regard.conformance.subjects.subject import Subject
from regard.conformance.traits import Traits

__all__ = ["FunctionSubject"]

_NAMES = {
    "mask": ("attn_mask", "mask", "attention_mask"),
    "bias": ("attn_bias", "bias"),
    "causal": ("is_causal", "causal"),
    "scale": ("scale", "scaling", "softmax_scale"),
    "dropout": ("dropout_p", "dropout"),
    "grouped": ("enable_gqa",),
    "alibi": ("alibi_slopes",),
}
_SDPA = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
HEADS, HEAD_DIM = 2, 16


class FunctionSubject(Subject):
    """A function of query, key and value, (batch, heads, len, head_dim) each, or of packed ones and their offsets.

    A token of its stream is the query, the key and the value of that token in one vector, so that the laws of sequences
    hold for functions as they do for models.

    Attributes:
        options: what it takes besides -> the name of the argument: mask, bias, causal, scale, dropout, grouped,
            alibi.
    """

    kind = "function"

    def __init__(self, function: Callable[..., Any], assume: Mapping[str, tuple[Any, str]]) -> None:
        self.original = function
        names = _parameters(function)
        self.function = OffsetsFunction(function) if takes_offsets(names) else function
        self.name = _name(function)
        self.options = {
            option: next(name for name in known if name in names)
            for option, known in _NAMES.items()
            if any(name in names for name in known)
        }
        self._dtype = torch.float64
        packed = isinstance(self.function, OffsetsFunction)
        self.notes = [
            "layout is (tokens, heads, head_dim) with offsets" if packed else "layout is (batch, heads, len, head_dim)",
            f"it takes {', '.join(self.options.values()) or 'no'} options",
        ]
        always = self._is_causal_by_itself()
        told = {"causal": (always, "measured without any mask" if always else "nothing hides later keys by default")}
        told |= {
            "padding": ("mask" in self.options, "by its signature"),
            "positions": (False, "it is a function of sets"),
        }
        self.traits = Traits().told(**told).told(**assume)
        self.streams = list(self._streams())

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Return what the function gives; ``options`` by the names of ``options``.

        Raises:
            NotTestedError: it raised an error, or did not return a tensor of the shape of the output.
        """
        given = {self.options[name]: value for name, value in options.items() if value is not None}
        if mask is not None:
            given[self.options["mask"]] = mask
        if "grouped" in self.options and query.shape[1] != key.shape[1]:
            given[self.options["grouped"]] = True
        with calling(f"with query {tuple(query.shape)}, key {tuple(key.shape)} and {sorted(given) or 'no options'}"):
            result = self.function(query.clone(), key.clone(), value.clone(), **given)  # as in Stream.run
        output = result[0] if isinstance(result, tuple) else result
        expected = (*query.shape[:-1], value.shape[-1])
        if not isinstance(output, Tensor) or output.shape != expected:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise NotTestedError(f"its output should have the shape {expected}, got {got}")
        return output

    def weights(self, query: Tensor, key: Tensor, **options: Any) -> Tensor:
        """Return the weights of the function, (batch, heads, q_len, kv_len): what it does to values of unit vectors.

        There may be no more keys than ``head_dim``.
        """
        kv_len, width = key.shape[-2:]
        unit = torch.eye(kv_len, width, dtype=query.dtype).expand(*key.shape[:2], kv_len, width).contiguous()
        return self.attend(query, key, unit, **options)[..., :kv_len]

    def draw(self, generator: torch.Generator, q_len: int, kv_len: int | None = None, **sizes: int) -> list[Tensor]:
        """Return random query, key and value."""
        batch, heads = sizes.get("batch", 1), sizes.get("heads", HEADS)
        width, kv_heads = sizes.get("head_dim", HEAD_DIM), sizes.get("kv_heads", heads)
        kv_len = q_len if kv_len is None else kv_len
        shapes = [(batch, heads, q_len, width), *[(batch, kv_heads, kv_len, width)] * 2]
        return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    @contextmanager
    def precision(self, dtype: torch.dtype) -> Iterator[None]:
        """Give the function inputs of ``dtype`` meanwhile."""
        before, self._dtype = self._dtype, dtype
        try:
            yield
        finally:
            self._dtype = before

    def vectors(self, tokens: Tensor) -> Tensor:
        """Return ``tokens`` in the current type."""
        return tokens.to(self._dtype)

    def setup(self) -> str:
        """Return the import of the function, and how a token becomes its query, key and value."""
        adapted = self.function.written() if isinstance(self.function, OffsetsFunction) else []
        return "\n".join(["import torch", self._imported(), *adapted])

    def _imported(self) -> str:
        """Return where the function comes from."""
        module = getattr(self.original, "__module__", None)
        if self.origin is not None:
            return self.made(self.name if self.name.isidentifier() else "attend")
        if self.original is F.scaled_dot_product_attention:
            return f"from torch.nn.functional import {self.name}"
        importable = "<" not in getattr(self.original, "__qualname__", "<")  # not within a function
        if self.name.isidentifier() and importable and module not in (None, "__main__"):
            return f"from {module} import {self.name}"
        return f"# {self.name}: the function that was checked"

    def _written(self, causal: bool) -> tuple[str, str]:
        """Return the call on vectors that hold query, key and value of each token, and its mask, as expressions."""
        options = f", {self.options['causal']}=True" if causal and "causal" in self.options else ""
        split = f"*{{tokens}}.unflatten(-1, (3, {HEADS}, {HEAD_DIM})).permute(2, 0, 3, 1, 4)"
        mask = f", {self.options['mask']}={{mask}}[:, None, None]" if "mask" in self.options else ""
        return f"{self.name}({split}{options}{{keep}}).transpose(1, 2)", mask

    def _streams(self) -> Iterator[Stream]:
        if not self.traits.causal:
            yield self._stream("without a mask", causal=False)
        if self.traits.causal or "causal" in self.options:
            yield self._stream("causal", causal=True)

    def _stream(self, name: str, *, causal: bool) -> Stream:
        option = {"causal": True} if causal and "causal" in self.options else {}

        def call(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
            q, k, v = self._heads(tokens)
            mask, options = None if keep is None else keep[:, None, None, :], option
            if mask is not None and option:  # backends disagree on a mask together with causal
                length = tokens.shape[1]
                mask, options = mask & torch.ones(length, length, dtype=torch.bool).tril(), {}
            if mask is not None:
                mask = mask.expand(-1, -1, tokens.shape[1], -1)
            return Output(self.attend(q, k, v, mask=mask, **options).transpose(1, 2).flatten(2))

        text, mask_text = self._written(causal)
        packings = tuple(self._packings(causal))
        return Stream(
            name=name,
            draw=lambda batch, length, generator: torch.randn(
                batch, length, 3 * HEADS * HEAD_DIM, generator=generator, dtype=torch.float64
            ),
            call=call,
            causal=causal,
            padding="mask" in self.options,
            left_padding=True,
            has_positions=False,
            text=text,
            mask_text=mask_text,
            packings=packings,
            no_packing="" if packings else "it takes neither a mask nor offsets",
        )

    def _heads(self, tokens: Tensor) -> list[Tensor]:
        """Return query, key and value of tokens that hold the three."""
        return [part.unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2) for part in self.vectors(tokens).chunk(3, -1)]

    def _packings(self, causal: bool) -> Iterator[Packing]:
        if "mask" in self.options:
            yield self._packed_by_mask(causal)
        if isinstance(self.function, OffsetsFunction):
            yield self._packed_by_offsets(self.function, causal)

    def _packed_by_mask(self, causal: bool) -> Packing:
        def call(tokens: Tensor, documents: Tensor) -> Output:
            mask = visible(documents, causal=causal)  # the triangle is in it: backends disagree on a mask with causal
            return Output(self.attend(*self._heads(tokens), mask=mask).transpose(1, 2).flatten(2))

        split = f"*{{tokens}}.unflatten(-1, (3, {HEADS}, {HEAD_DIM})).permute(2, 0, 3, 1, 4)"
        lower = ".tril()" if causal else ""
        return Packing(
            name="a mask of blocks",
            call=call,
            lines=(
                "documents = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))",
                f"keep = (documents[:, None] == documents){lower}[None, None]",
            ),
            text=f"{self.name}({split}, {self.options['mask']}=keep).transpose(1, 2)",
        )

    def _packed_by_offsets(self, function: OffsetsFunction, causal: bool) -> Packing:
        option = {self.options["causal"]: True} if causal and "causal" in self.options else {}

        def call(tokens: Tensor, documents: Tensor) -> Output:
            query, key, value = self._heads(tokens)
            ends = offsets_of(documents)
            return Output(function.packed(query, key, value, ends, ends, **option).transpose(1, 2).flatten(2))

        split = f"*{{tokens}}[0].unflatten(-1, (3, {HEADS}, {HEAD_DIM})).unbind(1)"
        given = ", ".join([*function.given("ends", "max(sizes)"), *(f"{name}=True" for name in option)])
        return Packing(
            name="offsets",
            call=call,
            lines=("ends = torch.tensor([0, *sizes], dtype=torch.int32).cumsum(0, dtype=torch.int32)",),
            text=f"over_offsets({split}, {given})[None]",
        )

    def _is_causal_by_itself(self) -> bool:
        query, key, _ = self.draw(torch.Generator().manual_seed(0), 5)
        with torch.no_grad():
            weights = self.weights(query, key)
        return bool((weights.triu(1) == 0).all()) and bool((weights.tril() != 0).any())


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    if function is F.scaled_dot_product_attention:
        return _SDPA
    try:
        return tuple(inspect.signature(function).parameters)
    except ValueError as error:
        raise ArgumentError(
            f"check needs a function with a signature, got {function!r}; wrap it in a Python function."
        ) from error
