"""Queries, keys and values each decide one thing, whatever the masks and heads."""

import pytest
import torch

from regard._errors import ArgumentError
from regard.functional import causal_mask, reference, role_effects

MASKS = {"none": {}, "causal": {"causal": True}, "mask": {"attn_mask": causal_mask(5, 7)}}


@pytest.fixture(params=MASKS.values(), ids=MASKS.keys())
def masking(request):
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def tensors(request):
    shapes = ((2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 6))
    return [torch.randn(shape, dtype=request.param) for shape in shapes]


def seen(tensors, masking):
    return (reference.weights(reference.scores(*tensors[:2], **masking)) > 0).flatten(0, 1).any(0)


def test_a_query_changes_its_own_row_alone(tensors, masking):
    effects = role_effects(*tensors, role="query", at=2, **masking)
    rows = torch.arange(5) == 2
    sees = seen(tensors, masking)
    assert torch.equal(effects.scores, rows[:, None] & sees)
    assert torch.equal(effects.weights, rows[:, None] & sees)
    assert torch.equal(effects.output, rows)


def test_a_key_changes_one_column_of_scores_and_the_rows_that_see_it(tensors, masking):
    effects = role_effects(*tensors, role="key", at=3, **masking)
    sees = seen(tensors, masking)
    columns = torch.arange(7) == 3
    assert torch.equal(effects.scores, columns & sees)
    assert torch.equal(effects.weights, sees[:, 3, None] & sees)
    assert torch.equal(effects.output, sees[:, 3])


def test_a_value_changes_what_is_taken_and_no_weight(tensors, masking):
    effects = role_effects(*tensors, role="value", at=3, **masking)
    assert not effects.scores.any()
    assert not effects.weights.any()
    assert torch.equal(effects.output, seen(tensors, masking)[:, 3])


def test_it_says_so_in_a_sentence(tensors):
    said = str(role_effects(*tensors, role="query", at=2))
    assert said == "query 2 changed 7 of 35 scores, 7 of 35 weights, 1 of 5 rows of the output"


def test_other_roles_and_rows_are_refused(tensors):
    with pytest.raises(ArgumentError, match='role must be "query", "key" or "value", got \'output\''):
        role_effects(*tensors, role="output", at=0)
    with pytest.raises(ArgumentError, match="at must be a row of the key, 0 to 6, got 7"):
        role_effects(*tensors, role="key", at=7)
