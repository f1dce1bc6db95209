"""Texts that stand in two splits, word for word or nearly, and texts that have two labels."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from regard.data.documents import Documents, normalized
from regard.data.minhash import near_duplicates

__all__ = ["Leaks", "find_leaks"]

_EXAMPLES = 5

_Places = dict[str, list[int]]


@dataclass(frozen=True, kw_only=True)
class Leaks:
    """What ``find_leaks`` found.

    Attributes:
        exact: per pair of splits ``{"splits", "count", "share_of_test", "examples"}``; ``count`` is the number of
            documents of the second split whose text is in the first, ``share_of_test`` their share of the second
            split, and each example a pair of ``Documents.rows``.
        near: the same for documents that are not in the first split word for word but nearly, with ``"threshold"``.
        repeated: per split, how many documents repeat the text of an earlier one of the same split.
        conflicts: texts with more than one label, each as the places of its first document of each label.
        num_unchecked: near pairs that were not looked at because very many texts are alike.
    """

    exact: list[dict[str, Any]]
    near: list[dict[str, Any]]
    repeated: dict[str, int]
    conflicts: list[list[str]]
    num_unchecked: int


def find_leaks(splits: Mapping[str, Documents], *, threshold: float = 0.8) -> Leaks:
    """Compare every split with every earlier one; empty texts are left out.

    Args:
        splits: documents by name, those to train on first.
        threshold: Jaccard similarity of word 5-shingles from which two texts are nearly the same, in [0.7, 1].

    Returns:
        The leaks, with a count of 0 where there are none.

    Raises:
        ArgumentError: ``threshold`` is out of range.
    """
    places = _places(splits)
    texts = list(places)
    found = near_duplicates(texts, threshold=threshold)
    alike: dict[str, list[str]] = defaultdict(list)
    for left, right in found.pairs.tolist():
        alike[texts[left]].append(texts[right])
        alike[texts[right]].append(texts[left])
    pairs = list(combinations(splits, 2))
    return Leaks(
        exact=[_entry(splits, pair, _exact_pairs(places, *pair)) for pair in pairs],
        near=[{**_entry(splits, pair, _near_pairs(places, alike, *pair)), "threshold": threshold} for pair in pairs],
        repeated={name: sum(len(where.get(name, [])[1:]) for where in places.values()) for name in splits},
        conflicts=_conflicts(splits, places),
        num_unchecked=found.num_unchecked,
    )


def _places(splits: Mapping[str, Documents]) -> dict[str, _Places]:
    """Index the documents: normalized text -> split -> indices."""
    places: dict[str, _Places] = {}
    for name, documents in splits.items():
        for index, text in enumerate(documents.texts):
            key = normalized(text)
            if key:
                places.setdefault(key, {}).setdefault(name, []).append(index)
    return places


def _exact_pairs(places: Mapping[str, _Places], first: str, second: str) -> list[tuple[int, int]]:
    return [(where[first][0], index) for where in places.values() if first in where for index in where.get(second, [])]


def _near_pairs(
    places: Mapping[str, _Places], alike: Mapping[str, list[str]], first: str, second: str
) -> list[tuple[int, int]]:
    pairs = []
    for text, others in alike.items():
        if first in places[text]:
            continue  # an exact leak, or no document of the second split
        twins = [places[other][first][0] for other in others if first in places[other]]
        if twins:
            pairs += [(min(twins), index) for index in places[text].get(second, [])]
    return pairs


def _entry(splits: Mapping[str, Documents], names: tuple[str, str], pairs: list[tuple[int, int]]) -> dict[str, Any]:
    first, second = splits[names[0]], splits[names[1]]
    ordered = sorted(pairs, key=lambda pair: pair[1])
    return {
        "splits": list(names),
        "count": len(ordered),
        "share_of_test": len(ordered) / len(second),
        "examples": [[first.rows[left], second.rows[right]] for left, right in ordered[:_EXAMPLES]],
    }


def _conflicts(splits: Mapping[str, Documents], places: Mapping[str, _Places]) -> list[list[str]]:
    conflicts = []
    for where in places.values():
        first_of_label: dict[str, str] = {}
        for name, indices in where.items():
            for index in indices:
                label = splits[name].labels[index]
                first_of_label.setdefault(label, f"{splits[name].where(index)} ({label})")
        if len(first_of_label) > 1:
            conflicts.append(list(first_of_label.values()))
    return conflicts
