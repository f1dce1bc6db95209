"""Linear biases: recognised by what is added to the scores, and of the right sign."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from regard import attention
from regard.conformance import check
from regard.conformance.families import family
from regard.functional import alibi_bias, alibi_slopes, packed_attention


def alibi(subject, **options):
    return check(subject, rules=["alibi"], **options)["alibi"]


class Biased(nn.Module):
    """Self-attention with a bias that depends on the distance alone."""

    def __init__(self, bias):
        super().__init__()
        self.qkv, self.out, self.bias = nn.Linear(16, 48), nn.Linear(16, 16), bias

    def forward(self, x):
        heads = (part.unflatten(-1, (4, 4)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        bias = self.bias(x.shape[1]).to(x.dtype)
        return self.out(F.scaled_dot_product_attention(*heads, attn_mask=bias).transpose(1, 2).flatten(2))


def test_functions_with_slopes_pass():
    for function in (attention, packed_attention):
        assert alibi(function).measured < 1e-12


def test_what_takes_no_slopes_is_not_asked(attend):
    assert alibi(attend()).verdict == "not applicable"


@pytest.mark.parametrize(("factor", "said"), [(-1.0, "wrong sign"), (0.5, "are off by")])
def test_slopes_that_are_turned_or_scaled_are_found(factor, said):
    def sloped(query, key, value, alibi_slopes=None):
        slopes = None if alibi_slopes is None else factor * alibi_slopes
        bias = None if slopes is None else -slopes[:, None, None] * _distances(query.shape[2])
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)

    assert said in alibi(sloped).summary


def _distances(length):
    places = torch.arange(length)
    return (places[:, None] - places).abs()


def test_a_bidirectional_bias_is_recognised_and_its_slopes_told():
    outcome = alibi(Biased(lambda length: alibi_bias(4, length, length)))

    assert outcome.verdict == "pass"
    assert outcome.summary.endswith(", ".join(f"{slope:.3g}" for slope in alibi_slopes(4).tolist()))


def test_heads_with_the_wrong_sign_are_named():
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None, None]
    report = check(Biased(lambda length: signs * alibi_bias(4, length, length)))

    assert report.failed == ["alibi"]
    assert "heads 1 and 3: scores grow with the distance, by 0.0625" in report["alibi"].summary


@pytest.mark.parametrize("bias", [lambda n: torch.zeros(4, n, n), lambda n: -(_distances(n) ** 2.0).expand(4, n, n)])
def test_no_bias_and_another_one_are_not_asked(bias):
    assert alibi(Biased(bias)).verdict == "not applicable"


def test_bloom_passes_and_a_decoder_without_biases_is_not_asked():
    assert "slopes of 0.25, 0.0625, 0.0156, 0.00391" in alibi(family("bloom")).summary
    assert alibi(family("llama", impl="eager")).verdict == "not applicable"
