import json
import math

import pytest

from regard._errors import ArgumentError
from regard.models import DecoderConfig


def test_json_round_trip():
    config = DecoderConfig(num_kv_heads=4, positions="rotary", eos_ids=(2, 7), pad_id=0)

    assert DecoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_what_is_left_out_follows_from_the_heads():
    assert (DecoderConfig().kv_heads, DecoderConfig().width_per_head) == (12, 64)
    assert (DecoderConfig(num_kv_heads=3).kv_heads, DecoderConfig(head_dim=10).width_per_head) == (3, 10)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number of at least 1, got 0"),
        ({"num_kv_heads": True}, "num_kv_heads must be a whole number"),
        ({"embed_dim": 100}, "embed_dim must be a multiple of num_heads, got 100 and 12"),
        ({"num_kv_heads": 5}, "num_heads must be a multiple of num_kv_heads, got 12 and 5"),
        ({"positions": "rotary", "head_dim": 7}, "heads of an even width, got 7"),
        ({"positions": "alibi"}, "positions must be one of learned, rotary, got 'alibi'"),
        ({"norm": "batch"}, "norm must be one of layer, rms"),
        ({"activation": "tanh"}, "activation must be one of gelu, gelu_tanh, relu, swiglu"),
        ({"dropout_p": 1.0}, r"dropout_p must lie in \[0, 1\)"),
        ({"norm_eps": 0.0}, "norm_eps must be above 0"),
        ({"rotary_base": math.nan}, "rotary_base must be above 0"),
        ({"eos_ids": (3, -1)}, "eos_ids must be a token id from 0 on"),
        ({"bos_id": -1}, "bos_id must be a token id from 0 on"),
    ],
)
def test_values_that_cannot_be_are_refused(values, message):
    with pytest.raises(ArgumentError, match=message):
        DecoderConfig(**values)


def test_unknown_fields_are_named():
    with pytest.raises(ArgumentError, match="has no field hidden_size"):
        DecoderConfig.from_dict({"hidden_size": 3})
