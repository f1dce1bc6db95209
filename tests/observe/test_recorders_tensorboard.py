"""What TensorBoard reads back is what was watched."""

import io
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from regard._errors import ArgumentError, DtypeError, MissingDependencyError, RecordError
from regard.functional import COLUMN_STATISTICS, ROW_STATISTICS
from regard.modules import MultiHeadAttention
from regard.observe import View, watch
from regard.observe.moments import Moments
from regard.observe.recorders import Recorder
from regard.observe.recorders.heat_map import heat_map
from regard.observe.recorders.tensorboard import TensorBoardRecorder

LAYERS, HEADS, STEPS = 3, 12, 4
GREY = (160, 160, 160)


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MultiHeadAttention(48, HEADS) for _ in range(LAYERS))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            values = layer(values)
        return values


def watched(folder: Path, **options: object) -> tuple[View, dict[tuple[int, str, str], list[float]]]:
    """Watch a few steps; return the view and (step, layer, statistic) -> the means of the heads."""
    seen: dict[tuple[int, str, str], list[float]] = {}

    class Beside:
        def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
            for name, row in zip(statistics, moments.mean.tolist(), strict=True):
                seen[step, layer, name] = row

        def flush(self) -> None: ...

        def close(self) -> None: ...

    model = Stack().eval()
    recorder = TensorBoardRecorder(folder, **options)  # type: ignore[arg-type]
    with (
        recorder,
        watch(model, ["entropy", "max_weight", "received_gini"], recorder=[recorder, Beside()]) as view,
        torch.no_grad(),
    ):
        for _ in range(STEPS):
            model(torch.randn(2, 7, 48))
    return view, seen


def of(*heads: list[float]) -> Moments:
    """Return moments of one statistic: a list of row values for each head; NaN rows are empty."""
    tensor = torch.tensor(heads, dtype=torch.float64)[None, None]
    counted = torch.ones(1, 1, tensor.shape[-1], dtype=torch.bool)
    return Moments.of(tensor, counted, tensor[0].isnan(), num_all=tensor.shape[-1])


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "histograms", "images"), 0))
    return events.Reload()


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def test_it_is_a_recorder(tmp_path):
    with TensorBoardRecorder(tmp_path) as recorder:
        assert isinstance(recorder, Recorder)


def test_scalars_are_the_mean_of_every_head_at_every_step(tmp_path):
    _, seen = watched(tmp_path)
    events = read(tmp_path)

    names = ("entropy", "max_weight", "received_gini")
    layers = [f"layers.{layer}" for layer in range(LAYERS)]
    assert sorted(events.Tags()["scalars"]) == sorted(
        f"{name}/{layer}/head{head}" for name in names for layer in layers for head in range(HEADS)
    )
    for name in names:
        for layer in layers:
            for head in range(HEADS):
                points = events.Scalars(f"{name}/{layer}/head{head}")
                assert [point.step for point in points] == [1, 2, 3, 4]
                wanted = [seen[step, layer, name][head] for step in range(1, STEPS + 1)]
                np.testing.assert_allclose([point.value for point in points], wanted, rtol=1e-7)


def test_histograms_hold_the_means_of_the_heads(tmp_path):
    _, seen = watched(tmp_path)
    points = read(tmp_path).Histograms("entropy/layers.1")

    assert [point.step for point in points] == [1, 2, 3, 4]
    for point in points:
        of_heads, told = np.array(seen[point.step, "layers.1", "entropy"]), point.histogram_value
        assert (told.num, told.min, told.max) == (HEADS, of_heads.min(), of_heads.max())
        np.testing.assert_allclose([told.sum, told.sum_squares], [of_heads.sum(), (of_heads**2).sum()], rtol=1e-12)
        below = [np.sum(of_heads <= limit) for limit in told.bucket_limit]
        assert np.cumsum(told.bucket).tolist() == below
        assert below[-1] == HEADS


@pytest.mark.parametrize("values", [[2.5], [3.0, 3.0], [1e8, 1e8 + 2e-8], [-1.0, 0.0, 1.0]])
def test_a_histogram_of_few_or_equal_values_counts_them_all(values, tmp_path):
    with TensorBoardRecorder(tmp_path) as recorder:
        recorder.add(1, "a", ("max_score",), of(*([value] for value in values)))
    (point,) = read(tmp_path).Histograms("max_score/a")
    told = point.histogram_value

    assert np.cumsum(told.bucket).tolist() == [np.sum(np.array(values) <= limit) for limit in told.bucket_limit]
    assert (np.diff(told.bucket_limit) > 0).all()
    assert told.bucket_limit[-1] == told.max == max(values)


def test_histograms_may_be_left_out(tmp_path):
    watched(tmp_path, histograms=False, images_every=0)
    tags = read(tmp_path).Tags()

    assert (tags["histograms"], tags["images"]) == ([], [])
    assert len(tags["scalars"]) == 3 * LAYERS * HEADS


def test_an_image_has_a_row_a_layer_and_a_column_a_head(tmp_path):
    _, seen = watched(tmp_path, images_every=2)
    events = read(tmp_path)

    assert sorted(events.Tags()["images"]) == ["heads/entropy", "heads/max_weight", "heads/received_gini"]
    for name, scale in (("entropy", {}), ("max_weight", {"low": 0.0, "high": 1.0})):
        images = events.Images(f"heads/{name}")
        assert [image.step for image in images] == [1, 3]
        for image in images:
            assert (image.width, image.height) == (HEADS * 32, LAYERS * 32)
            grid = np.array([seen[image.step, f"layers.{layer}", name] for layer in range(LAYERS)])
            np.testing.assert_array_equal(pixels(image.encoded_image_string), heat_map(grid, **scale))


def test_what_lies_between_0_and_1_is_coloured_on_that_scale_and_nothing_else(tmp_path):
    names = (*ROW_STATISTICS, *COLUMN_STATISTICS, "padding_mass", "output_norm", "qk_gradient", "output_diversity")
    with TensorBoardRecorder(tmp_path) as recorder:
        for name in names:
            recorder.add(1, "a", (name,), of([0.25], [0.5]))
    events = read(tmp_path)
    fixed, stretched = heat_map(np.array([[0.25, 0.5]]), low=0.0, high=1.0), heat_map(np.array([[0.25, 0.5]]))
    drawn = {name: pixels(events.Images(f"heads/{name}")[0].encoded_image_string) for name in names}

    within = {name for name in names if np.array_equal(drawn[name], fixed)}
    assert all(np.array_equal(drawn[name], stretched) for name in set(names) - within)
    assert within == {
        *("normalized_entropy", "collision", "max_weight", "first_mass", "self_mass", "previous_mass"),
        *("saturated_share", "first_contribution", "received_gini", "heavy_hitter_mass"),
        *("padding_mass", "output_diversity"),
    }


def test_layers_keep_their_row_in_the_order_of_their_numbers(tmp_path):
    with TensorBoardRecorder(tmp_path, images_every=1) as recorder:
        for layer in (10, 2, 1):  # gradients come from the last layer to the first
            recorder.add(1, f"layer.{layer}", ("first_mass",), of([layer / 10]))
        recorder.add(2, "layer.2", ("first_mass",), of([0.2], [0.3]))
    first, second = (pixels(one.encoded_image_string) for one in read(tmp_path).Images("heads/first_mass"))

    np.testing.assert_array_equal(first, heat_map(np.array([[0.1], [0.2], [1.0]]), low=0.0, high=1.0))
    nothing = [math.nan, math.nan]
    np.testing.assert_array_equal(second, heat_map(np.array([nothing, [0.2, 0.3], nothing]), low=0.0, high=1.0))


def test_cells_of_many_heads_stay_large_enough_to_be_read(tmp_path):
    with TensorBoardRecorder(tmp_path) as recorder:
        recorder.add(1, "a", ("entropy",), of(*([float(head)] for head in range(96))))
    (image,) = read(tmp_path).Images("heads/entropy")

    assert (image.width, image.height) == (96 * 8, 8)


def test_a_statistic_with_an_interval_of_its_own_is_drawn_all_the_same(tmp_path):
    with TensorBoardRecorder(tmp_path, images_every=4) as recorder:
        for step in range(1, 14):
            recorder.add(step, "a", ("entropy",), of([1.0]))
            if step % 3 == 1:
                recorder.add(step, "a", ("distance",), of([1.0]))
    events = read(tmp_path)

    assert [image.step for image in events.Images("heads/entropy")] == [1, 5, 9, 13]
    assert [image.step for image in events.Images("heads/distance")] == [1, 7, 13]


def test_a_head_without_rows_is_no_point_and_a_grey_cell(tmp_path):
    with TensorBoardRecorder(tmp_path) as recorder:
        recorder.add(1, "a", ("first_mass",), of([0.5], [math.nan], [1.0]))
        recorder.add(1, "b", ("headroom",), of([math.inf], [2.0], [math.nan]))
        recorder.add(1, "c", ("entropy",), of([math.nan]))
    events = read(tmp_path)

    assert sorted(events.Tags()["scalars"]) == [
        *("first_mass/a/head0", "first_mass/a/head2", "headroom/b/head0", "headroom/b/head1"),
    ]
    assert {tag: events.Histograms(tag)[0].histogram_value.num for tag in events.Tags()["histograms"]} == {
        "first_mass/a": 2,
        "headroom/b": 1,
    }
    (image,) = events.Images("heads/first_mass")
    assert [tuple(pixels(image.encoded_image_string)[0, 128 * head]) == GREY for head in range(3)] == [
        False,
        True,
        False,
    ]


def test_calls_of_one_step_are_one_point_and_late_ones_have_their_own_step(tmp_path):
    with TensorBoardRecorder(tmp_path) as recorder:
        recorder.add(1, "a", ("entropy",), of([1.0]))
        recorder.add(1, "a", ("entropy",), of([2.0, 6.0]))
        recorder.add(2, "a", ("entropy",), of([5.0]))
        recorder.add(1, "a", ("qk_gradient",), of([7.0]))
    events = read(tmp_path)

    assert [(point.step, point.value) for point in events.Scalars("entropy/a/head0")] == [(1, 3.0), (2, 5.0)]
    assert [(point.step, point.value) for point in events.Scalars("qk_gradient/a/head0")] == [(1, 7.0)]


def test_a_model_that_is_itself_the_layer_has_tags_without_a_gap(tmp_path):
    with TensorBoardRecorder(tmp_path) as recorder:
        recorder.add(1, "", ("entropy",), of([1.0]))
    tags = read(tmp_path).Tags()

    assert (tags["scalars"], tags["histograms"], tags["images"]) == (["entropy/head0"], ["entropy"], ["heads/entropy"])


def test_an_interrupted_run_opens_up_to_the_last_flush(tmp_path):
    recorder = TensorBoardRecorder(tmp_path)
    for step in (1, 2, 3):
        recorder.add(step, "a", ("entropy",), of([1.0]))
    recorder.flush()
    recorder.add(4, "a", ("entropy",), of([2.0]))
    found = [point.step for point in read(tmp_path).Scalars("entropy/a/head0")]
    recorder.close()

    assert found == [1, 2, 3]
    assert [point.step for point in read(tmp_path).Scalars("entropy/a/head0")] == [1, 2, 3, 4]


def test_a_run_that_goes_on_adds_to_its_folder(tmp_path):
    for step in (1, 2):
        with TensorBoardRecorder(tmp_path) as recorder:
            recorder.add(step, "a", ("entropy",), of([1.0]))

    assert [point.step for point in read(tmp_path).Scalars("entropy/a/head0")] == [1, 2]


def test_a_run_that_goes_on_earlier_replaces_what_came_after(tmp_path):
    for start, stop, value in ((1, 6, 1.0), (3, 5, 2.0)):
        with TensorBoardRecorder(tmp_path, images_every=1, purge_step=start) as recorder:
            for step in range(start, stop):
                recorder.add(step, "a", ("entropy",), of([value]))
    events = read(tmp_path)

    points = [(point.step, point.value) for point in events.Scalars("entropy/a/head0")]
    assert points == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert [point.step for point in events.Histograms("entropy/a")] == [1, 2, 3, 4]
    assert [image.step for image in events.Images("heads/entropy")] == [1, 2, 3, 4]


def test_a_small_map_is_shown_cell_by_cell(tmp_path):
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0]])
    with TensorBoardRecorder(tmp_path) as recorder:
        recorder.maps(3, "a", 11, weights)
    (image,) = read(tmp_path).Images("maps/a/head11")

    assert (image.step, image.width, image.height) == (3, 384, 256)
    np.testing.assert_array_equal(pixels(image.encoded_image_string), heat_map(weights.numpy(), low=0.0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_large_map_is_averaged_down_by_blocks(dtype, tmp_path):
    weights = torch.rand(300, 515, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    with TensorBoardRecorder(tmp_path) as recorder:
        recorder.maps(1, "a", 0, weights)
    (image,) = read(tmp_path).Images("maps/a/head0")
    drawn = pixels(image.encoded_image_string)

    values = weights.detach().double().numpy()
    blocks = [
        [values[row : row + 3, column : column + 3].mean() for column in range(0, 515, 3)] for row in range(0, 300, 3)
    ]
    wanted = heat_map(np.array(blocks), low=0.0)
    assert drawn.shape == wanted.shape == (100 * 2, 172 * 2, 3)
    # float32 sums may round a cell to the neighbouring one of 256 colours
    assert np.abs(drawn.astype(int) - wanted).max() <= 3


def test_maps_of_a_view_go_there_as_they_are(tmp_path):
    layer = MultiHeadAttention(16, 4)
    with TensorBoardRecorder(tmp_path) as recorder, watch(layer, ["entropy"], keep=True) as view:
        layer(torch.randn(2, 7, 16))
        recorder.maps(view.step, "", 2, view.weights("", 2))
    (image,) = read(tmp_path).Images("maps/head2")

    assert (image.step, image.width, image.height) == (1, 54 * 7, 54 * 7)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 3), (0, 3)])
def test_a_map_that_is_no_matrix_is_refused(shape, tmp_path):
    with (
        TensorBoardRecorder(tmp_path) as recorder,
        pytest.raises(ArgumentError, match=r"weights must be a matrix \(queries, keys\), got shape"),
    ):
        recorder.maps(1, "a", 0, torch.zeros(shape))


def test_a_map_of_whole_numbers_is_refused(tmp_path):
    with (
        TensorBoardRecorder(tmp_path) as recorder,
        pytest.raises(DtypeError, match=r"floating type, got torch\.int64"),
    ):
        recorder.maps(1, "a", 0, torch.ones(2, 2, dtype=torch.int64))


def test_a_closed_recorder_takes_nothing_more(tmp_path):
    recorder = TensorBoardRecorder(tmp_path)
    recorder.close()
    recorder.close()
    with pytest.raises(RecordError, match="closed TensorBoardRecorder"):
        recorder.maps(1, "a", 0, torch.ones(2, 2))


def test_a_negative_interval_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="images_every must be a number of steps, or 0 for no images, got -1"):
        TensorBoardRecorder(tmp_path, images_every=-1)


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "regard\[tensorboard\]"'):
        TensorBoardRecorder(tmp_path)


def test_importing_the_room_imports_no_tensorboard():
    code = "import sys; import regard.observe; assert not [n for n in sys.modules if n.startswith('tensorboard')]"
    subprocess.run([sys.executable, "-c", code], check=True)
