"""Learned positions are one vector a place, and there is none beyond the table."""

import pytest
import torch

from regard import RegardError
from regard.modules import LearnedPositions


def test_places_are_rows_of_the_table():
    positions = LearnedPositions(6, 4)
    assert torch.equal(positions(3), positions.weight[:3])
    assert torch.equal(positions(2, offset=4), positions.weight[4:6])


def test_only_the_places_used_get_a_gradient():
    positions = LearnedPositions(6, 4)
    positions(2, offset=1).sum().backward()
    assert positions.weight.grad.sum(1).tolist() == [0, 4, 4, 0, 0, 0]


@pytest.mark.parametrize(("length", "offset"), [(7, 0), (3, 4), (2, -1)])
def test_a_place_outside_the_table_is_refused(length, offset):
    with pytest.raises(RegardError, match=f"0 to 5, got {offset} to {offset + length - 1}"):
        LearnedPositions(6, 4)(length, offset=offset)
