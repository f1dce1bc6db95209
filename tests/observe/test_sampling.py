"""A sample of rows is drawn from all real rows of a batch, each equally likely, the same for the same seed."""

import torch
from torch import nn
from torch.nn import functional as F

from regard.observe import watch
from regard.observe.sampling import draw


class Attention(nn.Module):
    """Attention of a tensor with itself, causal, with padding told by its argument."""

    def forward(self, x: torch.Tensor, key_padding_mask: torch.Tensor) -> torch.Tensor:
        causal = torch.ones(x.shape[2], x.shape[2], dtype=torch.bool).tril()
        return F.scaled_dot_product_attention(x, x, x, attn_mask=causal & ~key_padding_mask[:, None, None, :])


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    x = 3 * torch.randn(4, 2, 20, 8, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(20) >= torch.tensor([[20], [13], [5], [1]])


def entropies(seed: int, rows: int | str = 16) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    model = Attention()
    with watch(model, ["entropy"], rows=rows, seed=seed) as view:  # type: ignore[arg-type]
        model(*inputs())
    table = view.table()
    means = torch.tensor([row["mean"] for row in table], dtype=torch.float64)
    errors = torch.tensor([row["se"] for row in table], dtype=torch.float64)
    return means, errors, [row["num_rows"] for row in table]


def test_the_mean_over_seeds_is_the_exact_mean_and_the_intervals_hold_it() -> None:
    exact, no_error, num_rows = entropies(0, "all")
    assert num_rows == [39, 39]
    assert no_error.tolist() == [0, 0]
    drawn = [entropies(seed) for seed in range(300)]
    means, errors = (torch.stack([one[index] for one in drawn]) for index in (0, 1))
    assert {tuple(one[2]) for one in drawn} == {(16, 16)}
    of_the_mean = means.std(0) / 300**0.5
    assert ((means.mean(0) - exact).abs() < 4 * of_the_mean).all()
    covered = ((means - exact).abs() < 2.131 * errors).double().mean(0)  # Student's t of 15 degrees of freedom, 95 %
    assert ((covered > 0.87) & (covered < 0.99)).all()  # the entropies of first rows are 0: a skew that few rows feel


def test_the_same_seed_draws_the_same_rows_and_another_seed_others() -> None:
    assert entropies(3)[0].tolist() == entropies(3)[0].tolist()
    assert entropies(3)[0].tolist() != entropies(4)[0].tolist()


def test_as_many_rows_as_there_are_is_exact() -> None:
    means, errors, num_rows = entropies(0, 39)
    assert torch.equal(means, entropies(0, "all")[0])
    assert errors.tolist() == [0, 0]
    assert num_rows == [39, 39]


def test_only_real_rows_are_drawn_and_each_as_often() -> None:
    real = ~inputs()[1]
    counts = torch.zeros(4, 20)
    for seed in range(500):
        sample = draw(real, 10, seed)
        assert sample is not None
        assert int(sample.valid.sum()) == 10
        for sequence in range(4):
            rows = sample.rows[sequence][sample.valid[sequence, 0]]
            assert len(set(rows.tolist())) == len(rows)
            counts[sequence, rows] += 1
    assert (counts[~real] == 0).all()
    expected = 500 * 10 / 39
    assert ((counts[real] - expected).abs() < 5 * expected**0.5).all()


def test_drawing_leaves_the_random_state_of_torch_alone() -> None:
    before = torch.get_rng_state()
    draw(torch.ones(2, 50, dtype=torch.bool), 5, 7)
    assert torch.equal(before, torch.get_rng_state())
