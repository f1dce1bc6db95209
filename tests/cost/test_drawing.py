"""A drawing is one well-formed SVG that says in words what it shows."""

import itertools
from xml.etree import ElementTree

import pytest

from regard._errors import ArgumentError
from regard.cost import Curve, Mark, draw_curves

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_power_laws_are_straight_and_labelled():
    lengths = [10, 100, 1000]
    curves = [Curve(name="n & n", x=lengths, y=lengths), Curve(name="n²", x=lengths, y=[n * n for n in lengths])]

    root = ElementTree.fromstring(draw_curves(curves, title="<Cost>", y_label="FLOP", marks=[Mark(x=100, text="here")]))

    assert root.find(f"{NAMESPACE}title").text == "<Cost>"
    assert "n & n from 10 at 10 to 1k at 1k" in root.find(f"{NAMESPACE}desc").text
    texts = [one.text for one in root.iter(f"{NAMESPACE}text")]
    assert {"n & n", "n²", "here", "FLOP", "length in tokens", "100k"} <= set(texts)
    for line in root.iter(f"{NAMESPACE}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        (x0, y0), (x1, y1), (x2, y2) = points
        assert (y1 - y0) / (x1 - x0) == pytest.approx((y2 - y1) / (x2 - x1), rel=0.01)


def test_points_that_have_no_logarithm_are_left_out():
    svg = draw_curves([Curve(name="a", x=[1, 2, 3], y=[0, 5, float("nan")])], title="t", y_label="y")

    assert svg.count("<circle") == 1
    with pytest.raises(ArgumentError, match="a point above 0"):
        draw_curves([Curve(name="a", x=[1], y=[0])], title="t", y_label="y")


def test_a_band_surrounds_its_curve_and_may_reach_down_to_nothing():
    curve = Curve(name="loss", x=[1, 2, 4], y=[3.0, 2.0, 1.0], low=[2.5, 1.0, -1.0], high=[3.5, 3.0, 3.0])

    root = ElementTree.fromstring(draw_curves([curve], title="t", y_label="y"))

    [line], [band] = (list(root.iter(f"{NAMESPACE}{kind}")) for kind in ("polyline", "polygon"))
    middle = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    ends = [tuple(map(float, point.split(","))) for point in band.attrib["points"].split()]
    for (x, y), high, low in zip(middle, ends[:3], reversed(ends[3:]), strict=True):
        assert high[0] == low[0] == x
        assert high[1] < y < low[1]  # an SVG counts downwards


@pytest.mark.parametrize(("low", "high"), [(2.55, 2.95), (3.1, 3.2), (1.0, 1.3), (0.41, 0.47)])
def test_an_axis_shorter_than_a_decade_still_has_ticks(low, high):
    svg = draw_curves([Curve(name="a", x=[1, 100], y=[low, high])], title="t", y_label="y")

    assert svg.count('class="g"') >= 3


def test_even_axes_show_what_is_below_zero():
    root = ElementTree.fromstring(
        draw_curves([Curve(name="wave", x=[-2, -1, 0, 1], y=[-1, 0, 1, 0])], title="t", y_label="y", log=False)
    )

    [line] = root.iter(f"{NAMESPACE}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    gaps = [after[0] - before[0] for before, after in itertools.pairwise(points)]
    assert gaps == pytest.approx([gaps[0]] * 3, abs=0.2)
    assert points[1][1] == points[3][1] == pytest.approx((points[0][1] + points[2][1]) / 2, abs=0.1)
    assert "-1" in [one.text for one in root.iter(f"{NAMESPACE}text")]
