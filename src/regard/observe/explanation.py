"""How much every head looks from one word to another, in a form that reads well in a terminal."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.text import Text
from torch import Tensor

from regard.observe.table import Table, grid, plain_text

__all__ = ["Explanation", "PairWeights"]

_STRONGEST = 5


@dataclass(frozen=True, kw_only=True)
class PairWeights:
    """The weights between two words in one layer.

    Attributes:
        word: the text of one.
        other: the text of the other.
        there: (heads,) weight that ``word`` puts on ``other``, 0 to 1; NaN where the layer has no such query or key.
        back: (heads,) weight that ``other`` puts on ``word``, likewise.
    """

    word: str
    other: str
    there: Tensor
    back: Tensor


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The weights between two words in every layer and head; printed, both directions with the strongest heads first.

    A weight says where a head looks, not what follows from it: see ``Kept.top`` for what the values contribute.

    Attributes:
        word: the text of one word.
        other: the text of the other.
        layers: dotted name -> weights.
        left_out: dotted name -> why the layer has no such pair of words.
    """

    word: str
    other: str
    layers: Mapping[str, PairWeights]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def table(self) -> Table:
        """Return one row per direction, layer and head: ``query``, ``key``, ``layer``, ``head``, ``weight``.

        ``query`` is the word that looks and ``key`` the one that is looked at; layers without the pair have no rows.
        """
        return Table(
            {"query": query, "key": key, "layer": layer, "head": head, "weight": weight}
            for query, key, cells in self._directions()
            for (layer, head), weight in cells.items()
        )

    def strongest(self, k: int = _STRONGEST) -> Table:
        """Return the rows of ``table`` with the ``k`` largest weights of each direction, the largest first."""
        rows = Table()
        for direction in ((self.word, self.other), (self.other, self.word)):
            there = [row for row in self.table() if (row["query"], row["key"]) == direction]
            rows += sorted(there, key=lambda row: -row["weight"])[:k]
        return rows

    def __str__(self) -> str:
        return plain_text(self)

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = []
        for query, key, cells in self._directions():
            parts.append(Text(f"{query} → {key}: percent of its weight that {query!r} puts on {key!r}", style="bold"))
            if cells:
                first = sorted((place for place in cells if cells[place] > 0), key=lambda place: -cells[place])[
                    :_STRONGEST
                ]
                told = ", ".join(f"{_percent(cells[place])} % {place[0]} head {place[1]}" for place in first)
                parts += [Text(f"strongest: {told or 'none, as no head may look there'}"), grid(cells, show=_percent)]
            else:
                parts.append(Text("no layer has this pair as query and key"))
            parts.append(Text(""))
        parts += [Text(f"left out: {layer}: {why}", style="dim") for layer, why in self.left_out.items()]
        return Group(*parts)

    def _directions(self) -> list[tuple[str, str, dict[tuple[str, int], float]]]:
        """Return query, key and (layer, head) -> weight of both directions, without what is NaN."""
        there = {layer: pair.there for layer, pair in self.layers.items()}
        back = {layer: pair.back for layer, pair in self.layers.items()}
        return [(self.word, self.other, _cells(there)), (self.other, self.word, _cells(back))]


def _cells(weights: Mapping[str, Tensor]) -> dict[tuple[str, int], float]:
    return {
        (layer, head): weight
        for layer, heads in weights.items()
        for head, weight in enumerate(heads.tolist())
        if weight == weight  # not NaN
    }


def _percent(weight: float | None) -> str:
    return "" if weight is None else f"{100 * weight:.0f}"
