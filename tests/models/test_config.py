import json

import pytest

from regard._errors import ArgumentError
from regard.models import BertConfig


def test_json_round_trip():
    config = BertConfig(embed_dim=32, num_heads=4, attention_dropout_p=0.2, activation="relu")

    assert BertConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_config_is_frozen():
    with pytest.raises(AttributeError, match="cannot assign"):
        BertConfig().num_layers = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_layers": 0}, "num_layers must be a whole number of at least 1, got 0"),
        ({"num_heads": True}, "num_heads must be a whole number"),
        ({"embed_dim": 30, "num_heads": 4}, "multiple of num_heads, got 30 and 4"),
        ({"dropout_p": 1.0}, r"dropout_p must lie in \[0, 1\)"),
        ({"attention_dropout_p": -0.1}, r"attention_dropout_p must lie in \[0, 1\)"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps must be above 0"),
        ({"vocab_size": 10, "pad_id": 10}, "pad_id must be an id below vocab_size 10"),
        ({"activation": "tanh"}, "activation must be one of"),
    ],
)
def test_impossible_value_is_refused(values, message):
    with pytest.raises(ArgumentError, match=message):
        BertConfig.from_dict(values)


def test_unknown_field_is_refused_by_name():
    with pytest.raises(ArgumentError, match="no field hidden_size"):
        BertConfig.from_dict({"hidden_size": 3})
