"""A matrix becomes an image that says what the matrix says."""

import numpy as np
import pytest

from regard._errors import ArgumentError
from regard.observe.recorders.heat_map import heat_map

DARKEST, BRIGHTEST, GREY = (0x44, 0x01, 0x54), (0xFD, 0xE7, 0x25), (160, 160, 160)


def lightness(colours: np.ndarray) -> np.ndarray:
    """CIE 1976 L* of sRGB colours (..., 3)."""
    share = colours / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > (6 / 29) ** 3, 116 * np.cbrt(luminance) - 16, luminance * (29 / 3) ** 3)


def test_larger_values_are_lighter_and_equal_steps_look_alike():
    image = heat_map(np.linspace(0.0, 1.0, 256)[None])
    steps = np.diff(lightness(image[0]))

    assert image.shape == (1, 256, 3)
    assert np.all(steps > -0.35)  # colours are whole numbers
    coarse = np.diff(lightness(image[0, ::15]))
    assert np.all(coarse > 0)
    assert coarse.max() < 2.5 * coarse.min()


def test_cells_are_enlarged_squares_in_the_order_of_the_matrix():
    image = heat_map(np.array([[0.0, 0.25, 1.0], [1.0, 0.5, 0.0]]))

    assert image.shape == (2 * 128, 3 * 128, 3)
    assert image.dtype == np.uint8
    cells = image.reshape(2, 128, 3, 128, 3)
    assert (cells == cells[:, :1, :, :1]).all()
    assert tuple(cells[0, 0, 0, 0]) == tuple(cells[1, 0, 2, 0]) == DARKEST
    assert tuple(cells[0, 0, 2, 0]) == tuple(cells[1, 0, 0, 0]) == BRIGHTEST


def test_a_cell_is_never_smaller_than_asked_for():
    assert heat_map(np.zeros((96, 64)), cell=8).shape == (768, 512, 3)
    assert heat_map(np.zeros((500, 20))).shape == (500, 20, 3)


def test_a_fixed_scale_gives_a_value_the_same_colour_in_every_image():
    one = heat_map(np.array([[0.3, 0.4]]), low=0.0, high=1.0)
    other = heat_map(np.array([[0.9, 0.4]]), low=0.0, high=1.0)

    assert (one[:, -1] == other[:, -1]).all()
    assert tuple(heat_map(np.array([[0.3, 0.4]]))[0, -1]) == BRIGHTEST


def test_what_is_not_known_is_grey_and_does_not_move_the_scale():
    image = heat_map(np.array([[np.nan, 2.0, 4.0, np.inf, -np.inf]]))
    colours = [tuple(image[0, column * 76]) for column in range(5)]

    assert colours == [GREY, DARKEST, BRIGHTEST, BRIGHTEST, DARKEST]


@pytest.mark.parametrize(("value", "colour"), [(np.nan, GREY), (3.0, DARKEST), (np.inf, BRIGHTEST), (-np.inf, DARKEST)])
def test_a_matrix_of_one_value_has_one_colour(value, colour):
    assert {tuple(pixel) for pixel in heat_map(np.full((2, 2), value)).reshape(-1, 3)} == {colour}


@pytest.mark.parametrize("shape", [(3,), (0, 3), (1, 2, 3)])
def test_what_is_no_matrix_is_refused(shape):
    with pytest.raises(ArgumentError, match=r"needs a matrix with cells, got shape \("):
        heat_map(np.zeros(shape))
