"""Inline SVG charts: each a function from numbers to markup that reads in light, in dark, on paper and aloud."""

from regard.viewer.report.charts.bars import label_bars, length_histogram
from regard.viewer.report.charts.confusion import MAX_CLASSES, confusion_matrix
from regard.viewer.report.charts.heatmap import ColourScale, colour_bar, heat_map
from regard.viewer.report.charts.intervals import Whisker, interval_plot
from regard.viewer.report.charts.lines import Line, line_chart
from regard.viewer.report.charts.reliability import reliability_diagram
from regard.viewer.report.charts.svg import Figure, Key, Raw
from regard.viewer.report.charts.trajectories import layer_panel, sparkline

__all__ = [
    "MAX_CLASSES",
    "ColourScale",
    "Figure",
    "Key",
    "Line",
    "Raw",
    "Whisker",
    "colour_bar",
    "confusion_matrix",
    "heat_map",
    "interval_plot",
    "label_bars",
    "layer_panel",
    "length_histogram",
    "line_chart",
    "reliability_diagram",
    "sparkline",
]
