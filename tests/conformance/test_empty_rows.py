"""Empty rows: 0 and finite gradients, and what PyTorch's module does instead."""

import pytest
import torch
from torch import nn

from regard.conformance import check

WORDS = {"empty rows are NaN": "gives NaN", "filled with -1e9": "the mean of the forbidden values"}


def test_zero_and_finite_gradients_pass(attend):
    assert check(attend(), rules=["empty_rows"])["empty_rows"].verdict == "pass"


@pytest.mark.parametrize("fault", WORDS)
def test_another_value_is_named_first(attend, fault):
    report = check(attend(fault))

    assert report.failed[0] == "empty_rows"
    assert WORDS[fault] in report["empty_rows"].summary


def test_a_zero_whose_gradient_is_not_finite_is_found():
    def careless(query, key, value, attn_mask=None):
        scores = query @ key.mT * query.shape[-1] ** -0.5
        if attn_mask is not None:
            scores = scores + torch.zeros_like(scores).masked_fill(~attn_mask, float("-inf"))
        return scores.softmax(-1).nan_to_num(0.0) @ value

    report = check(careless, rules=["empty_rows"])

    assert report.failed == ["empty_rows"]
    assert "gradients that are not finite" in report["empty_rows"].summary


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_nan_of_pytorchs_module_is_a_documented_deviation(batch_first):
    report = check(nn.MultiheadAttention(16, 4, batch_first=batch_first))

    assert report["empty_rows"].verdict == "deviation"
    assert report.ok


def test_a_module_of_ones_own_that_gives_nan_fails(faulty):
    class Careless(faulty):
        def _masked(self, scores, padding):
            return scores.masked_fill(padding[:, None, None, :], float("-inf"))

    report = check(Careless())

    assert report.failed == ["empty_rows"]
