import pytest
import torch

from regard import watch
from regard._errors import ArgumentError
from regard.models import Forecaster, ForecasterConfig

ARCHITECTURES = ("transformer", "gru", "lstm")


def model(**changes):
    sizes = {"input_len": 32, "horizon": 8, "patch_len": 8, "stride": 4, "embed_dim": 8, "num_heads": 2}
    return Forecaster(ForecasterConfig(**{**sizes, "num_layers": 2, "feed_forward_dim": 16, **changes})).eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_channel_is_forecast_by_itself(architecture):
    forecaster, series = model(architecture=architecture), torch.randn(2, 32, 3)
    together = forecaster(series)

    torch.testing.assert_close(together[:, :, 1:2], forecaster(series[:, :, 1:2]))
    changed = series.clone()
    changed[:, :, 0] += torch.randn(2, 32)
    torch.testing.assert_close(forecaster(changed)[:, :, 1:], together[:, :, 1:])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_level_and_size_of_a_window_go_through(architecture):
    forecaster, series = model(architecture=architecture), torch.randn(2, 32, 3)

    torch.testing.assert_close(forecaster(50 + 7 * series), 50 + 7 * forecaster(series), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_value_counts(architecture):
    series = torch.randn(1, 32, 1, requires_grad=True)

    model(architecture=architecture)(series).sum().backward()

    assert series.grad.abs().min() > 0


def test_patches_are_those_of_the_paper():
    """336 values in patches of 16 every 8 are 42 tokens."""
    forecaster = model(input_len=336, patch_len=16, stride=8)
    seen = []
    forecaster.encoder.register_forward_hook(lambda module, args, result: seen.append(args[0].shape))
    forecaster.patches.register_forward_hook(lambda module, args, result: seen.append(args[0]))
    series = torch.randn(1, 336, 1)

    forecaster(series)

    assert ForecasterConfig().num_patches == 42
    assert seen[1] == (1, 42, 8)
    normed = forecaster.norm(series)[0][0, :, 0]
    torch.testing.assert_close(seen[0][0, 3], normed[24:40])
    torch.testing.assert_close(seen[0][0, 41], torch.cat([normed[-8:], normed[-1:].expand(8)]))


def test_watch_sees_its_attention():
    forecaster, series = model(), torch.randn(2, 32, 3)
    with watch(forecaster, ["entropy"]) as view:
        forecaster(series)

    assert [entry.layer for entry in view.coverage()] == ["encoder.layer.0.attention", "encoder.layer.1.attention"]
    assert all(entry.seen and entry.reason is None for entry in view.coverage())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_learns_a_wave(architecture):
    forecaster = model(architecture=architecture, dropout_p=0.0).train()
    optimizer = torch.optim.AdamW(forecaster.parameters(), lr=5e-3)
    for _ in range(100):
        phase = torch.rand(32, 1, 1) * 6.28
        wave = torch.sin(torch.arange(40)[None, :, None] / 4 + phase) + 5
        loss = (forecaster(wave[:, :32]) - wave[:, 32:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert loss < 0.05  # of windows that were not trained on; the variance is 0.5


def test_other_lengths_are_refused():
    with pytest.raises(ArgumentError, match=r"series must be \(batch, 32, channels\), got \(1, 31, 2\)"):
        model()(torch.zeros(1, 31, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"architecture": "cnn"}, "architecture must be"),
        ({"patch_len": 40}, "patch_len must be at most input_len"),
        ({"embed_dim": 9}, "multiple of num_heads"),
        ({"horizon": 0}, "horizon must be a whole number"),
        ({"dropout_p": 1.0}, "dropout_p must lie"),
    ],
)
def test_impossible_configs_are_refused(wrong, message):
    with pytest.raises(ArgumentError, match=message):
        model(**wrong)


def test_config_survives_a_round_trip():
    assert ForecasterConfig.from_dict(model().config.to_dict()) == model().config
