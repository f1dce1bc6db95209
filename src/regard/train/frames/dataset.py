"""From files to audited splits of standardised sequences of frames."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import DataError
from regard.data import (
    FrameSequences,
    Standardizer,
    audit_sequences,
    load_frame_table,
    load_ts,
    split_sequences,
)
from regard.records import Run
from regard.train.frames.config import FramesData
from regard.train.row_ranges import row_ranges

__all__ = ["FramesCorpus", "FramesSplit", "build_corpus", "read_sequences"]

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class FramesSplit:
    """The sequences of one split as a model reads them.

    Attributes:
        frames: one (frames, channels) float32 array a sequence, standardised by the training frames.
        targets: (sequences,), int64 index of the class of each, or float64 number of each in its own unit.
    """

    frames: list[npt.NDArray[np.float32]]
    targets: npt.NDArray[Any]

    @property
    def lengths(self) -> list[int]:
        """Frames of each sequence."""
        return [len(one) for one in self.frames]


@dataclass(frozen=True, kw_only=True)
class FramesCorpus:
    """The splits of one job.

    Attributes:
        splits: name -> its sequences.
        channels: their names.
        scaler: of the channels, measured on the training frames.
        labels: class names in the order of the model's outputs, or None.
        numbers: mean and deviation of the training numbers, or None.
        audit: content of ``audit.json``.
    """

    splits: dict[str, FramesSplit]
    channels: tuple[str, ...]
    scaler: Standardizer
    labels: list[str] | None
    numbers: Standardizer | None
    audit: dict[str, Any]

    @property
    def num_outputs(self) -> int:
        """Outputs of the model: one for each class, or one for a number."""
        return 1 if self.labels is None else len(self.labels)


def read_sequences(config: FramesData, path: Path, *, target: str | None) -> FrameSequences:
    """Read a file as the data of ``config`` are read.

    Args:
        config: names the columns of a table.
        path: ``.ts`` file or table.
        target: ``"class"`` or ``"number"``; None for sequences that are to be asked: columns of targets, groups and
            splits need not be there.

    Raises:
        DataError: the file cannot be used.
    """
    if not config.is_table:
        return load_ts(path, target=target)
    asks = target is not None
    return load_frame_table(
        path,
        sequence=config.sequence,
        target=target,
        label=config.label if asks else None,
        time=config.time,
        channels=config.channels,
        group=config.group if asks else None,
        split=config.split if asks else None,
    )


def build_corpus(config: FramesData, target: str, *, seed: int, run: Run) -> FramesCorpus:
    """Load, split, audit and standardise; write ``audit.json`` and ``split.json``.

    Args:
        config: where the sequences come from.
        target: ``"class"`` or ``"number"``.
        seed: of the splits.
        run: where the files are written.

    Raises:
        DataError: a file, column, value, class or split that cannot be used.
    """
    splits = _split(config, target, seed)
    _check_groups(splits)
    train = splits["train"]
    labels = None if train.labels is None else _labels(splits)
    numbers = None if train.numbers is None else _scale_of_numbers(train)
    scaler = Standardizer.of(np.concatenate(train.frames), train.channels)
    content = audit_sequences(splits, source=train.name)
    if not run.has("audit"):
        run.write("audit", content)
        run.event("data", summary=content["summary"], warnings=content["warnings"])
    run.write("split", {name: _fingerprint(one) for name, one in splits.items()})
    return FramesCorpus(
        splits={name: _encoded(one, scaler, labels) for name, one in splits.items()},
        channels=train.channels,
        scaler=scaler,
        labels=labels,
        numbers=numbers,
        audit=content,
    )


def _split(config: FramesData, target: str, seed: int) -> dict[str, FrameSequences]:
    assert config.path is not None, "the config refuses a job without a path"
    read = read_sequences(config, config.path, target=target)
    if read.splits is not None:
        return _of_column(read, read.splits, config, seed)
    if config.test_path is not None:
        train, test = read, read_sequences(config, config.test_path, target=target)
        if train.channels != test.channels:
            raise DataError(
                f"Training and test sequences must have the same channels, got {len(train.channels)} in {train.name} "
                f"and {len(test.channels)} in {test.name}, or other names."
            )
    else:
        train, test = split_sequences(read, share=config.test_share, seed=seed)
    train, validation = split_sequences(train, share=config.validation_share, seed=seed)
    return {"train": train, "validation": validation, "test": test}


def _of_column(read: FrameSequences, told: Sequence[str], config: FramesData, seed: int) -> dict[str, FrameSequences]:
    """Return the splits that the file names; validation is held out of training where it names none."""
    places = {name: [index for index, said in enumerate(told) if said == name] for name in _SPLITS}
    lacking = [name for name in ("train", "test") if not places[name]]
    if lacking:
        raise DataError(f"The column {config.split!r} must name sequences of train and test, got none of {lacking[0]}.")
    splits = {name: read.take(found) for name, found in places.items() if found}
    if "validation" not in splits:
        train, validation = split_sequences(splits["train"], share=config.validation_share, seed=seed)
        splits |= {"train": train, "validation": validation}
    return {name: splits[name] for name in _SPLITS}


def _check_groups(splits: Mapping[str, FrameSequences]) -> None:
    for first, second in combinations(splits, 2):
        both = set(splits[first].groups or ()) & set(splits[second].groups or ())
        if both:
            raise DataError(
                f"A group must stand on one side, got {min(both)!r} in {first} and in {second}; move its sequences, or "
                "leave data.group out and say that known groups were tested."
            )


def _labels(splits: Mapping[str, FrameSequences]) -> list[str]:
    known = sorted(set(splits["train"].labels or ()))
    if len(known) < 2:
        raise DataError(f"Two classes or more are needed, got only {', '.join(known)} in {splits['train'].name}.")
    for name, one in splits.items():
        unknown = [index for index, label in enumerate(one.labels or ()) if label not in known]
        if unknown and one.labels is not None:
            raise DataError(
                f"Every class must be seen in training, got {one.labels[unknown[0]]!r} only in {name} (first at "
                f"{one.where(unknown[0])}); add training sequences of it or drop those."
            )
    return known


def _scale_of_numbers(train: FrameSequences) -> Standardizer:
    assert train.numbers is not None, "only asked where there are numbers"
    if train.numbers.std() == 0:
        raise DataError(
            f"The numbers of the training sequences must vary, got {train.numbers[0]:g} throughout in {train.name}."
        )
    return Standardizer(mean=train.numbers.mean(keepdims=True), scale=train.numbers.std(keepdims=True))


def _encoded(one: FrameSequences, scaler: Standardizer, labels: list[str] | None) -> FramesSplit:
    targets = one.numbers if labels is None else np.array([labels.index(label) for label in one.labels or ()])
    assert targets is not None, "what is trained on has targets"
    frames = [scaler.apply(frames).astype(np.float32) for frames in one.frames]
    return FramesSplit(frames=frames, targets=targets)


def _fingerprint(one: FrameSequences) -> dict[str, Any]:
    digest = hashlib.sha256()
    targets = one.labels if one.labels is not None else one.numbers
    assert targets is not None, "what is trained on has targets"
    for target, frames in zip(targets, one.digests(), strict=True):
        digest.update(f"{target}\t{frames}\n".encode())
    return {
        "num_rows": len(one),
        "sha256": digest.hexdigest(),
        "rows": row_ranges(one.rows),
        "files": list(one.files),
    }
