import pytest

from regard._errors import ArgumentError
from regard.models import TransformerConfig


def test_json_round_trip():
    config = TransformerConfig(vocab_size=30, target_vocab_size=40, tied_embeddings="target", norm="pre", max_len=9)

    assert TransformerConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("norm", "given", "expected"),
    [("pre", None, True), ("post", None, False), ("post", True, True), ("pre", False, False)],
)
def test_a_final_norm_stands_where_the_norms_stand_before(norm, given, expected):
    assert TransformerConfig(norm=norm, final_norm=given).has_final_norm is expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number of at least 1, got 0"),
        ({"num_decoder_layers": True}, "num_decoder_layers must be a whole number of at least 1, got True"),
        ({"target_vocab_size": 0}, "target_vocab_size must be a whole number"),
        ({"embed_dim": 500}, "embed_dim must be a multiple of num_heads, got 500 and 8"),
        ({"embed_dim": 3, "num_heads": 1}, "Sinusoidal positions need an even embed_dim, got 3"),
        ({"dropout_p": 1.0}, r"dropout_p must lie in \[0, 1\), got 1.0"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps must be above 0"),
        ({"norm": "middle"}, "norm must be one of"),
        ({"positions": "rotary"}, "positions must be one of"),
        ({"activation": "tanh"}, "activation must be one of"),
        ({"tied_embeddings": "some"}, "tied_embeddings must be one of"),
        ({"target_vocab_size": 50}, "needs one vocabulary for both sides, got 37000 and 50"),
        ({"vocab_size": 2}, "pad_id, bos_id and eos_id must be ids below 2"),
        ({"eos_id": 1}, "eos_id must differ from pad_id and bos_id"),
        (
            {"pad_id": 50, "vocab_size": 40, "target_vocab_size": 60, "tied_embeddings": "none"},
            "an id of the source too",
        ),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ArgumentError, match=message):
        TransformerConfig(**values)


def test_an_unknown_field_is_named():
    with pytest.raises(ArgumentError, match="no field d_model"):
        TransformerConfig.from_dict({"d_model": 512})
