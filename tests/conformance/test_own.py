"""What regard itself offers obeys the laws: every backend of ``attention``, ``MultiHeadAttention``, ``Bert``."""

import functools

import pytest
import torch

import regard
from regard.conformance import check
from regard.models import Bert, BertConfig
from regard.modules import MultiHeadAttention
from regard.records import CheckVerdict

OPTIONS = [
    {},
    {"causal": True},
    {"num_kv_heads": 2},
    {"causal": True, "rotary": 10_000.0},
    {"qk_norm": True},
    {"temperature": True},
    {"head_dim": 8, "dropout_p": 0.1},
]


@pytest.mark.parametrize("impl", ["auto", "reference", "sdpa", "chunked"])
def test_attention_obeys_every_law(impl):
    @functools.wraps(regard.attention)
    def attention(query, key, value, **options):
        return regard.attention(query, key, value, **options, impl=impl)

    report = check(attention)

    assert report.failed == [], str(report)
    assert CheckVerdict.NOT_TESTED not in report.verdicts.values()
    assert CheckVerdict.DEVIATION not in report.verdicts.values()


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_multi_head_attention_obeys_every_law(options):
    layer = MultiHeadAttention(16, 4, **options)

    report = check(layer)

    untested = {name for name, verdict in report.verdicts.items() if verdict is CheckVerdict.NOT_TESTED}
    assert report.failed == [], str(report)
    assert untested == ({"scale"} if {"qk_norm", "temperature"} & set(options) else set())


def test_a_learnt_temperature_is_no_wrong_scale():
    layer = MultiHeadAttention(16, 4, temperature=True)
    torch.nn.init.constant_(layer.log_temperature, 0.5)

    assert "it learns a scale" in check(layer, rules=["scale"])["scale"].summary


def test_bert_obeys_every_law():
    report = check(Bert(BertConfig(vocab_size=50, embed_dim=32, num_layers=2, num_heads=4, feed_forward_dim=64)))

    assert report.failed == [], str(report)
    assert CheckVerdict.NOT_TESTED not in report.verdicts.values()
