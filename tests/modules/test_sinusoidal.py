import pytest
import torch

from regard._errors import ArgumentError
from regard.functional.positions import sinusoidal
from regard.modules import SinusoidalPositions


def test_places_are_rows_of_the_papers_table():
    positions, table = SinusoidalPositions(8), sinusoidal(300, 8)

    for length, offset in ((5, 0), (1, 7), (200, 100), (3, 2)):
        assert torch.equal(positions(length, offset), table[offset : offset + length])


def test_nothing_is_learnt_or_saved():
    positions = SinusoidalPositions(8)
    positions(5)

    assert list(positions.parameters()) == []
    assert positions.state_dict() == {}


def test_made_without_memory_it_still_has_its_sines():
    with torch.device("meta"):
        positions = SinusoidalPositions(8)

    assert torch.equal(positions(3), sinusoidal(3, 8))


def test_what_cannot_be_is_refused():
    with pytest.raises(ArgumentError, match="embed_dim must be even"):
        SinusoidalPositions(7)
    with pytest.raises(ArgumentError, match="Places must be counted from 0"):
        SinusoidalPositions(8)(3, -1)
