from xml.etree import ElementTree

import numpy as np
import pytest

from regard.viewer.report.charts import (
    ColourScale,
    Line,
    Whisker,
    colour_bar,
    confusion_matrix,
    heat_map,
    interval_plot,
    label_bars,
    layer_panel,
    length_histogram,
    line_chart,
    reliability_diagram,
    sparkline,
)
from regard.viewer.report.charts.axis import Scale, nice_ticks
from regard.viewer.report.charts.colour import contrast_text, sequential
from regard.viewer.report.charts.svg import element

STEPS = np.arange(1.0, 11.0)


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_text_and_attributes_are_escaped():
    assert element("text", "<b>&", id='"><script>') == '<text id="&quot;&gt;&lt;script&gt;">&lt;b&gt;&amp;</text>'


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.93, 0.951), (-5, 5), (0, 12345), (1e-5, 1e-4)])
def test_ticks_are_few_round_and_inside(low, high):
    ticks = nice_ticks(low, high)

    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-12 <= tick <= high * (1 + 1e-9) for tick in ticks)


@pytest.mark.parametrize(("low", "high"), [(1e-6, 1e3), (0.3, 7.5), (0.2, 0.4), (0.97, 0.99), (1e-30, 1e30)])
def test_ticks_of_a_logarithmic_scale_are_few_and_inside(low, high):
    ticks = Scale(low=low, high=high, start=0, end=1, log=True).ticks(5)

    assert 2 <= len(ticks) <= 6
    assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in ticks)


def test_scale_maps_its_ends():
    scale = Scale(low=2, high=4, start=100, end=0)

    assert (scale(2), scale(3), scale(4)) == (100, 50, 0)


@pytest.mark.parametrize(
    "values", [STEPS, np.full(10, 2.0), np.zeros(10), np.full(10, np.nan), -STEPS], ids=["up", "flat", "0", "nan", "-"]
)
@pytest.mark.parametrize("log", [False, True])
def test_line_chart_draws_every_kind_of_curve(values, log):
    figure = line_chart([Line(name="a < b", x=STEPS, y=values, points=True)], title="t", log=log)

    assert "NaN" not in figure.svg
    assert "inf" not in figure.svg
    assert parsed(figure.svg).attrib["role"] == "img"


def test_line_breaks_at_a_missing_value():
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0])

    svg = line_chart([Line(name="loss", x=np.arange(5.0), y=values)], title="t").svg

    curve = next(node.attrib["d"] for node in parsed(svg) if node.attrib.get("class") == "line s1")
    assert curve.count("M") == 2
    assert "loss is not a number at 2" in svg


def test_curves_of_one_chart_are_named_in_its_legend():
    lines = [Line(name=name, x=STEPS, y=STEPS, style=name) for name in ("s1", "s2")]

    assert [key.name for key in line_chart(lines, title="t").legend] == ["s1", "s2"]


def test_heat_map_has_one_named_cell_per_head():
    values = np.arange(6.0).reshape(2, 3)
    values[1, 2] = np.nan

    svg = heat_map(values, scale=ColourScale(low=0, high=5), title="t", layers=["layer 0", "layer 1"], rows=["0", "1"])

    cells = [node for node in parsed(svg) if node.tag == "rect"]
    assert [cell[0].text for cell in cells][:2] == ["layer 0 head 0: 0", "layer 0 head 1: 1"]
    assert cells[-1][0].text == "layer 1 head 2: not recorded"
    assert cells[-1].attrib["class"] == "empty"
    assert float(cells[0].attrib["y"]) > float(cells[-1].attrib["y"])  # the lowest layer is at the bottom


def test_change_fades_to_nothing_around_zero():
    scale = ColourScale(low=-2, high=1, diverging=True)

    assert scale.paint(-2.0) == {"class_": "down", "fill_opacity": "1.00"}
    assert scale.paint(1.0) == {"class_": "up", "fill_opacity": "0.52"}
    assert scale.paint(0.0)["fill_opacity"] == "0.04"


def test_sequential_colours_grow_lighter_all_the_way():
    lightness = [contrast_weight(sequential(share)) for share in np.linspace(0, 1, 40)]

    assert (np.diff(lightness) > 0).all()


def contrast_weight(colour: str) -> float:
    return float(np.dot([int(colour[i : i + 2], 16) for i in (1, 3, 5)], [0.2126, 0.7152, 0.0722]))


def test_text_on_a_colour_is_the_one_that_reads():
    assert (contrast_text(sequential(0.0)), contrast_text(sequential(1.0))) == ("#fff", "#000")


def test_confusion_matrix_shows_every_count_and_its_meaning():
    svg = confusion_matrix([[8, 2], [0, 5]], ["a", "b"]).svg

    assert "<title>a taken for b: 2 of 10 (20.0\u00a0%)</title>" in svg
    assert "13 of 15 on the diagonal" in svg


def test_class_without_a_row_does_not_divide_by_zero():
    assert "0 of 0" in confusion_matrix([[0, 0], [0, 5]], ["a", "b"]).svg


def test_empty_bins_of_confidence_are_left_out():
    full = {"low": 0.5, "high": 1.0, "confidence": 0.9, "accuracy": 0.8, "count": 10}
    empty = {"low": 0.0, "high": 0.5, "confidence": None, "accuracy": None, "count": 0}

    svg = reliability_diagram([empty, full]).svg

    assert svg.count("confidence 90.0\u00a0%: 80.0\u00a0% right of 10 rows") == 3
    assert len([node for node in parsed(svg) if node.tag == "rect"]) == 3


def test_only_frequent_labels_are_drawn_and_the_rest_is_counted():
    figure = label_bars({"train": {f"label {number:02d}": 100 - number for number in range(30)}})

    assert "label 00" in figure.svg
    assert "label 29" not in figure.svg
    assert figure.note == "The 14 rarest of 30 labels are not drawn."


def test_histogram_ends_where_its_even_bins_end():
    lengths = {
        "train": {"edges": [0, 10, 20, 500], "counts": [5, 3, 1]},
        "test": {"edges": [0, 10, 20], "counts": [1, 1]},
    }

    svg = length_histogram(lengths, unit="tokens", marks={"median": 9, "cut at": 256}).svg

    assert "median 9" in svg
    assert "cut at 256" not in [node.text for node in parsed(svg)]


def test_bins_of_another_width_keep_their_scale():
    lengths = {"train": {"edges": [0, 10, 20], "counts": [5, 5]}, "test": {"edges": [0, 20], "counts": [7]}}

    drawn = parsed(length_histogram(lengths, unit="tokens", marks={}).svg)

    top_of_bars = {float(node.attrib["y"]) for node in drawn if node.tag == "rect"}
    (outline,) = (node.attrib["d"] for node in drawn if node.attrib.get("class") == "line s2")
    assert top_of_bars == {float(outline.split("L")[1].split("H")[0].split()[1])}


@pytest.mark.parametrize("draw", ["bar", "intervals", "panel", "spark"])
def test_small_drawings_are_well_formed(draw):
    values = np.array([[0.1, np.nan], [0.4, 0.2]])
    drawings = {
        "bar": lambda: colour_bar(ColourScale(low=0, high=0), unit="nats"),
        "intervals": lambda: interval_plot(
            [Whisker(name="<m>", value=0.5, low=None, high=None, style="s1")], title="t"
        ),
        "panel": lambda: layer_panel(
            np.array([1.0, 1.0]), values, title="t", y_range=(0.0, 0.0), strong=frozenset({1})
        ),
        "spark": lambda: sparkline(np.array([np.nan, np.nan]), title="t"),
    }

    assert parsed(drawings[draw]()).attrib["aria-label"]
