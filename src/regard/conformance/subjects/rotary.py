"""The factor that some rotary positions put on queries and keys, from what a configuration declares."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["attention_factors", "is_relative"]

_RELATIVE = ("default", "linear", "llama3", "yarn")  # angles do not depend on the length of the sequence


def attention_factors(config: Any) -> tuple[tuple[float, ...], str] | None:
    """Return the factors other than 1 alone that layers put on their queries and keys, and how they are declared.

    YaRN (arXiv:2309.00071, section 3.4) makes attention sharper by 0.1 · ln(factor) + 1; LongRoPE (arXiv:2402.13753) by
    √(1 + ln(factor) / ln(original length)). ``attention_factor`` replaces either.
    """
    found = [(_factor(config, one), one.get("rope_type")) for one in _parameters(config)]
    factors = {factor for factor, _ in found}
    if getattr(config, "no_rope_layers", None):
        factors.add(1.0)
    if factors <= {1.0}:
        return None
    kinds = " and ".join(sorted({str(kind) for factor, kind in found if factor != 1.0}))
    return tuple(sorted(factors)), f"config.rope_parameters, {kinds}"


def is_relative(config: Any) -> bool:
    """Return whether ``config`` declares rotary positions of which differences alone count."""
    found = list(_parameters(config))
    return bool(found) and all(one.get("rope_type", "default") in _RELATIVE for one in found)


def _parameters(config: Any) -> Iterator[Mapping[str, Any]]:
    """Iterate over the rotary parameters; models with several kinds of layers have one set for each."""
    rotary = getattr(config, "rope_parameters", None)
    if not isinstance(rotary, Mapping):
        return
    nested = [one for one in rotary.values() if isinstance(one, Mapping)]
    yield from nested or [rotary]


def _factor(config: Any, rotary: Mapping[str, Any]) -> float:
    kind, told = rotary.get("rope_type"), rotary.get("attention_factor")
    if kind not in ("yarn", "longrope"):
        return 1.0
    if told is not None:
        return float(told)
    original = rotary.get("original_max_position_embeddings") or config.max_position_embeddings
    longer = rotary.get("factor") or config.max_position_embeddings / original
    if longer <= 1:
        return 1.0
    if kind == "longrope":
        return math.sqrt(1 + math.log(longer) / math.log(original))
    above, below = rotary.get("mscale"), rotary.get("mscale_all_dim")
    return _sharper(longer, above) / _sharper(longer, below) if above and below else _sharper(longer, 1.0)


def _sharper(longer: float, share: float) -> float:
    return 0.1 * share * math.log(longer) + 1
