import pytest

from regard.viewer.report.layers import natural_order, short_names


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["bert.encoder.layer.0.attention", "bert.encoder.layer.10.attention"], ["layer 0", "layer 10"]),
        (
            ["encoder.layers.0.self_attn", "decoder.layers.0.cross_attn"],
            ["encoder.layers.0.self_attn", "decoder.layers.0.cross_attn"],
        ),
        (["h.0.attn", "h.0.cross"], ["attn", "cross"]),
        (["bert.encoder.layer.3.attention"], ["layer 3"]),
        (["attention"], ["attention"]),
        (["a", "a.b"], ["a", "b"]),
        ([], []),
    ],
)
def test_short_names_keep_what_tells_layers_apart(names, short):
    assert short_names(names) == dict(zip(names, short, strict=True))


def test_short_names_differ():
    names = [f"{part}.{number}.attn" for part in ("encoder", "decoder") for number in range(12)]

    assert len(set(short_names(names).values())) == len(names)


def test_layer_ten_comes_after_layer_nine():
    names = [f"layer.{number}.attention" for number in range(12)]

    assert natural_order(sorted(names)) == names
