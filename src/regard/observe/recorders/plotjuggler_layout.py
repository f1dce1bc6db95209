"""The layout with which PlotJuggler opens the curves of a model: a plot a layer, a line a head."""

import math
from collections.abc import Sequence
from xml.etree import ElementTree

from regard.observe.recorders.curves import STEP_COLUMN

__all__ = ["layout"]

_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
_ACROSS, _DOWN = 3, 4  # plots of a tab
_WHOLE_STREAM = 1_000_000  # PlotJuggler takes what is beyond its largest buffer as one without a limit


def layout(curves: Sequence[str], *, data_file: str | None) -> bytes:
    """Return the XML that draws one statistic of every layer: ``entropy``, or else the first of which there are curves.

    Args:
        curves: ``layer/with/slashes/head0/statistic``, what there is to draw.
        data_file: the CSV to open, relative to the layout; None for a stream.
    """
    statistics = dict.fromkeys(curve.rpartition("/")[2] for curve in curves)
    statistic = "entropy" if "entropy" in statistics else next(iter(statistics), "")
    plots: dict[str, list[str]] = {}
    for curve in curves:
        rest, _, name = curve.rpartition("/")
        if name == statistic:
            plots.setdefault(rest.rpartition("/")[0], []).append(curve)

    root = ElementTree.Element("root")
    window = ElementTree.SubElement(root, "tabbed_widget", {"name": "Main Window", "parent": "main_window"})
    every = list(plots.items())
    for start in range(0, len(every), _ACROSS * _DOWN):
        of_tab = every[start : start + _ACROSS * _DOWN]
        title = statistic if len(of_tab) == len(every) else f"{statistic} {start + 1} to {start + len(of_tab)}"
        _add_tab(window, title, of_tab)
    ElementTree.SubElement(window, "currentTabIndex", index="0")
    ElementTree.SubElement(root, "use_relative_time_offset", enabled="0")  # the axis shows the step itself
    if data_file is None:
        ElementTree.SubElement(root, "streaming_buffer_size", value=str(_WHOLE_STREAM))
    else:
        files = ElementTree.SubElement(root, "previouslyLoaded_Datafiles")
        file = ElementTree.SubElement(files, "fileInfo", filename=data_file, prefix="")
        plugin = ElementTree.SubElement(file, "plugin", ID="DataLoad CSV")
        ElementTree.SubElement(plugin, "parameters", time_axis=STEP_COLUMN, delimiter="0", skip_rows="0")
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text


def _add_tab(window: ElementTree.Element, title: str, plots: Sequence[tuple[str, Sequence[str]]]) -> None:
    tab = ElementTree.SubElement(window, "Tab", tab_name=title, containers="1")
    container = ElementTree.SubElement(tab, "Container")
    across = min(_ACROSS, math.ceil(math.sqrt(len(plots))))
    rows = [plots[start : start + across] for start in range(0, len(plots), across)]
    column = _splitter(container, "-", len(rows))
    for row in rows:
        line = _splitter(column, "|", len(row))
        for layer, curves in row:
            area = ElementTree.SubElement(line, "DockArea", name=layer.strip("/") or "model")
            plot = ElementTree.SubElement(
                area, "plot", mode="TimeSeries", style="Lines", flip_x="false", flip_y="false"
            )
            for number, curve in enumerate(curves):
                ElementTree.SubElement(plot, "curve", name=curve, color=_COLORS[number % len(_COLORS)])


def _splitter(parent: ElementTree.Element, orientation: str, count: int) -> ElementTree.Element:
    sizes = ";".join([f"{1 / count:.6f}"] * count)
    return ElementTree.SubElement(parent, "DockSplitter", orientation=orientation, count=str(count), sizes=sizes)
