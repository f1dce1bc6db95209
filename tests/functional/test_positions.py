import math

import pytest
import torch

from regard._errors import ArgumentError
from regard.functional import alibi_bias, alibi_slopes, apply_rotary, attention, rotary_tables, sinusoidal


def test_sinusoidal_is_the_formula_of_the_paper():
    table = sinusoidal(50, 6)
    for position in (0, 1, 7, 49):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            assert float(table[position, 2 * i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(table[position, 2 * i + 1]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_sinusoidal_keeps_its_digits_at_large_positions():
    table = sinusoidal(100_001, 2)
    assert float(table[100_000, 0]) == pytest.approx(math.sin(100_000), abs=1e-6)


def test_sinusoidal_shift_is_a_rotation_that_does_not_depend_on_the_position():
    table = sinusoidal(30, 8).double()
    products = table @ table.T
    for shift in (1, 5):
        diagonal = products.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dim", [0, 3])
def test_odd_width_is_refused(dim):
    with pytest.raises(ArgumentError, match=f"width must be even and at least 2.* got {dim}"):
        sinusoidal(4, dim)


def test_rotary_scores_depend_on_the_distance_alone():
    query, key = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    tables = rotary_tables(40, 8)
    everywhere = (1, 1, 40, 8)
    scores = (
        apply_rotary(query.expand(everywhere), *tables) @ apply_rotary(key.expand(everywhere), *tables).mT
    )[0, 0]  # fmt: skip
    for shift in (-7, 0, 1, 12):
        diagonal = scores.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert (scores[20, 20] - scores[20, 25]).abs() > 1e-3


def test_rotary_keeps_lengths_and_leaves_position_zero():
    x = torch.randn(2, 3, 5, 8)
    turned = apply_rotary(x, *rotary_tables(5, 8))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert not torch.allclose(turned[:, :, 1], x[:, :, 1])


def test_rotary_turns_by_the_angle_of_the_paper():
    x = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 1, 3, 4)
    turned = apply_rotary(x, *rotary_tables(3, 4))
    torch.testing.assert_close(turned[0, 0, 2], torch.tensor([math.cos(2.0), 0.0, math.sin(2.0), 0.0]))


def test_rotary_takes_positions_per_token_and_per_sequence():
    x = torch.randn(2, 1, 3, 4)
    tables = rotary_tables(10, 4)
    whole = apply_rotary(torch.cat([torch.zeros(2, 1, 4, 4), x], 2), *tables)[:, :, 4:]
    torch.testing.assert_close(apply_rotary(x, *tables, positions=torch.tensor([4, 5, 6])), whole)
    each = apply_rotary(x, *tables, positions=torch.tensor([[4, 5, 6], [0, 1, 2]]))
    torch.testing.assert_close(each[0], whole[0])
    torch.testing.assert_close(each[1], apply_rotary(x, *tables)[1])


def test_rotary_of_a_part_leaves_the_other_columns():
    x = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)
    turned = apply_rotary(x, *rotary_tables(5, 4))
    assert turned.dtype == torch.bfloat16
    assert torch.equal(turned[..., 4:], x[..., 4:])
    assert not torch.equal(turned[..., :4], x[..., :4])


def test_rotary_tables_that_do_not_fit_are_refused():
    x = torch.zeros(1, 1, 5, 4)
    with pytest.raises(ArgumentError, match="must not be wider than a head, got 6 columns for 4"):
        apply_rotary(x, *rotary_tables(5, 6))
    with pytest.raises(ArgumentError, match="hold 3 positions, got a sequence of 5"):
        apply_rotary(x, *rotary_tables(3, 4))


def test_alibi_slopes_are_those_of_the_paper():
    torch.testing.assert_close(alibi_slopes(8), torch.tensor([2.0**-i for i in range(1, 9)]))
    torch.testing.assert_close(alibi_slopes(1), torch.tensor([2.0**-8]))
    twelve = [2.0**-i for i in range(1, 9)] + [2.0 ** -(i + 0.5) for i in range(4)]
    torch.testing.assert_close(alibi_slopes(12), torch.tensor(twelve))
    with pytest.raises(ArgumentError, match="num_heads must be at least 1, got 0"):
        alibi_slopes(0)


def test_alibi_bias_falls_with_the_distance_from_the_last_aligned_query():
    bias = alibi_bias(2, 2, 4)
    assert bias.shape == (1, 2, 2, 4)
    slopes = alibi_slopes(2)
    torch.testing.assert_close(bias[0, 1, 0], -slopes[1] * torch.tensor([2.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(bias[0, 0, 1], -slopes[0] * torch.tensor([3.0, 2.0, 1.0, 0.0]))


def test_alibi_of_the_last_query_does_not_depend_on_how_many_queries_come_along():
    query, key, value = (torch.randn(1, 4, 6, 8) for _ in range(3))
    whole = attention(query, key, value, attn_bias=alibi_bias(4, 6, 6), causal=True)
    last = attention(query[:, :, -1:], key, value, attn_bias=alibi_bias(4, 1, 6), causal=True)
    torch.testing.assert_close(whole[:, :, -1:], last)
