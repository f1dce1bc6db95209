"""Colours that mean a number: perceptually even, and told apart with any kind of colour vision.

Anchors of viridis (van der Walt and Smith 2015), with a linear mix between them. Changes have no map of their own: two
hues of the style sheet fade into the page around zero.
"""

import numpy as np

from regard.viewer.report.numbers import Number

__all__ = ["contrast_text", "sequential"]

_VIRIDIS = ("440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725")


def sequential(share: Number) -> str:
    """Return the colour of ``share`` (0 to 1, clipped) on viridis, dark for little."""
    return _mix(_VIRIDIS, share)


def contrast_text(colour: str) -> str:
    """Return black or white, whichever reads better on ``colour`` ("#rrggbb")."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    # Equal contrast with black and with white lies at a relative luminance of about 0.179 (WCAG 2).
    return "#000" if linear @ np.array([0.2126, 0.7152, 0.0722]) > 0.179 else "#fff"


def _mix(anchors: tuple[str, ...], share: Number) -> str:
    table = np.array([[int(anchor[i : i + 2], 16) for i in (0, 2, 4)] for anchor in anchors], dtype=np.float64)
    place = float(np.clip(share, 0, 1)) * (len(anchors) - 1)
    low = min(int(place), len(anchors) - 2)
    red, green, blue = np.round(table[low] + (place - low) * (table[low + 1] - table[low])).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
