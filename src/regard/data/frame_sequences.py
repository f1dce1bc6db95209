"""Sequences of numeric frames: audio features, sensor readings, curves; each with a class or a number, or without."""

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError
from regard.data.splits import stratified_split

__all__ = ["TARGETS", "FrameSequences", "split_sequences"]

TARGETS = ("class", "number")
"""What a sequence may be asked for."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FrameSequences:
    """Sequences of unlike length whose frames have the same channels, in the order of their source.

    Attributes:
        frames: one (frames, channels) float64 array a sequence, finite, with one frame or more.
        labels: the class of each sequence, or None.
        numbers: (sequences,) the number that belongs to each, or None.
        channels: their names.
        names: what a person calls each sequence.
        rows: number of each in its source, counted as ``unit``; of the first frame where each frame has a row.
        unit: ``"line"`` or ``"row"``.
        name: of the source.
        files: that were read.
        groups: what must stay on one side of a split, such as who spoke, or None.
        splits: the split that the file gives each sequence, or None.
    """

    frames: tuple[_Floats, ...]
    labels: tuple[str, ...] | None = None
    numbers: _Floats | None = None
    channels: tuple[str, ...]
    names: tuple[str, ...]
    rows: tuple[int, ...]
    unit: str = "line"
    name: str
    files: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.frames:
            raise DataError(f"A data set needs at least one sequence, got none in {self.name}; check the file.")
        for field in ("labels", "numbers", "names", "rows", "groups", "splits"):
            found = getattr(self, field)
            if found is not None and len(found) != len(self.frames):
                raise ArgumentError(
                    f"{field} must have one for each of {len(self.frames)} sequences, got {len(found)}."
                )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def lengths(self) -> list[int]:
        """Frames of each sequence."""
        return [len(one) for one in self.frames]

    def where(self, index: int) -> str:
        """Say where sequence ``index`` came from, as in ``vowels.ts line 12``."""
        return f"{self.name} {self.unit} {self.rows[index]}"

    def digests(self) -> list[str]:
        """Return what two sequences have in common only if they are equal, value for value."""
        return [hashlib.sha256(f"{one.shape}".encode() + one.tobytes()).hexdigest() for one in self.frames]

    def take(self, indices: Iterable[SupportsIndex]) -> "FrameSequences":
        """Return the sequences at ``indices``, in that order."""
        chosen = [index.__index__() for index in indices]

        def of(values: Sequence[str] | None) -> tuple[str, ...] | None:
            return None if values is None else tuple(values[index] for index in chosen)

        return replace(
            self,
            frames=tuple(self.frames[index] for index in chosen),
            labels=of(self.labels),
            numbers=None if self.numbers is None else self.numbers[chosen],
            names=tuple(self.names[index] for index in chosen),
            rows=tuple(self.rows[index] for index in chosen),
            groups=of(self.groups),
            splits=of(self.splits),
        )


def split_sequences(sequences: FrameSequences, *, share: float, seed: int) -> tuple[FrameSequences, FrameSequences]:
    """Divide sequences into a part to train on and a part held out, stratified by class where there are classes.

    Sequences of one group stay on one side, and where no groups are given those that are equal, value for value.

    Args:
        sequences: what to divide.
        share: share to hold out, in (0, 1).
        seed: the same seed gives the same division.

    Raises:
        DataError: a class is in one group only, so that it cannot stand on both sides.
    """
    labels = sequences.labels or ("",) * len(sequences)
    groups: Sequence[Hashable] = sequences.digests() if sequences.groups is None else sequences.groups
    what = "sequence" if sequences.groups is None else "group"
    if sequences.labels is None and len(set(groups)) < 2:
        raise DataError(f"A split needs two different {what}s, got one in {sequences.name}; name another group column.")
    train, held = stratified_split(labels, share=share, seed=seed, groups=groups, where=sequences.where, what=what)
    return sequences.take(train), sequences.take(held)
