"""A whole model: its streams come from its adapter, from Hugging Face's conventions, or from its signature."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.adapters import Model
from regard.conformance.stream import Output, Packing, Stream
from regard.conformance.subjects.private_copy import cast, parameter_dtype, private_copy
from regard.conformance.subjects.subject import Subject
from regard.conformance.traits import Traits

__all__ = ["ModelSubject", "streams_of_adapter"]


class ModelSubject(Subject):
    """A model that gives one vector per token.

    Args:
        module: the model.
        exact: type that its copy computes in.

    Attributes:
        by_person: a person's adapter says how it is called.
    """

    kind = "model"
    by_person = False

    def __init__(self, module: nn.Module, exact: torch.dtype = torch.float64) -> None:
        self.original = module
        self.name = type(module).__name__
        self.copy: nn.Module = private_copy(module, exact)
        self.dtype = parameter_dtype(module)
        self.traits = Traits()
        self.streams: Sequence[Stream] = ()
        self.notes: list[str] = []
        self.exact = self._dtype = exact
        if exact != torch.float64:
            self.notes.append(
                f"computed in {exact}, as it does not run in float64, so that small faults may hide in rounding"
            )

    @contextmanager
    def precision(self, dtype: torch.dtype) -> Iterator[None]:
        """Compute in ``dtype`` meanwhile."""
        before, self._dtype = self._dtype, dtype
        try:
            with cast(self.copy, dtype):
                yield
        finally:
            self._dtype = before

    def vectors(self, tokens: Tensor) -> Tensor:
        """Return ``tokens`` in the current type; whole numbers stay."""
        return tokens.to(self._dtype) if tokens.dtype.is_floating_point else tokens

    def setup(self) -> str:
        """Return where the model comes from."""
        if self.by_person:
            return f"import torch\n{self.made('adapter')}\nmodel = adapter.module.double().eval()"
        return f"import torch\n{self.made('model')}\nmodel = model.double().eval()  # shows the difference best"


def streams_of_adapter(subject: ModelSubject, adapter: Model, assume: Mapping[str, tuple[Any, str]]) -> None:
    """Give ``subject`` the stream that ``adapter`` describes."""
    subject.by_person = True
    told: dict[str, tuple[Any, str]] = {
        "padding": (adapter.padding, "the adapter says so"),
        "cache": (adapter.step is not None, "the adapter says so"),
    }
    if adapter.causal is not None:
        told["causal"] = (adapter.causal, "the adapter says so")
    if adapter.positions is not None:
        told["positions"] = (adapter.positions, "the adapter says so")
    subject.traits = subject.traits.told(**told).told(**assume)

    def draw(batch: int, length: int, generator: torch.Generator) -> Tensor:
        if adapter.vocab_size is None:
            return torch.randn(batch, length, adapter.embed_dim or 1, generator=generator, dtype=torch.float64)
        return torch.randint(0, adapter.vocab_size, (batch, length), generator=generator)

    def call(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
        return Output(adapter.call(subject.copy, subject.vectors(tokens), keep))

    def step(chunk: Tensor, cache: Any, keep: Tensor | None, positions: Tensor | None) -> tuple[Tensor, Any]:
        assert adapter.step is not None
        return adapter.step(subject.copy, subject.vectors(chunk), cache)

    def pack(tokens: Tensor, documents: Tensor) -> Output:
        assert adapter.packed is not None
        return Output(adapter.packed(subject.copy, subject.vectors(tokens), documents))

    subject.streams = [
        Stream(
            name="tokens",
            draw=draw,
            call=call,
            causal=bool(subject.traits.causal),
            padding=adapter.padding,
            left_padding=adapter.left_padding,
            padding_token=adapter.padding_token,
            step=None if adapter.step is None else step,
            has_positions=subject.traits.positions,
            text="adapter.call(model, {tokens}, {keep})",
            mask_text="{mask}",
            no_mask_text="None",
            packings=() if adapter.packed is None else (_packing_of_adapter(pack),),
            no_packing="its adapter has no packed=" if adapter.packed is None else "",
        )
    ]


def _packing_of_adapter(call: Callable[[Tensor, Tensor], Output]) -> Packing:
    return Packing(
        name="packed= of the adapter",
        call=call,
        lines=("documents = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))[None]",),
        text="adapter.packed(model, {tokens}, documents)",
    )
