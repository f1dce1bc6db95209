"""Gradients that a fused kernel returns are those of the call they belong to."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.observe import View, watch

GRADIENTS = ["qk_gradient", "vo_gradient"]
RANDOM = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RANDOM)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        padding = None if attention_mask is None else ~attention_mask
        return self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0]


def gradient_counts(view: View) -> dict[str, int]:
    return {row["layer"]: row["num_rows"] for row in view.table() if row["statistic"] == "qk_gradient"}


def test_gradients_of_several_forwards_find_their_layers() -> None:
    model = nn.ModuleDict({"one": Named(), "other": Named()})
    x = normal(2, 5, 16)
    with watch(model, GRADIENTS) as view:
        losses = [model["one"](x).sum(), model["other"](x).sum(), model["one"](x).sum()]
        for loss in losses[1:]:
            loss.backward()
    assert gradient_counts(view) == {"one.attention": 2, "other.attention": 2}


def test_a_graph_that_runs_backward_twice_is_counted_twice() -> None:
    model = Named()
    with watch(model, GRADIENTS) as view:
        loss = model(normal(2, 5, 16)).sum()
        loss.backward(retain_graph=True)
        loss.backward()
    assert gradient_counts(view) == {"attention": 4}


def test_memory_that_another_model_uses_again_does_not_bring_its_gradients() -> None:
    """Outputs are known by their address, which a model that is not watched may get next."""
    model, stranger = Named(), Named()
    x = normal(2, 5, 16)
    with watch(model, GRADIENTS) as view:
        for _ in range(20):
            with torch.no_grad():
                model(x)
            stranger(x).sum().backward()
    assert gradient_counts(view) == {}
    watcher = watch(model, GRADIENTS)
    for _ in range(20):
        with watcher, torch.no_grad():
            model(x)
        loss = stranger(x).sum()
        with watcher:
            loss.backward()
    assert gradient_counts(watcher.view) == {}


def test_a_frozen_layer_has_no_gradient_and_does_not_disturb() -> None:
    model = Named().requires_grad_(requires_grad=False)
    x = normal(2, 5, 16).requires_grad_()
    with watch(model, GRADIENTS) as view:
        model(x).sum().backward()
    assert gradient_counts(view) == {"attention": 2}
    with watch(model, GRADIENTS) as nothing:
        model(x.detach())
    assert gradient_counts(nothing) == {}


def test_gradients_come_from_the_fused_kernel_and_are_listed_where_it_did_not_run() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor, dropout_p: float) -> Tensor:
            heads = x.unflatten(-1, (4, 8)).transpose(1, 2)
            return F.scaled_dot_product_attention(2 * heads, heads, heads, dropout_p=dropout_p)

    inputs = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))
    model, names = Attention(), ["qk_gradient", "vo_gradient", "gradient_ratio", "head_importance"]
    x = inputs.clone().requires_grad_()
    with watch(model, names) as view:
        output = model(x, 0.0)
        gradient = torch.randn_like(output)
        output.backward(gradient)
    heads = inputs.double().unflatten(-1, (4, 8)).transpose(1, 2)
    query, key, value = ((factor * heads).requires_grad_() for factor in (2, 1, 1))
    dense = (query @ key.mT / 8**0.5).softmax(-1) @ value
    found = torch.autograd.grad(dense, (query, key, value), gradient.double())
    squares = [part.square().sum((2, 3)) for part in (*found, gradient.double())]
    qk, vo = (squares[0] + squares[1]).sqrt(), (squares[2] + squares[3]).sqrt()
    expected = {
        "qk_gradient": qk,
        "vo_gradient": vo,
        "gradient_ratio": qk / vo,
        "head_importance": (dense * gradient.double()).sum((2, 3)).abs(),
    }
    for name in names:
        torch.testing.assert_close(view[""][name], expected[name].mean(0).detach(), atol=1e-5, rtol=1e-4)
    with watch(model, [*names, "entropy"]) as view:
        model(x, 0.5).sum().backward()
    (entry,) = view.coverage()
    assert set(entry.missing) == set(names)
    assert "only fused kernels" in entry.missing["qk_gradient"]
