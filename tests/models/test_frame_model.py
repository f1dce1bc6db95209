"""A model of frames: no padding changes what it says, and each architecture has the same size."""

import pytest
import torch

import regard
from regard import RegardError
from regard.models import (
    FrameConfig,
    FrameModel,
    count_parameters,
    load_forecaster,
    load_frame_model,
    save_frame_model,
)
from regard.train.frames.config import FramesModel
from regard.train.frames.model import new_frame_model

KINDS = [
    ("transformer", "sinusoidal"),
    ("transformer", "rotary"),
    ("transformer", "none"),
    ("gru", "sinusoidal"),
    ("lstm", "sinusoidal"),
]


def made(architecture="transformer", positions="sinusoidal", patch_len=1, **changes):
    sizes = {"num_channels": 3, "num_outputs": 5, "embed_dim": 16, "feed_forward_dim": 24, **changes}
    return FrameModel(FrameConfig(architecture=architecture, positions=positions, patch_len=patch_len, **sizes)).eval()


@pytest.mark.parametrize("patch_len", [1, 4])
@pytest.mark.parametrize(("architecture", "positions"), KINDS)
def test_padding_changes_no_output_wherever_it_stands(architecture, positions, patch_len):
    model = made(architecture, positions, patch_len)
    lengths = [1, 4, 7, 13]
    rows = [torch.randn(length, 3) for length in lengths]
    alone = torch.cat([model(row[None]) for row in rows])
    for place in ("right", "left", "between"):
        padded = torch.full((4, 13, 3), float("nan"))
        mask = torch.zeros(4, 13, dtype=torch.bool)
        for index, row in enumerate(rows):
            where = torch.randperm(13)[: len(row)].sort().values if place == "between" else torch.arange(len(row))
            where = where + 13 - len(row) if place == "left" else where
            padded[index, where], mask[index, where] = row, True
        torch.testing.assert_close(model(padded, mask), alone, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(padded, mask.long()), alone, rtol=0, atol=1e-5)


def test_positions_tell_the_order_and_without_them_it_is_lost():
    frames = torch.randn(2, 9, 3)
    for architecture, positions in KINDS:
        model = made(architecture, positions)
        moved = (model(frames) - model(frames.flip(1))).abs().max().item()
        if positions == "none":
            assert moved < 1e-5
        elif architecture == "transformer":
            assert moved > 1e-3


def test_patches_shorten_the_sequence():
    model = made(patch_len=4)
    assert [model.config.num_patches(length) for length in (1, 4, 5, 8)] == [1, 1, 2, 2]
    seen = []
    model.encoder.register_forward_hook(lambda _, arguments, __: seen.append(arguments[0].shape))
    model(torch.randn(2, 9, 3))
    assert seen == [(2, 3, 16)]


def test_gradients_of_padding_are_zero():
    frames = torch.randn(2, 6, 3, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    made()(frames, mask).sum().backward()

    assert frames.grad[0, 4:].abs().max() == 0
    assert frames.grad[0, :4].abs().min(1).values.min() > 0


@pytest.mark.parametrize("architecture", ["gru", "lstm"])
@pytest.mark.parametrize("num_channels", [1, 12])
def test_a_recurrent_model_has_the_parameters_of_the_transformer(architecture, num_channels):
    counts = [
        count_parameters(new_frame_model(FramesModel(architecture=name), num_channels=num_channels, num_outputs=9))
        for name in ("transformer", architecture)
    ]
    assert abs(counts[1] / counts[0] - 1) < 0.05


@pytest.mark.parametrize("architecture", ["transformer", "gru", "lstm"])
def test_a_model_survives_its_folder(architecture, tmp_path):
    model = made(architecture, patch_len=2)
    save_frame_model(model, tmp_path)
    loaded = load_frame_model(tmp_path).eval()

    frames = torch.randn(2, 8, 3)
    torch.testing.assert_close(loaded(frames), model(frames), rtol=0, atol=0)
    assert loaded.config == model.config
    with pytest.raises(RegardError, match="must have a model_type of regard-Forecaster, got 'regard-FrameModel'"):
        load_forecaster(tmp_path)


@pytest.mark.parametrize(
    ("frames", "mask", "message"),
    [
        (torch.zeros(2, 5, 4), None, r"frames must be \(batch, len, 3\)"),
        (torch.zeros(2, 0, 3), None, "at least one frame"),
        (torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.bool), "must hold a real token, row 0"),
        (torch.zeros(2, 5, 3), torch.ones(2, 4, dtype=torch.bool), "must have the shape"),
    ],
)
def test_wrong_inputs_are_refused(frames, mask, message):
    with pytest.raises(RegardError, match=message):
        made()(frames, mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_channels": 0}, "num_channels must be a whole number of at least 1, got 0"),
        ({"architecture": "cnn"}, "architecture must be one of transformer, gru, lstm, got 'cnn'"),
        ({"embed_dim": 15, "num_heads": 2}, "multiple of num_heads, got 15 and 2"),
        ({"embed_dim": 15, "num_heads": 3}, "embed_dim must be even for sinusoidal positions, got 15"),
        ({"embed_dim": 12, "positions": "rotary"}, "embed_dim / num_heads must be even for rotary positions, got 3"),
        ({"dropout_p": 1.0}, r"dropout_p must lie in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_sizes_are_refused(changes, message):
    with pytest.raises(RegardError, match=message):
        FrameConfig(**{"num_channels": 3, "num_outputs": 2, **changes})
    with pytest.raises(RegardError, match="no field colour"):
        FrameConfig.from_dict({"num_channels": 3, "num_outputs": 2, "colour": 1})


def test_watching_changes_nothing_and_sees_every_layer():
    model, frames = made(), torch.randn(3, 9, 3)
    mask = torch.arange(9) < torch.tensor([[9], [4], [6]])
    with torch.no_grad():
        alone = model(frames, mask)
        with regard.watch(model, ["entropy", "padding_mass"]) as view:
            watched = model(frames, mask)

    assert torch.equal(alone, watched)
    assert {row["layer"] for row in view.table()} == {"encoder.layer.0.attention", "encoder.layer.1.attention"}
    assert all(layer.seen for layer in view.coverage())
    assert max(row["mean"] for row in view.table() if row["statistic"] == "padding_mass") == 0
