"""What a subject is, as far as the rules must know, and how that became known."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from regard._errors import ArgumentError

__all__ = ["Traits", "assumed", "meant"]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a subject is; None means unknown.

    Attributes:
        causal: a token may not depend on later ones.
        padding: it takes a mask of real tokens.
        positions: it knows the order of tokens.
        left_padding: it has a way to give tokens behind padding the positions that they have alone.
        cache: it can continue from cached keys and values.
        scale: factor of the dot products; None for 1 / √head_dim.
        attention_factors: what rotary positions multiply queries and keys with, as YaRN does, so that scores get its
            square; several where layers differ; None for 1.
        softcap: limit of the absolute scores.
        window: how many keys a token of a windowed layer sees, itself included.
        num_kv_heads: key heads of a model with grouped heads.
        dtype: the type that a function is used with; that of a module is known.
        why: name of a trait -> how it became known.
    """

    causal: bool | None = None
    padding: bool | None = None
    positions: bool | None = None
    left_padding: bool | None = None
    cache: bool | None = None
    scale: float | None = None
    attention_factors: tuple[float, ...] | None = None
    softcap: float | None = None
    window: int | None = None
    num_kv_heads: int | None = None
    dtype: torch.dtype | None = None
    why: Mapping[str, str] = field(default_factory=dict)

    def told(self, **found: tuple[Any, str]) -> "Traits":
        """Return the traits with more of them known: name = (value, how it became known)."""
        values = {name: value for name, (value, _) in found.items()}
        return replace(self, **values, why={**self.why, **{name: why for name, (_, why) in found.items()}})

    def lines(self) -> list[str]:
        """Return one line per trait that is known: name, value and how."""
        known = [(name, getattr(self, name), why) for name, why in self.why.items()]
        return [f"{name} = {value} ({why})" for name, value, why in known]


def assumed(assume: Mapping[str, Any] | None) -> dict[str, tuple[Any, str]]:
    """Return what a person said of the subject, as ``Traits.told`` takes it.

    Raises:
        ArgumentError: a name that is no trait.
    """
    names = [one.name for one in fields(Traits) if one.name != "why"]
    unknown = sorted(set(assume or {}) - set(names))
    if unknown:
        raise ArgumentError(f"assume may name {', '.join(names)}, got {', '.join(unknown)}{meant(unknown[0], names)}")
    return {name: (value, "you said so") for name, value in (assume or {}).items()}


def meant(name: str, known: Sequence[str]) -> str:
    """Return the end of a message that names what ``name`` was probably meant to be; or a full stop."""
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."
