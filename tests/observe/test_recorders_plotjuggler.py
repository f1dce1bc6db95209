"""Curves for PlotJuggler: a CSV that is whole at any time, Parquet, a layout of it, a stream."""

import csv
import io
import json
import math
import socket
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import duckdb
import numpy as np
import pytest
import torch
from torch import nn

from regard._errors import ArgumentError, RecordError
from regard.modules import MultiHeadAttention
from regard.observe import View, watch
from regard.observe.moments import Moments
from regard.observe.recorders import PlotJugglerRecorder, Recorder
from regard.observe.recorders.curves import CurveFile
from regard.observe.recorders.datagrams import DatagramStream

LAYERS, HEADS, STEPS = 3, 4, 5


class Stack(nn.Module):
    """Attention layers in a row."""

    def __init__(self, layers: int = LAYERS) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MultiHeadAttention(16, HEADS) for _ in range(layers))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            values = layer(values)
        return values


def watched(recorder: Recorder, **options: object) -> View:
    torch.manual_seed(0)
    model = Stack().eval()
    statistics = ["entropy", "max_weight"]
    with watch(model, statistics, recorder=recorder, **options) as view, torch.no_grad():  # type: ignore[arg-type]
        for _ in range(STEPS):
            model(torch.randn(2, 7, 16))
    return view


def of(*heads: float) -> Moments:
    """Return moments of one statistic, of one row a head; NaN is an empty row."""
    tensor = torch.tensor(heads, dtype=torch.float64)[None, None, :, None]
    counted = torch.ones(1, 1, 1, dtype=torch.bool)
    return Moments.of(tensor, counted, tensor[0].isnan(), num_all=1)


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def steps(path: Path) -> list[int]:
    return [int(row["t"]) for row in table(path)]


def column(path: Path, name: str) -> list[str]:
    return [row[name] for row in table(path)]


def drawn(path: Path) -> list[str]:
    return [curve.attrib["name"] for curve in ElementTree.fromstring(path.read_bytes()).iter("curve")]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        yield receiver


def address_of(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


def heard(listener: socket.socket) -> list[bytes]:
    packets = []
    while True:
        try:
            packets.append(listener.recv(65536))
        except BlockingIOError:
            return packets


# the recorder


def test_there_is_a_curve_per_layer_head_and_statistic_and_a_row_per_step(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        view = watched(recorder)
    path = tmp_path / "curves.csv"
    names = {f"layers/{layer}/head{head}/{name}" for layer in range(LAYERS) for head in range(HEADS)
             for name in ("entropy", "max_weight")}  # fmt: skip

    assert path.read_text(encoding="utf-8").startswith("t,")
    assert set(table(path)[0]) == {"t", *names}
    assert steps(path) == [1, 2, 3, 4, 5]
    for layer in range(LAYERS):
        for name in ("entropy", "max_weight"):
            over_steps = [
                np.mean([float(cell) for cell in column(path, f"layers/{layer}/head{head}/{name}")])
                for head in range(HEADS)
            ]
            np.testing.assert_allclose(over_steps, view[f"layers.{layer}"][name], rtol=1e-8)


def test_parquet_is_the_same_table_in_float32(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        watched(recorder, every={"max_weight": 2})
    rows = table(tmp_path / "curves.csv")
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT * FROM '{tmp_path / 'curves.parquet'}'")
        kinds = dict(zip(found.columns, map(str, found.types), strict=True))
        values = found.fetchall()

    assert kinds == {name: "INTEGER" if name == "t" else "FLOAT" for name in rows[0]}
    assert len(values) == STEPS
    for row, of_step in zip(rows, values, strict=True):
        for cell, value in zip(row.values(), of_step, strict=True):
            assert value is None if cell == "" else np.float32(cell) == np.float32(value)
    assert any(None in of_step for of_step in values)


def test_calls_of_a_step_and_layer_are_merged(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        recorder.add(1, "a.b", ("entropy",), of(1.0, 5.0))
        recorder.add(1, "a.b", ("entropy",), of(3.0, math.nan))

    assert table(tmp_path / "curves.csv") == [{"t": "1", "a/b/head0/entropy": "2", "a/b/head1/entropy": "5"}]


def test_a_step_is_written_when_the_next_begins_and_an_interrupted_file_opens(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    with PlotJugglerRecorder(tmp_path) as recorder:
        recorder.add(1, "a", ("entropy",), of(1.0))
        assert not path.exists()
        recorder.add(2, "a", ("entropy",), of(2.0))
        recorder.add(3, "a", ("entropy",), of(3.0))
        recorder._background.flush()
        assert steps(path) == [1, 2]
        assert not (tmp_path / "curves.parquet").exists()
        recorder.flush()
        assert steps(path) == [1, 2, 3]


def test_curves_that_come_later_widen_the_table_without_disturbing_it(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        recorder.add(1, "a", ("entropy",), of(1.0))
        recorder.add(2, "a", ("entropy",), of(2.0))
        recorder.add(2, "late, or so", ("entropy",), of(20.0))
        recorder.add(3, "a", ("distance",), of(0.5))

    assert table(tmp_path / "curves.csv") == [
        {"t": "1", "a/head0/entropy": "1", "late, or so/head0/entropy": "", "a/head0/distance": ""},
        {"t": "2", "a/head0/entropy": "2", "late, or so/head0/entropy": "20", "a/head0/distance": ""},
        {"t": "3", "a/head0/entropy": "", "late, or so/head0/entropy": "", "a/head0/distance": "0.5"},
    ]


def test_what_comes_late_stands_in_its_step_and_steps_stay_in_order(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        for step in (2, 3, 4):
            recorder.add(step, "a", ("entropy",), of(float(step)))
        recorder.add(2, "a", ("qk_gradient",), of(0.2))
        recorder.add(1, "a", ("entropy",), of(1.0))
        recorder.add(5, "a", ("entropy",), of(5.0))

    assert [list(row.values()) for row in table(tmp_path / "curves.csv")] == [
        ["1", "1", ""],
        ["2", "2", "0.2"],
        ["3", "3", ""],
        ["4", "4", ""],
        ["5", "5", ""],
    ]


def test_gradients_of_many_earlier_forwards_do_not_rewrite_the_table_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    rewrite = CurveFile._rewrite
    monkeypatch.setattr(CurveFile, "_rewrite", lambda self, **up_to: (written.append(1), rewrite(self, **up_to)))
    file = CurveFile(tmp_path / "curves.csv")
    for step in range(1, 1001):
        file.append(step, {"entropy": 1.0, "gradient": math.nan})
        file.append(max(1, step - 1), {"gradient": float(step)})
    file.settle()

    assert len(written) < 30
    assert column(tmp_path / "curves.csv", "gradient") == [str(step) for step in range(2, 1001)] + [""]


def test_a_head_without_rows_and_infinity_are_empty_cells(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        recorder.add(1, "a", ("headroom",), of(math.nan, math.inf, 4.5))

    assert list(table(tmp_path / "curves.csv")[0].values()) == ["1", "", "", "4.5"]


def test_the_model_itself_has_no_name_of_a_layer(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        recorder.add(1, "", ("entropy",), of(1.0))

    assert list(table(tmp_path / "curves.csv")[0]) == ["t", "head0/entropy"]
    assert drawn(tmp_path / "layout.xml") == ["head0/entropy"]


# going on


def test_a_resumed_run_appends(tmp_path: Path) -> None:
    for first in (1, 3):
        with PlotJugglerRecorder(tmp_path) as recorder:
            for step in (first, first + 1):
                recorder.add(step, "a", ("entropy",), of(float(step)))

    assert table(tmp_path / "curves.csv") == [{"t": f"{step}", "a/head0/entropy": f"{step}"} for step in (1, 2, 3, 4)]


def test_steps_that_a_resumed_run_repeats_are_replaced(tmp_path: Path) -> None:
    for first, value in ((1, 1.0), (3, 2.0)):
        with PlotJugglerRecorder(tmp_path) as recorder:
            for step in range(first, first + 4):
                recorder.add(step, "a", ("entropy",), of(value))
                recorder.add(step, f"only {value:g}", ("entropy",), of(value))
    path = tmp_path / "curves.csv"

    assert steps(path) == [1, 2, 3, 4, 5, 6]
    assert column(path, "a/head0/entropy") == ["1", "1", "2", "2", "2", "2"]
    assert column(path, "only 1/head0/entropy") == ["1", "1", "", "", "", ""]


def test_a_run_from_the_start_forgets_curves_that_do_not_come_again(tmp_path: Path) -> None:
    for layer in ("before", "now"):
        with PlotJugglerRecorder(tmp_path) as recorder:
            recorder.add(1, layer, ("entropy",), of(1.0))

    assert list(table(tmp_path / "curves.csv")[0]) == ["t", "now/head0/entropy"]
    assert drawn(tmp_path / "layout.xml") == ["now/head0/entropy"]


def test_a_row_that_a_kill_tore_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    path.write_text("t,a/head0/entropy\n1,1\n2,2\n3,", encoding="utf-8")
    with PlotJugglerRecorder(tmp_path) as recorder:
        recorder.add(4, "a", ("entropy",), of(4.0))

    assert path.read_text(encoding="utf-8") == "t,a/head0/entropy\n1,1\n2,2\n4,4\n"


def test_a_folder_without_steps_stays_empty(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path / "new" / "folder"):
        pass

    assert list((tmp_path / "new" / "folder").iterdir()) == []


# what cannot be


@pytest.mark.parametrize("content", ["", "step,loss\n1,2\n", "t,a", "\ufffd\x00"])
def test_another_file_of_that_name_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=r"only to a table whose first column is t, got .* in .*curves\.csv; move"):
        PlotJugglerRecorder(tmp_path)

    assert path.read_text(encoding="utf-8") == content


def test_rows_without_a_step_are_refused(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text("t,a\n0.1,2\n", encoding="utf-8")
    recorder = PlotJugglerRecorder(tmp_path)
    recorder.add(1, "a", ("entropy",), of(1.0))
    with pytest.raises(RecordError, match=r"rows begin with a step, got '0\.1,2'"):
        recorder.close()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ArgumentError, match=r"folder must be a folder or not be there yet, got .*file"):
        PlotJugglerRecorder(tmp_path / "file")


def test_half_a_row_on_a_full_disk_spoils_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.csv"
    file = CurveFile(path)
    file.append(1, {"a": 1.0})
    true_open = Path.open

    class FullDisk(io.FileIO):
        def write(self, content: object) -> int:
            if self.tell() > before + 1:
                raise OSError("No space left on device")
            return super().write(bytes(content)[:2])  # type: ignore[call-overload]

    before = path.stat().st_size
    monkeypatch.setattr(Path, "open", lambda self, mode="r", **_: FullDisk(str(self), mode))
    with pytest.raises(OSError, match="No space left"):
        file.append(2, {"a": 2.25})
    monkeypatch.setattr(Path, "open", true_open)
    assert path.read_text(encoding="utf-8") == "t,a\n1,1\n"

    file.append(3, {"a": 3.0})
    assert path.read_text(encoding="utf-8") == "t,a\n1,1\n2,2.25\n3,3\n"


# the layout


def test_the_layout_opens_the_file_with_the_entropy_of_every_layer(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        watched(recorder)
    root = ElementTree.fromstring((tmp_path / "layout.xml").read_bytes())
    plots = [[curve.attrib["name"] for curve in plot.iter("curve")] for plot in root.iter("plot")]
    opened = root.find("previouslyLoaded_Datafiles/fileInfo")

    assert plots == [
        [f"layers/{layer}/head{head}/entropy" for head in range(HEADS)] for layer in range(LAYERS)
    ]  # fmt: skip
    assert set(drawn(tmp_path / "layout.xml")) <= set(table(tmp_path / "curves.csv")[0])
    assert opened is not None
    assert opened.attrib["filename"] == "curves.csv"
    assert [each.attrib["time_axis"] for each in opened.iter("parameters")] == ["t"]


@pytest.mark.parametrize("layers", [1, 2, 5, 12, 13, 30])
def test_parts_of_the_layout_fit_together_for_any_number_of_layers(tmp_path: Path, layers: int) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        for layer in range(layers):
            recorder.add(1, f"layers.{layer}", ("entropy",), of(1.0, 2.0))
    root = ElementTree.fromstring((tmp_path / "layout.xml").read_bytes())

    for splitter in root.iter("DockSplitter"):
        assert int(splitter.attrib["count"]) == len(splitter) == len(splitter.attrib["sizes"].split(";"))
    assert len(list(root.iter("plot"))) == layers
    assert max(len(list(tab.iter("plot"))) for tab in root.iter("Tab")) <= 12


def test_without_entropy_the_layout_shows_the_first_statistic(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        recorder.add(1, "a", ("distance", "max_weight"), Moments.of(
            torch.ones(2, 1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, 1, dtype=torch.bool),
            num_all=1,
        ))  # fmt: skip

    assert drawn(tmp_path / "layout.xml") == ["a/head0/distance"]


def test_names_with_signs_of_xml_stay_well_formed(tmp_path: Path) -> None:
    with PlotJugglerRecorder(tmp_path) as recorder:
        recorder.add(1, 'a<b>&"c"', ("entropy",), of(1.0))

    assert drawn(tmp_path / "layout.xml") == ['a<b>&"c"/head0/entropy']


# the stream


def test_a_listener_gets_every_step_as_flat_json(tmp_path: Path, listener: socket.socket) -> None:
    with PlotJugglerRecorder(tmp_path, udp=address_of(listener)) as recorder:
        watched(recorder)
        recorder.flush()
    rows = table(tmp_path / "curves.csv")
    objects = [json.loads(packet) for packet in heard(listener)]

    assert [each["t"] for each in objects] == [1, 2, 3, 4, 5]
    assert objects == [{name: float(cell) for name, cell in row.items()} for row in rows]
    assert recorder.num_lost == 0


def test_a_step_that_one_datagram_cannot_hold_comes_in_several(listener: socket.socket) -> None:
    stream = DatagramStream(address_of(listener))
    curves = {f"layers/{at // 16}/attention/head{at % 16}/entropy": at + 0.5 for at in range(1000)}
    stream.send(7, curves)
    stream.close()
    stream.close()
    packets = heard(listener)
    objects = [json.loads(packet) for packet in packets]

    assert len(packets) > 3
    assert all(len(packet) <= 8192 for packet in packets)
    assert all(each["t"] == 7 for each in objects)
    assert {name: value for each in objects for name, value in each.items() if name != "t"} == curves


def test_what_json_lacks_is_left_out_of_the_stream(listener: socket.socket) -> None:
    stream = DatagramStream(address_of(listener))
    stream.send(1, {"a": math.nan, 'b "quoted"': 1e-30, "c": math.inf})
    stream.send(2, {"a": math.nan})
    stream.close()

    assert heard(listener) == [b'{"t":1,"b \\"quoted\\"":1e-30}']


def test_a_dead_listener_disturbs_nothing(tmp_path: Path, listener: socket.socket) -> None:
    address = address_of(listener)
    listener.close()
    with PlotJugglerRecorder(tmp_path, udp=address) as recorder:
        watched(recorder)

    assert steps(tmp_path / "curves.csv") == [1, 2, 3, 4, 5]


def test_what_the_machine_refuses_to_send_is_counted(tmp_path: Path, listener: socket.socket) -> None:
    with PlotJugglerRecorder(tmp_path, udp=address_of(listener)) as recorder:
        recorder._stream._socket.close()
        watched(recorder)
        recorder.flush()
        assert recorder.num_lost == STEPS

    assert steps(tmp_path / "curves.csv") == [1, 2, 3, 4, 5]


def test_the_live_layout_has_the_names_that_plotjuggler_gives_a_stream(tmp_path: Path, listener: socket.socket) -> None:
    with PlotJugglerRecorder(tmp_path, udp=address_of(listener)) as recorder:
        watched(recorder)
    root = ElementTree.fromstring((tmp_path / "layout_live.xml").read_bytes())

    assert drawn(tmp_path / "layout_live.xml") == [f"/{name}" for name in drawn(tmp_path / "layout.xml")]
    assert root.find("previouslyLoaded_Datafiles") is None
    assert not [area.attrib["name"] for area in root.iter("DockArea") if area.attrib["name"].startswith("/")]


@pytest.mark.parametrize("address", ["", "9870", "localhost", ":9870", "localhost:", "localhost:0", "a:70000", "a:-1"])
def test_a_wrong_address_is_one_sentence(tmp_path: Path, address: str) -> None:
    with pytest.raises(ArgumentError, match=r'^udp must be "host:port" with a port from 1 to 65535, got .*\.$'):
        PlotJugglerRecorder(tmp_path, udp=address)


def test_an_unknown_host_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        ArgumentError, match=r"host that is known here, got 'nowhere:9870': Name or service not known\.$"
    ):
        PlotJugglerRecorder(tmp_path, udp="nowhere:9870")


def test_a_full_queue_drops_what_is_sent_instead_of_waiting(listener: socket.socket) -> None:
    stream = DatagramStream(address_of(listener))
    assert not stream._socket.getblocking()
    stream.close()


def test_an_address_of_version_six_may_be_given() -> None:
    stream = DatagramStream("[::1]:9870")
    assert stream._socket.family == socket.AF_INET6
    stream.close()


def test_it_is_a_recorder_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    recorder = PlotJugglerRecorder(tmp_path)
    assert isinstance(recorder, Recorder)
    recorder.close()
    recorder.close()
