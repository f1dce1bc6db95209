"""Divide documents so that each class is on both sides and no text is."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError
from regard.data._suggest import listed
from regard.data.documents import Documents, normalized

__all__ = ["hold_out_groups", "require_known_labels", "split_documents", "stratified_split"]

_Indices = npt.NDArray[np.int64]


def split_documents(
    documents: Documents, *, share: float, seed: int, singletons: str = "error"
) -> tuple[Documents, Documents]:
    """Divide documents into a part to train on and a part held out, stratified by label.

    Texts that are the same after normalization stay on one side, so the held-out part cannot be known by heart.

    Args:
        documents: what to divide.
        share: share of each class to hold out, in (0, 1).
        seed: the same seed gives the same division.
        singletons: what to do with a label that only one distinct text has: ``"error"``, or ``"train"`` to train on it
            without holding any of it out.

    Returns:
        The part to train on and the part held out, each in the order of ``documents``.

    Raises:
        DataError: a label is seen once and ``singletons`` is ``"error"``.
        ArgumentError: ``share`` or ``singletons`` is out of range.
    """
    train, held = stratified_split(
        documents.labels,
        share=share,
        seed=seed,
        groups=[normalized(text) for text in documents.texts],
        singletons=singletons,
        where=documents.where,
    )
    return documents.take(train), documents.take(held)


def stratified_split(
    labels: Sequence[str],
    *,
    share: float,
    seed: int,
    groups: Sequence[Hashable] | None = None,
    singletons: str = "error",
    where: Callable[[int], str] | None = None,
    what: str = "text",
) -> tuple[_Indices, _Indices]:
    """Divide rows so that each label has about ``share`` of its rows, and at least one, held out.

    Rare labels choose first; a label in n groups gets at least one group on each side when n is 2 or more.

    Args:
        labels: one label per row.
        share: share of each label's rows to hold out, in (0, 1).
        seed: the same seed gives the same division.
        groups: one key per row; rows of one key stay on one side. By default each row is its own group.
        singletons: ``"error"``, or ``"train"`` to put a label that is in one group only on the training side.
        where: says in messages where row ``i`` is; by default ``row i``, counted from 0.
        what: what messages call the rows of one key.

    Returns:
        Row indices to train on and to hold out, int64, each ascending; together every row exactly once.

    Raises:
        DataError: a label is in one group only and ``singletons`` is ``"error"``, or rows of one key with different
            labels make it impossible to have a label on both sides.
        ArgumentError: ``share`` is not inside (0, 1), or ``groups`` is not as long as ``labels``.
    """
    if not 0 < share < 1:
        raise ArgumentError(f"share must lie between 0 and 1, both excluded, got {share}; 0.1 holds out a tenth.")
    if singletons not in ("error", "train"):
        raise ArgumentError(f"singletons must be 'error' or 'train', got {singletons!r}.")
    keys = range(len(labels)) if groups is None else groups
    if len(keys) != len(labels):
        raise ArgumentError(f"groups must hold one key per row, got {len(keys)} for {len(labels)} rows.")
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        members[key].append(row)
    by_label: dict[str, dict[Hashable, int]] = defaultdict(dict)
    for key, rows in members.items():
        for row in rows:
            by_label[labels[row]][key] = by_label[labels[row]].get(key, 0) + 1
    if singletons == "error":
        _refuse_singletons(by_label, members, where or (lambda row: f"row {row}"), what)
    held_keys = _choose(by_label, share, np.random.default_rng(seed), what)
    is_held = np.array([key in held_keys for key in keys], dtype=bool)
    return np.flatnonzero(~is_held).astype(np.int64), np.flatnonzero(is_held).astype(np.int64)


def hold_out_groups(
    keys: Sequence[str], *, share: float, seed: int, what: str, name: str
) -> tuple[list[int], list[int]]:
    """Divide rows without labels; rows of one key stay on one side.

    Args:
        keys: one per row.
        share: share of the rows to hold out, in (0, 1), met as near as the groups allow.
        seed: the same seed gives the same division.
        what: what the rows are, in the plural, for messages.
        name: what a person calls their source.

    Returns:
        Row indices to train on and to hold out, each ascending.

    Raises:
        ArgumentError: ``share`` is out of range.
        DataError: there are fewer than two different keys.
    """
    if not 0 < share < 1:
        raise ArgumentError(f"share must lie between 0 and 1, both excluded, got {share}; 0.1 holds out a tenth.")
    groups: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    if len(groups) < 2:
        raise DataError(f"A split needs two different {what} or more, got {len(groups)} in {name}; add more.")
    members = list(groups.values())
    wanted, held = max(1, round(share * len(keys))), set[int]()
    for place in np.random.default_rng(seed).permutation(len(members))[:-1]:
        if len(held) >= wanted:
            break
        held.update(members[place])
    return [row for row in range(len(keys)) if row not in held], sorted(held)


def require_known_labels(train: Documents, other: Documents) -> None:
    """Refuse documents with a label that the training documents do not have.

    Raises:
        DataError: a label of ``other`` is absent from ``train``; the message names it and where it is.
    """
    known = set(train.labels)
    unknown = [label for label in other.label_counts() if label not in known]
    if unknown:
        first = other.labels.index(unknown[0])
        raise DataError(
            f"Every label of {other.name} must be seen in training, got {listed(unknown)} only there "
            f"(first at {other.where(first)}); add training documents of it or drop those rows."
        )


def _choose(
    by_label: dict[str, dict[Hashable, int]], share: float, generator: np.random.Generator, what: str
) -> set[Hashable]:
    """Pick the groups to hold out, the label with the fewest groups first."""
    held: set[Hashable] = set()
    placed: set[Hashable] = set()
    for label in sorted(by_label, key=lambda name: (len(by_label[name]), name)):
        counts = by_label[label]
        if len(counts) == 1:
            placed.update(counts)  # nothing to divide; a group that is not held out is trained on
            continue
        free = [key for key in counts if key not in placed]
        free = [free[at] for at in generator.permutation(len(free))]
        wanted = share * sum(counts.values())
        taken = sum(count for key, count in counts.items() if key in held)
        train_has = any(key in placed and key not in held for key in counts)
        while free and (taken == 0 or abs(taken + counts[free[-1]] - wanted) < abs(taken - wanted)):
            if len(free) == 1 and not train_has:
                break
            key = free.pop()
            held.add(key)
            taken += counts[key]
        placed.update(counts)
        if taken == 0 or not (train_has or free):
            raise DataError(
                f"The label {label!r} must be on both sides of the split, but its {len(counts)} {what}s also have "
                f"rarer labels that decide for them; give identical {what}s one label."
            )
    return held


def _refuse_singletons(
    by_label: dict[str, dict[Hashable, int]],
    members: dict[Hashable, list[int]],
    where: Callable[[int], str],
    what: str,
) -> None:
    single = [label for label, counts in by_label.items() if len(counts) == 1]
    if not single:
        return
    group = members[next(iter(by_label[single[0]]))]
    seen = "once" if len(group) == 1 else f"in one {what} only, {len(group)} times"
    others = f" (and so are {listed(single[1:], at_most=5)})" if len(single) > 1 else ""
    raise DataError(
        f"A label needs two different {what}s to be trained on and held out, got {single[0]!r} seen {seen}, at "
        f"{where(group[0])}{others}; merge it into another label, drop it, or only train on it with singletons='train'."
    )
