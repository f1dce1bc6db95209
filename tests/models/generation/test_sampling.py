import math

import pytest
import torch

from regard._errors import ArgumentError
from regard.models import Sampling, generate
from regard.models.generation.sampling import sampling_weights

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, 0.5], [0.0, 0.0, 3.0, 3.0, -torch.inf]])


def test_the_weights_are_the_softmax_of_the_tempered_logits():
    for temperature in (0.3, 1.0, 5.0):
        expected = torch.softmax(LOGITS / temperature, -1)
        torch.testing.assert_close(sampling_weights(LOGITS, Sampling(temperature=temperature)), expected)


def test_top_k_keeps_the_likeliest():
    weights = sampling_weights(LOGITS, Sampling(top_k=2))

    torch.testing.assert_close(weights[0], torch.tensor([math.e, 1.0, 0, 0, 0]) / (1 + math.e))
    torch.testing.assert_close(weights[1], torch.tensor([0, 0, 0.5, 0.5, 0]))


def test_top_p_keeps_the_fewest_that_reach_it():
    plain = torch.softmax(LOGITS[:1], -1)[0]  # 0.56, 0.21, 0.08, 0.03, 0.12: the order is 0, 1, 4, 2, 3
    for top_p, kept in ((0.5, [0]), (0.6, [0, 1]), (0.8, [0, 1, 4]), (0.999, [0, 1, 4, 2, 3]), (1e-6, [0])):
        expected = torch.zeros(5)
        expected[kept] = plain[kept] / plain[kept].sum()
        torch.testing.assert_close(sampling_weights(LOGITS[:1], Sampling(top_p=top_p))[0], expected)


def test_filters_are_applied_in_the_order_of_transformers():
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(20, 50)
    warped = TemperatureLogitsWarper(0.7)(None, logits)
    warped = TopPLogitsWarper(0.8)(None, TopKLogitsWarper(10)(None, warped))

    torch.testing.assert_close(
        sampling_weights(logits, Sampling(temperature=0.7, top_k=10, top_p=0.8)), torch.softmax(warped, -1)
    )


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.7}])
def test_tokens_are_drawn_as_often_as_their_weight_says(options, chain):
    """Pearson's statistic stays below its 0.9999 quantile; the seed is fixed."""
    session, count = chain(vocab=6), 20_000
    prompts = torch.full((count, 1), 2)

    drawn = generate(session, prompts, max_new_tokens=1, sampling=Sampling(seed=3, **options)).tokens[:, 0]

    expected = sampling_weights(session.logits[2:3], Sampling(**options))[0].double() * count
    found = drawn.bincount(minlength=6).double()
    assert found[expected == 0].sum() == 0
    likely = expected > 0
    statistic = ((found - expected)[likely] ** 2 / expected[likely]).sum()
    assert statistic < 25.7  # chi-square, at most 5 degrees of freedom


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"temperature": math.inf}, "temperature must be above 0 and finite"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\]"),
        ({"top_p": 1.1}, r"top_p must lie in \(0, 1\]"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        Sampling(**options)
