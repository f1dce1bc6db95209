"""Remedies for attention that does not run on the fastest kernel there is."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from regard._errors import UnsupportedError
from regard.cost.attention_calls import EAGER
from regard.cost.calling import Arguments
from regard.cost.parts import Part
from regard.cost.profile import Profile
from regard.cost.workload import Workload
from regard.functional.kernels import has_amx, native_kernels

__all__ = ["AttentionDropout", "DropMask", "FusedKernel", "NativeKernels"]

_CORE = (Part.CORE, Part.MASKS, Part.COPIES)
_RATES = ("attention_dropout", "attn_dropout_p", "attn_pdrop", "dropout", "dropout_p")
_MODULES = ("attention_dropout", "attn_drop", "attn_dropout", "dropout")
_FLASH_CPU = "scaled_dot_product_flash_attention_for_cpu"
_NEVER = 1 << 60  # steps between two looks
_MASKS = ("attention_mask", "key_padding_mask", "src_key_padding_mask")


class FusedKernel:
    """Turn on fused attention where the model computes it by products and softmax."""

    name = "fused-kernel"
    title = "compute attention by a fused kernel instead of products and softmax"
    changes = "nothing but rounding"
    touches = _CORE

    def why(self, profile: Profile) -> str | None:
        """Return how many calls were not fused, where the model can be told otherwise."""
        calls = profile.account.kernels.get(EAGER, 0)
        switches = _switches(profile.workload.model)
        return f"{calls} attention calls were not fused: {switches[0]}" if calls and switches else None

    @contextmanager
    def applied(self, workload: Workload, profile: Profile) -> Iterator[Workload]:
        """Set ``attn_implementation`` to ``"sdpa"``, or ``impl`` to ``"auto"``."""
        if not _switches(workload.model):
            raise UnsupportedError(
                f"{self.name} needs a model of transformers with eager attention, or attention of regard with "
                'impl="reference", got neither; call scaled_dot_product_attention in the model.'
            )
        ours = [module for module in workload.model.modules() if getattr(module, "impl", None) == "reference"]
        config = getattr(workload.model, "config", None)
        before = getattr(config, "_attn_implementation", None)
        if before == "eager":
            workload.model.set_attn_implementation("sdpa")  # type: ignore[operator]
        for module in ours:
            module.impl = "auto"  # type: ignore[assignment]
        try:
            yield workload
        finally:
            if before == "eager":
                workload.model.set_attn_implementation("eager")  # type: ignore[operator]
            for module in ours:
                module.impl = "reference"  # type: ignore[assignment]


class AttentionDropout:
    """Train without dropout of the attention weights."""

    name = "attention-dropout"
    title = "set the dropout of attention weights to 0, so that the fused kernel is taken"
    changes = "training: weights of attention are no longer dropped; dropout elsewhere stays"
    touches = (*_CORE, Part.DROPOUT)

    def why(self, profile: Profile) -> str | None:
        """Return which dropout kept the fused kernel away."""
        rates = _rates(profile) if profile.workload.trains else {}
        calls = profile.account.kernels.get(EAGER, 0)
        if not calls or not rates:
            return None
        name, rate = next(iter(rates.items()))
        return f"{calls} attention calls were not fused, as PyTorch's CPU kernel has no dropout: {name} is {rate:g}"

    @contextmanager
    def applied(self, workload: Workload, profile: Profile) -> Iterator[Workload]:
        """Set the rates to 0 meanwhile."""
        found = list(_holders(workload.model, profile))
        if not found:
            raise UnsupportedError(
                f"{self.name} needs attention modules that hold a dropout rate above 0, got none; set it where the "
                "model is made."
            )
        before = [getattr(holder, name) for holder, name, _ in found]
        for holder, name, _ in found:
            setattr(holder, name, 0.0)
        try:
            yield workload
        finally:
            for (holder, name, _), rate in zip(found, before, strict=True):
                setattr(holder, name, rate)


class NativeKernels:
    """Run the native kernels in the place of PyTorch's fused one."""

    name = "native-kernels"
    title = "run regard's native kernels in the place of PyTorch's: regard.watch(model, kernel='native')"
    changes = "nothing but rounding"
    touches = (Part.CORE,)

    def why(self, profile: Profile) -> str | None:
        """Return how many calls they could take, on a processor where they were measured to win."""
        calls = profile.account.kernels.get(_FLASH_CPU, 0)
        if not calls or has_amx() or not native_kernels().works:
            return None
        return f"{calls} attention calls ran on PyTorch's CPU kernel"

    @contextmanager
    def applied(self, workload: Workload, profile: Profile) -> Iterator[Workload]:
        """Watch nothing, with the native kernels."""
        from regard.observe import watch

        native = native_kernels()
        if not native.works:
            raise UnsupportedError(
                f"{self.name} needs native kernels that work, got {native.problem or 'none installed'}; "
                "install regard-native with `pip install ./native`."
            )
        with watch(workload.model, ["entropy"], every=_NEVER, kernel="native"):
            yield workload


class DropMask:
    """Leave out a mask that hides nothing."""

    name = "drop-mask"
    title = "leave out the padding mask where nothing is padded"
    changes = "nothing"
    touches = _CORE

    def why(self, profile: Profile) -> str | None:
        """Return how many calls were given a mask that hides nothing."""
        calls = [work for work in profile.account.attention if work.has_mask and work.mask_is_read]
        idle = [work for work in calls if work.needed == work.streams * work.q_len * work.kv_len]
        if not idle or not _idle_masks(profile.workload.arguments().named):
            return None
        return f"{len(idle)} attention calls were given a mask that hides nothing"

    @contextmanager
    def applied(self, workload: Workload, profile: Profile) -> Iterator[Workload]:
        """Call without such masks."""
        if not _idle_masks(workload.arguments().named):
            raise UnsupportedError(
                f"{self.name} needs a padding mask among the arguments that hides nothing, got none; leave it."
            )

        def without(batch: int, length: int) -> Arguments:
            arguments = workload.inputs(batch, length)
            idle = _idle_masks(arguments.named)
            kept = {name: value for name, value in arguments.named.items() if name not in idle}
            return Arguments(positional=arguments.positional, named=kept)

        yield replace(workload, inputs=without)


def _switches(model: nn.Module) -> list[str]:
    """Return what of ``model`` says that attention is not fused, and can be changed."""
    found = []
    if getattr(getattr(model, "config", None), "_attn_implementation", None) == "eager" and hasattr(
        model, "set_attn_implementation"
    ):
        found.append('attn_implementation is "eager"')
    if any(getattr(module, "impl", None) == "reference" for module in model.modules()):
        found.append('impl is "reference"')
    return found


def _rates(profile: Profile) -> dict[str, float]:
    return {f"{name}.{attribute}": rate for name, attribute, rate in _named_rates(profile.workload.model, profile)}


def _named_rates(model: nn.Module, profile: Profile) -> Iterator[tuple[str, str, float]]:
    modules = dict(model.named_modules())
    for name in dict.fromkeys(work.module for work in profile.account.attention):
        for holder, attribute, rate in _rates_of(modules[name]):
            yield name if holder is modules[name] else f"{name}.dropout", attribute, rate


def _holders(model: nn.Module, profile: Profile) -> Iterator[tuple[nn.Module, str, float]]:
    modules = dict(model.named_modules())
    for name in dict.fromkeys(work.module for work in profile.account.attention):
        yield from _rates_of(modules[name])


def _rates_of(module: nn.Module) -> Iterator[tuple[nn.Module, str, float]]:
    """Yield what holds a rate of dropout of attention weights in the module that computes them."""
    for name in _RATES:
        rate = getattr(module, name, None)
        if isinstance(rate, float) and rate > 0:
            yield module, name, rate
    for name in _MODULES:
        child = getattr(module, name, None)
        if isinstance(child, nn.Dropout) and child.p > 0:
            yield child, "p", child.p


def _idle_masks(named: Mapping[str, Any]) -> list[str]:
    """Return the names of padding masks that hide nothing."""
    found = []
    for name in _MASKS:
        mask = named.get(name)
        if isinstance(mask, Tensor) and mask.ndim == 2:
            real = mask.bool() if name == "attention_mask" else ~mask.bool()
            if bool(torch.all(real)):
                found.append(name)
    return found
