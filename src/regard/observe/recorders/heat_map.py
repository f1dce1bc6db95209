"""Draw a matrix as an image: a cell for each number, in a colour that a person can order."""

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError

__all__ = ["heat_map"]

# Viridis at equal distances: its lightness rises evenly, also in print and for people who see no red or no green.
_RAMP = ("440154", "482878", "3e4a89", "31688e", "26828e", "1f9e89", "35b779", "6dcd59", "b4de2c", "fde725")
_NOTHING = (160, 160, 160)  # grey is not on the ramp
_SIDE = 384  # pixels that the longer side is enlarged to


def heat_map(
    values: npt.NDArray[np.floating],
    *,
    low: float | None = None,
    high: float | None = None,
    cell: int = 1,
) -> npt.NDArray[np.uint8]:
    """Return the image of a matrix, (height, width, 3): dark blue for ``low``, over green, to yellow for ``high``.

    Cells are squares, enlarged as far as the longer side stays within 384 pixels. NaN is grey; what lies beyond the
    scale has the colour of its end.

    Args:
        values: (rows, columns); the first row is drawn at the top.
        low: the value of the darkest colour; None for the smallest finite one.
        high: the value of the brightest colour; None for the largest finite one.
        cell: side of a cell in pixels that it has at least, also where the image then grows beyond 384 pixels.

    Raises:
        ArgumentError: ``values`` is not a matrix, or is one without cells.

    Example:
        >>> heat_map(np.array([[0.0, 0.5], [1.0, np.nan]])).shape
        (384, 384, 3)
    """
    if values.ndim != 2 or not values.size:
        raise ArgumentError(f"A heat map needs a matrix with cells, got shape {values.shape}.")
    finite = values[np.isfinite(values)]
    low = float(finite.min(initial=np.inf)) if low is None else low
    high = float(finite.max(initial=-np.inf)) if high is None else high
    low, high = (low, high) if low <= high else (0.0, 1.0)  # nothing is finite
    share = np.clip((values - low) / (high - low or 1.0), 0.0, 1.0)
    unknown = np.isnan(values)
    colours = _ramp()[np.rint(np.where(unknown, 0.0, share) * 255.0).astype(np.intp)]
    colours[unknown] = _NOTHING
    side = max(cell, _SIDE // max(values.shape))
    return colours.repeat(side, axis=0).repeat(side, axis=1)


def _ramp() -> npt.NDArray[np.uint8]:
    """Return the 256 colours from the darkest to the brightest, (256, 3)."""
    stops = np.array([tuple(bytes.fromhex(stop)) for stop in _RAMP], dtype=np.float64)
    at = np.linspace(0.0, len(stops) - 1.0, 256)
    channels = [np.interp(at, np.arange(len(stops)), channel) for channel in stops.T]
    colours: npt.NDArray[np.uint8] = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return colours
