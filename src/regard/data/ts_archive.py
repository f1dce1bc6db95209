"""The ``.ts`` files of the archives of time series: a header of tags, then a sequence a line.

References:
    Bagnall et al., The UEA multivariate time series classification archive, arXiv:1811.00075; Tan et al., Time series
    extrinsic regression, arXiv:2006.10996.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError
from regard.data._suggest import listed
from regard.data.frame_sequences import TARGETS, FrameSequences
from regard.data.text_files import read_text

__all__ = ["load_ts"]

_TAGS = (
    "problemname", "timestamps", "missing", "univariate", "dimensions", "dimension", "equallength", "serieslength",
    "classlabel", "targetlabel",
)  # fmt: skip
_YES = {"true": True, "false": False}

_Floats = npt.NDArray[np.float64]


@dataclass
class _Header:
    """What the tags said."""

    classes: tuple[str, ...] | None = None
    has_class: bool = False
    has_number: bool = False
    num_channels: int | None = None
    length: int | None = None

    @property
    def has_target(self) -> bool:
        """Whether the last field of a line is no channel."""
        return self.has_class or self.has_number


def load_ts(path: str | Path, *, target: str | None = None) -> FrameSequences:
    """Read a ``.ts`` file, compressed or not.

    Lines that begin with ``#`` are comments, those with ``@`` tags; after ``@data`` each line is a sequence: its
    channels parted by colons, the values of a channel by commas, the class or number last.

    Args:
        path: the file.
        target: ``"class"`` or ``"number"``, what the sequences are asked for; None where they are to be asked, and a
            target that stands in the file is not looked at.

    Raises:
        DataError: the file is missing or damaged, its tags contradict each other or the data, it holds another target,
            or a value is missing or no finite number. Line, channel and frame are named.
        ArgumentError: an unknown target.
    """
    if target is not None and target not in TARGETS:
        raise ArgumentError(f"target must be one of {', '.join(TARGETS)} or None, got {target!r}.")
    path = Path(path)
    lines = _lines(read_text(path))
    header = _header(lines, path)
    if target is not None:
        _check_target(header, target, path)
    found = [(line, *_sequence(text, header, f"{path} line {line}")) for line, text in lines]
    if not found:
        raise DataError(f"A data set needs at least one sequence, got no line after @data in {path}.")
    _check_channels([(line, frames) for line, frames, _ in found], path)
    return FrameSequences(
        frames=tuple(frames for _, frames, _ in found),
        labels=tuple(_class(text, header, f"{path} line {line}") for line, _, text in found)
        if target == "class"
        else None,
        numbers=np.array([_finite(text, f"The number of a sequence at {path} line {line}") for line, _, text in found])
        if target == "number"
        else None,
        channels=tuple(f"channel {number + 1}" for number in range(found[0][1].shape[1])),
        names=tuple(f"line {line}" for line, _, _ in found),
        rows=tuple(line for line, _, _ in found),
        name=path.name,
        files=(str(path),),
    )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that say something, with their numbers."""
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            yield number, stripped


def _header(lines: Iterator[tuple[int, str]], path: Path) -> _Header:
    """Read the tags up to ``@data``."""
    header = _Header()
    for number, line in lines:
        where = f"{path} line {number}"
        if not line.startswith("@"):
            raise DataError(f"The tags of a .ts file must end with @data, got {line[:40]!r} before it at {where}.")
        name, *values = line[1:].split()
        if name.lower() == "data":
            return header
        if name.lower() not in _TAGS:
            raise DataError(f"A tag must be one of {', '.join(_TAGS)} or data, got @{name} at {where}; mend the file.")
        _take_tag(header, name.lower(), values, where)
    raise DataError(f"A .ts file must have a line @data before its sequences, got none in {path}; check the file.")


def _take_tag(header: _Header, name: str, values: Sequence[str], where: str) -> None:
    if name in ("dimensions", "dimension", "serieslength"):
        size = _size(values, name, where)
        if name == "serieslength":
            header.length = size
        else:
            header.num_channels = size
    elif name != "problemname":
        yes = _YES.get(values[0].lower()) if values else None
        if yes is None:
            raise DataError(f"The tag @{name} must say true or false, got {' '.join(values)!r} at {where}.")
        if name == "timestamps" and yes:
            raise DataError(f"Frames must follow at one step, got @timestamps true at {where}; leave the times out.")
        if name == "univariate" and yes:
            header.num_channels = 1
        if name == "classlabel":
            header.has_class, header.classes = yes, tuple(values[1:]) or None
        if name == "targetlabel":
            header.has_number = yes


def _size(values: Sequence[str], name: str, where: str) -> int:
    if len(values) != 1 or not values[0].isdecimal() or int(values[0]) < 1:
        raise DataError(f"The tag @{name} must be a whole number of at least 1, got {' '.join(values)!r} at {where}.")
    return int(values[0])


def _check_target(header: _Header, target: str, path: Path) -> None:
    has = {"class": header.has_class, "number": header.has_number}
    if has[target]:
        return
    other = "number" if target == "class" else "class"
    got = (
        f"a {other}: ask for that, with model.target={other}"
        if has[other]
        else "neither: add @classLabel or @targetLabel"
    )
    raise DataError(f"{path} must hold the {target} of each sequence, got {got}.")


def _sequence(text: str, header: _Header, where: str) -> tuple[_Floats, str]:
    """Return the frames of a line and the text of its target."""
    fields = text.split(":")
    target = fields.pop().strip() if header.has_target else ""
    if not fields:
        raise DataError(
            f"A sequence must have a channel and a target, parted by a colon, got {text[:40]!r} at {where}."
        )
    if header.num_channels is not None and len(fields) != header.num_channels:
        raise DataError(f"Each sequence must have {header.num_channels} channels, got {len(fields)} at {where}.")
    channels = [_channel(values, f"channel {number + 1}", where) for number, values in enumerate(fields)]
    lengths = {len(one) for one in channels}
    if len(lengths) > 1:
        raise DataError(
            f"The channels of a sequence must have the same frames, got {sorted(lengths)} at {where}; mend the line."
        )
    if header.length is not None and lengths != {header.length}:
        raise DataError(
            f"Each sequence must have {header.length} frames, as @seriesLength says, got {lengths.pop()} at {where}."
        )
    return np.array(channels, dtype=np.float64).T.copy(), target


def _channel(text: str, channel: str, where: str) -> list[float]:
    return [
        _finite(value, f"Frame {frame} of {channel} at {where}") for frame, value in enumerate(text.split(","), start=1)
    ]


def _finite(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{what} must be a finite number, got {text.strip()!r}; fill the gap or leave the sequence out."
        )
    return number


def _class(text: str, header: _Header, where: str) -> str:
    if not text:
        raise DataError(f"Each sequence must have a class behind its last colon, got none at {where}.")
    if header.classes is not None and text not in header.classes:
        raise DataError(
            f"A class must be one of those of @classLabel, {listed(header.classes)}, got {text!r} at {where}."
        )
    return text


def _check_channels(found: Sequence[tuple[int, _Floats]], path: Path) -> None:
    first, expected = found[0][0], found[0][1].shape[1]
    for line, frames in found:
        if frames.shape[1] != expected:
            raise DataError(
                f"Each sequence must have {expected} channels, as that of line {first} has, got {frames.shape[1]} at "
                f"{path} line {line}."
            )
