"""What each recorded statistic is called, means, and how it is coloured."""

from dataclasses import dataclass

__all__ = ["Meaning", "meaning", "ordered"]


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """A statistic for a person; ``low`` and ``high`` fix its colour scale where its range is the point."""

    title: str
    says: str
    unit: str = ""
    low: float | None = None
    high: float | None = None


_MEANINGS = {
    "normalized_entropy": Meaning(
        title="Normalized entropy",
        says="How evenly a head spreads its attention: 1 over all keys it may see, 0 on a single one.",
        low=0.0,
        high=1.0,
    ),
    "output_norm": Meaning(title="Output norm", says="Length of what the head adds; a head near 0 does nothing."),
    "first_mass": Meaning(
        title="Weight on the first token", says="High for attention sinks, which are mostly functional.", low=0.0
    ),
    "max_weight": Meaning(
        title="Largest weight", says="The weight of the most attended key, mean over rows.", low=0.0, high=1.0
    ),
    "saturated_share": Meaning(
        title="Saturated rows", says="Share of rows that put over 0.99 on one key; little gradient passes.", low=0.0
    ),
    "distance": Meaning(title="Attention distance", says="How far a head looks, in tokens.", unit="tokens", low=0.0),
    "previous_mass": Meaning(
        title="Weight on the previous token", says="High for heads that copy the neighbour.", low=0.0
    ),
    "self_mass": Meaning(title="Weight on the own position", says="High for heads that look at themselves.", low=0.0),
    "entropy": Meaning(title="Entropy", says="Spread of the attention, in nats.", unit="nats", low=0.0),
    "effective_keys": Meaning(
        title="Effective keys", says="Number of keys that a uniform head of the same entropy would see.", unit="keys"
    ),
    "collision": Meaning(
        title="Collision", says="Sum of squared weights; one minus it is the gradient that reaches the scores.", low=0.0
    ),
    "max_score": Meaning(title="Largest score", says="Before the softmax; it grows before attention collapses."),
    "padding_mass": Meaning(
        title="Weight on padding", says="Must be 0 everywhere: a mask is applied or it is not.", low=0.0
    ),
}


def meaning(statistic: str) -> Meaning:
    """Return what ``statistic`` means; its plain name for one that this version does not know."""
    return _MEANINGS.get(statistic, Meaning(title=statistic.replace("_", " "), says=""))


def ordered(statistics: list[str]) -> list[str]:
    """Sort statistics as the page shows them, unknown ones last."""
    places = {name: index for index, name in enumerate(_MEANINGS)}
    return sorted(statistics, key=lambda name: (places.get(name, len(places)), name))
