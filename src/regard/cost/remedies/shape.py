"""Remedies for work that is done for nothing: padding, and random numbers one by one."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from regard._errors import UnsupportedError
from regard.cost.calling import Arguments
from regard.cost.parts import Part
from regard.cost.profile import Profile
from regard.cost.workload import Workload
from regard.modules import FastDropout

__all__ = ["CutPadding", "QuickDropout", "padding_share"]

_WORTH = 0.05
_MASK = "attention_mask"


class QuickDropout:
    """Let one random number decide about four elements."""

    name = "fast-dropout"
    title = "take regard.modules.FastDropout for nn.Dropout"
    changes = "which elements a seed drops, and the rate by at most 1/65536"
    touches = (Part.DROPOUT,)

    def why(self, profile: Profile) -> str | None:
        """Return what random numbers cost, where ``nn.Dropout`` draws them on a CPU."""
        share, found = profile.time_share(Part.DROPOUT), _dropouts(profile.workload.model)
        if share < _WORTH or not found or profile.workload.device.type != "cpu":
            return None
        return f"{share:.0%} of the time goes into dropout, nearly all of it into random numbers"

    @contextmanager
    def applied(self, workload: Workload, profile: Profile) -> Iterator[Workload]:
        """Replace the modules meanwhile."""
        found = _dropouts(workload.model)
        if not found:
            raise UnsupportedError(f"{self.name} needs modules of nn.Dropout, got a model without; nothing to replace.")
        for holder, name, module in found:
            setattr(holder, name, FastDropout(module.p).train(module.training))
        try:
            yield workload
        finally:
            for holder, name, module in found:
                setattr(holder, name, module)


class CutPadding:
    """Run the longer and the shorter half of a batch one after the other, each cut to its longest sequence."""

    name = "cut-padding"
    title = "put sequences of similar length together and cut each batch to its longest"
    changes = "nothing at real tokens"
    touches: Collection[Part | str] = ()

    def why(self, profile: Profile) -> str | None:
        """Return which share of the batch is padding."""
        share = padding_share(profile.workload.arguments())
        return f"{share:.0%} of the tokens are padding" if share is not None and share > _WORTH else None

    @contextmanager
    def applied(self, workload: Workload, profile: Profile) -> Iterator[Workload]:
        """Call the model twice, with half of the rows each time."""
        if padding_share(workload.arguments()) is None or workload.batch < 2:
            raise UnsupportedError(
                f"{self.name} needs arguments by name, (batch, len) with an attention_mask, of at least 2 sequences; "
                "give a function that returns the model and what makes its inputs."
            )
        yield replace(workload, model=_Halves(workload.model))


class _Halves(nn.Module):
    """A model that takes the rows of a batch in two calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **named: Tensor) -> list[object]:
        order = named[_MASK].sum(1).argsort(descending=True, stable=True)
        return [self._call(named, rows) for rows in order.chunk(2)]

    def _call(self, named: dict[str, Tensor], rows: Tensor) -> object:
        mask = named[_MASK][rows]
        used = mask.any(0).nonzero()
        first, end = int(used.min()), int(used.max()) + 1
        shape = named[_MASK].shape
        cut = {name: _cut(value, shape, rows, slice(first, end)) for name, value in named.items()}
        return self.model(**cut)


def padding_share(arguments: Arguments) -> float | None:
    """Return which share of a batch its mask calls padding; None where there is no mask."""
    mask = arguments.named.get(_MASK)
    if not isinstance(mask, Tensor) or mask.ndim != 2 or arguments.positional:
        return None
    return 1.0 - float(mask.bool().double().mean())


def _cut(value: object, shape: torch.Size, rows: Tensor, places: slice) -> object:
    if not isinstance(value, Tensor) or value.ndim < 1 or value.shape[0] != shape[0]:
        return value
    return value[rows, places] if value.ndim > 1 and value.shape[1] == shape[1] else value[rows]


def _dropouts(model: nn.Module) -> list[tuple[nn.Module, str, nn.Dropout]]:
    return [
        (holder, name, child)
        for holder in model.modules()
        for name, child in holder.named_children()
        if type(child) is nn.Dropout and 0 < child.p < 1
    ]
