"""What the guard says: one sentence on what was seen and one on what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from regard.observe.guarding.causes import WARNINGS

__all__ = ["Finding"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault or warning.

    Attributes:
        step: when; forwards of the model counted from 1, or what ``Guard.at`` said.
        layer: dotted name of the attention module.
        heads: which heads, or () where it is not known.
        cause: a name of ``FAULTS`` or ``WARNINGS``.
        value: the number that shows it.
        limit: what the number must stay below.
        sentence: what, where, the number, what it leads to, what to do.
        origin: where the first value that is not finite was, as far as it can be told: a parameter, an input of the
            model, or the last attention layer that was still finite; else None.
    """

    step: int
    layer: str
    heads: tuple[int, ...]
    cause: str
    value: float
    limit: float
    sentence: str
    origin: str | None = None

    @property
    def is_warning(self) -> bool:
        """Whether everything is still finite."""
        return self.cause in WARNINGS


def where(step: int, layer: str, heads: Sequence[int]) -> str:
    """Return the beginning of a sentence: the place."""
    name = f"layer {layer}" if layer else "the model's own attention"
    if not heads:
        return f"Step {step}, {name}"
    many = f"head {heads[0]}" if len(heads) == 1 else f"heads {_ranges(heads)}"
    return f"Step {step}, {name}, {many}"


def _ranges(numbers: Sequence[int]) -> str:
    """Write 0, 1, 2, 5 as 0-2, 5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)
