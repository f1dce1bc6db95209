"""An attention module: PyTorch's, one with four projections of the usual names, or a person's own by its adapter."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.adapters import AttentionModule
from regard.conformance.documents import visible
from regard.conformance.stream import Output, Packing, Stream
from regard.conformance.subjects.private_copy import cast, parameter_dtype, private_copy
from regard.conformance.subjects.subject import Subject
from regard.conformance.traits import Traits

__all__ = ["ModuleSubject", "adapted"]

_CONTEXTS = ("context", "encoder_hidden_states", "key_value_states", "kv", "memory", "other", "source")


class ModuleSubject(Subject):
    """An attention module; its streams are self-attention without and with a causal mask.

    Args:
        adapter: the module and how it is called.
        assume: what a person said of it.
        by_person: the adapter is the person's own, not one that was found for a known form.
    """

    kind = "module"

    def __init__(
        self, adapter: AttentionModule, assume: Mapping[str, tuple[Any, str]], *, by_person: bool = True
    ) -> None:
        self.by_person = by_person
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
        if self.by_person:
            return f"import torch\n{self.made('adapter')}\nmodule = adapter.module.double().eval()"
        lines = ["import torch", self.made("module"), "module = module.double().eval()"]
        if isinstance(self.original, nn.MultiheadAttention) and not self.original.batch_first:
            lines.append("module.batch_first = True")
        return "\n".join(lines)

    def _streams(self) -> Iterator[Stream]:
        if self.adapter.causal != "always":
            yield self._stream("without a mask", causal=False)
        if self.adapter.causal != "never":
            yield self._stream("causal", causal=True)

    def _written(self, causal: bool) -> tuple[str, str, str]:
        """Return how the call is written, what stands in it for a mask of real tokens, and what where there is none."""
        if self.by_person:
            text = f"adapter.call(module, {{tokens}}, {{keep}}, {causal})"
            return text, "{mask}", "None"
        mask = ", key_padding_mask=~{mask}"
        if not isinstance(self.original, nn.MultiheadAttention):
            return "module({tokens}{keep})", mask, ""
        later = ", attn_mask=torch.ones([{tokens}.shape[1]] * 2, dtype=torch.bool).triu(1)" if causal else ""
        return f"module(*[{{tokens}}] * 3{{keep}}{later}, need_weights=False)[0]", mask, ""

    def _stream(self, name: str, *, causal: bool) -> Stream:
        width = self.adapter.embed_dim
        text, mask_text, no_mask_text = self._written(causal)
        packings = tuple(self._packings(causal))
        no_packing = "its adapter has no packed=" if self.by_person else "it takes no mask of pairs of tokens"

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
            text=text,
            mask_text=mask_text,
            no_mask_text=no_mask_text,
            packings=packings,
            no_packing="" if packings else no_packing,
        )

    def _packings(self, causal: bool) -> Iterator[Packing]:
        packed = self.adapter.packed
        if packed is None:
            return

        def call(tokens: Tensor, documents: Tensor) -> Output:
            return Output(packed(self.copy, self.vectors(tokens), documents, causal))

        lines = ["documents = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))"]
        lower = ".tril()" if causal else ""
        if self.by_person:
            name, text = "packed= of the adapter", f"adapter.packed(module, {{tokens}}, documents[None], {causal})"
        elif isinstance(self.original, nn.MultiheadAttention):
            name, text = "attn_mask of blocks", "module(*[{tokens}] * 3, attn_mask=~keep, need_weights=False)[0]"
            lines.append(f"keep = (documents[:, None] == documents){lower}")
        else:
            name, text = "attn_mask of blocks", "module({tokens}, attn_mask=keep)"
            lines.append(f"keep = (documents[:, None] == documents){lower}")
        yield Packing(name=name, call=call, lines=tuple(lines), text=text)


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

    def packed(twin: nn.MultiheadAttention, x: Tensor, documents: Tensor, causal: bool) -> Tensor:
        hidden = ~visible(documents, causal=causal).expand(-1, module.num_heads, -1, -1).flatten(0, 1)
        y = swap(x)
        return swap(twin(y, y, y, attn_mask=hidden, need_weights=False)[0])

    same = module._qkv_same_embed_dim
    return AttentionModule(
        module=module,
        call=call,
        embed_dim=module.embed_dim,
        num_heads=module.num_heads,
        cross=cross if same else None,
        packed=packed,
    )


def _with_projections(module: nn.Module) -> AttentionModule:
    def call(twin: nn.Module, x: Tensor, keep: Tensor | None, causal: bool) -> Tensor:
        output: Tensor = twin(x, key_padding_mask=None if keep is None else ~keep)
        return output

    def cross(twin: nn.Module, x: Tensor, context: Tensor) -> Tensor:
        output: Tensor = twin(x, context)
        return output

    def packed(twin: nn.Module, x: Tensor, documents: Tensor, causal: bool) -> Tensor:
        keep = visible(documents, causal=causal)
        output: Tensor = twin(x, attn_mask=~keep if _hides_where_true(twin, x) else keep)
        return output

    width: int = module.query.in_features  # type: ignore[assignment, union-attr]
    names = list(inspect.signature(module.forward).parameters)
    takes_mask = "attn_mask" in names
    takes_context = len(names) > 1 and names[1] in _CONTEXTS
    takes_context = takes_context and not (getattr(module, "rotary", None) or getattr(module, "causal", False))
    return AttentionModule(
        module=module,
        call=call,
        embed_dim=width,
        num_heads=module.num_heads,  # type: ignore[arg-type]
        causal="always" if getattr(module, "causal", False) else "never",
        cross=cross if takes_context else None,
        packed=packed if takes_mask else None,
    )


def _hides_where_true(twin: nn.Module, x: Tensor) -> bool:
    """Return whether True in ``attn_mask`` means may not attend.

    A token that sees itself alone gives what it gives without any other, which tells the two meanings apart. Where
    neither does that, True is taken to mean may attend.
    """
    itself = torch.eye(2, dtype=torch.bool)[None, None]
    alone = torch.cat([twin(x[:1, place : place + 1]) for place in range(2)], 1)
    seen, hidden = (
        torch.allclose(twin(x[:1, :2], attn_mask=mask), alone, rtol=1e-4, atol=1e-6) for mask in (itself, ~itself)
    )
    return hidden and not seen
