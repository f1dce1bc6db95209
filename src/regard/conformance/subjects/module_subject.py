"""An attention module: PyTorch's, one with four projections of the usual names, or a person's own by its adapter."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.adapters import AttentionModule
from regard.conformance.stream import Output, Stream
from regard.conformance.subjects.private_copy import cast, parameter_dtype, private_copy
from regard.conformance.subjects.subject import Subject
from regard.conformance.traits import Traits

__all__ = ["ModuleSubject", "adapted"]


class ModuleSubject(Subject):
    """An attention module; its streams are self-attention without and with a causal mask."""

    kind = "module"

    def __init__(self, adapter: AttentionModule, assume: Mapping[str, tuple[Any, str]]) -> None:
        self.original = adapter.module
        self.adapter = adapter
        self.name = type(adapter.module).__name__
        self.copy = private_copy(adapter.module)
        self.dtype = parameter_dtype(adapter.module)
        self._dtype = torch.float64
        causal = adapter.causal == "always"
        told: dict[str, tuple[Any, str]] = {
            "causal": (causal, "the module is causal" if causal else "it has no mask unless it is given one"),
            "padding": (adapter.padding, "it takes a padding mask" if adapter.padding else "it takes no padding mask"),
            "positions": (False, "attention alone knows no order; rotary positions would break this"),
        }
        if adapter.scale is not None:
            told["scale"] = (adapter.scale, "the adapter says so")
        if isinstance(getattr(adapter.module, "rotary", None), float):
            told["positions"] = (True, "the module has rotary positions")
        self.traits = Traits().told(**told).told(**assume)
        self.notes = [f"{adapter.num_heads} heads over a width of {adapter.embed_dim}"]
        self.streams = list(self._streams())

    @contextmanager
    def precision(self, dtype: torch.dtype) -> Iterator[None]:
        """Compute in ``dtype`` meanwhile."""
        assert self.copy is not None
        before, self._dtype = self._dtype, dtype
        try:
            with cast(self.copy, dtype):
                yield
        finally:
            self._dtype = before

    def vectors(self, tokens: Tensor) -> Tensor:
        """Return ``tokens`` in the current type."""
        return tokens.to(self._dtype)

    def setup(self) -> str:
        """Return where the module comes from."""
        return "import torch\n# module: the attention module that was checked, in float64 and eval mode"

    def _streams(self) -> Iterator[Stream]:
        if self.adapter.causal != "always":
            yield self._stream("without a mask", causal=False)
        if self.adapter.causal != "never":
            yield self._stream("causal", causal=True)

    def _stream(self, name: str, *, causal: bool) -> Stream:
        width = self.adapter.embed_dim

        def call(tokens: Tensor, keep: Tensor | None, positions: Tensor | None) -> Output:
            return Output(self.adapter.call(self.copy, self.vectors(tokens), keep, causal))

        return Stream(
            name=name,
            draw=lambda batch, length, generator: torch.randn(
                batch, length, width, generator=generator, dtype=torch.float64
            ),
            call=call,
            causal=causal,
            padding=self.adapter.padding,
            left_padding=not self.traits.positions,
            has_positions=self.traits.positions,
            text="module({tokens})",
        )


def adapted(module: nn.Module) -> AttentionModule | None:
    """Return the adapter of a module whose form is known, or None."""
    if isinstance(module, nn.MultiheadAttention):
        return _of_torch(module)
    projections = [getattr(module, name, None) for name in ("query", "key", "value", "output")]
    if all(isinstance(one, nn.Linear) for one in projections) and isinstance(getattr(module, "num_heads", None), int):
        return _with_projections(module)
    return None


def _of_torch(module: nn.MultiheadAttention) -> AttentionModule:
    def swap(x: Tensor) -> Tensor:
        return x if module.batch_first else x.transpose(0, 1).contiguous()  # linear layers fuse their bias then

    def call(twin: nn.MultiheadAttention, x: Tensor, keep: Tensor | None, causal: bool) -> Tensor:
        hidden = None if keep is None else ~keep
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if causal else None
        y = swap(x)
        return swap(twin(y, y, y, key_padding_mask=hidden, attn_mask=later, need_weights=False)[0])

    def cross(twin: nn.MultiheadAttention, x: Tensor, context: Tensor) -> Tensor:
        return swap(twin(swap(x), swap(context), swap(context), need_weights=False)[0])

    same = module._qkv_same_embed_dim
    return AttentionModule(
        module=module, call=call, embed_dim=module.embed_dim, num_heads=module.num_heads, cross=cross if same else None
    )


def _with_projections(module: nn.Module) -> AttentionModule:
    def call(twin: nn.Module, x: Tensor, keep: Tensor | None, causal: bool) -> Tensor:
        output: Tensor = twin(x, key_padding_mask=None if keep is None else ~keep)
        return output

    def cross(twin: nn.Module, x: Tensor, context: Tensor) -> Tensor:
        output: Tensor = twin(x, context)
        return output

    width: int = module.query.in_features  # type: ignore[assignment, union-attr]
    return AttentionModule(
        module=module,
        call=call,
        embed_dim=width,
        num_heads=module.num_heads,  # type: ignore[arg-type]
        causal="always" if getattr(module, "causal", False) else "never",
        cross=None if getattr(module, "rotary", None) or getattr(module, "causal", False) else cross,
    )
