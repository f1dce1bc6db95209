import pytest

from regard.viewer.report.layers import natural_order, row_marks, short_names


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


@pytest.mark.parametrize(
    ("names", "marks"),
    [
        ([f"bert.encoder.layer.{number}.attention" for number in (0, 1, 10)], ["0", "1", "10"]),
        (["encoder.layer.1.attention", "decoder.layer.1.self_attention"], ["e1", "d1s"]),
        (["h.0.attn", "h.1.attn"], ["0", "1"]),
        (["a.x", "a.xx"], ["0", "1"]),
    ],
)
def test_marks_are_few_letters_and_differ(names, marks):
    assert row_marks(names) == marks


def test_layer_ten_comes_after_layer_nine():
    names = [f"layer.{number}.attention" for number in range(12)]

    assert natural_order(sorted(names)) == names
