"""Attention that PyTorch does not compute is seen through a few lines of its author."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from regard._errors import ArgumentError
from regard.observe import AttentionCall, taps, watch


class Mixer(nn.Module):
    """Softmax attention under another name, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)
        self.num_heads = 2

    def projected(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(part(x).unflatten(-1, (2, 4)).transpose(1, 2) for part in (self.query, self.key))  # type: ignore[return-value]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key = self.projected(x)
        weights = (query @ key.mT / 2).softmax(-1)
        return (weights @ x[:, None]).mean(1)


class ByHand(Mixer):
    """The same without a softmax that anyone could hear."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key = self.projected(x)
        scores = (query @ key.mT / 2).exp()
        weights = scores / scores.sum(-1, keepdim=True)
        return F.dropout((weights @ x[:, None]).mean(1), 0.5, training=True)


def report(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> AttentionCall:
    assert isinstance(module, Mixer)
    torch.rand(3)  # an adapter may draw: the model must not notice
    query, key = module.projected(*args)
    return AttentionCall(query=query, key=key, kernel="by hand")


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))


def expected(model: Mixer, x: torch.Tensor) -> torch.Tensor:
    query, key = (part.double() for part in model.projected(x))
    return torch.special.entr((query @ key.mT / 2).softmax(-1)).sum(-1).mean((0, 2)).detach()


def test_without_an_adapter_nothing_is_seen(x: torch.Tensor) -> None:
    model = nn.Sequential(Mixer())
    with watch(model, ["entropy"]) as view:
        model(x)
    assert view.layers == []
    assert view.coverage() == []


def test_a_softmax_is_attention_where_the_adapter_says_so(x: torch.Tensor) -> None:
    model = nn.Sequential(Mixer())
    with watch(model, ["entropy", "output_norm"], adapters={Mixer: "softmax"}) as view:
        model(x)
    torch.testing.assert_close(view["0"]["entropy"], expected(model[0], x), atol=1e-6, rtol=0)  # type: ignore[arg-type]
    assert view.kernels() == {"softmax": 1}
    assert view["0"]["output_norm"].isfinite().all()


def test_a_function_shows_what_no_kernel_shows_and_changes_nothing(x: torch.Tensor) -> None:
    model = nn.Sequential(ByHand())
    torch.manual_seed(1)
    plain = model(x), torch.rand(2)
    torch.manual_seed(1)
    with watch(model, ["entropy"], adapters={ByHand: report}) as view:
        watched = model(x), torch.rand(2)
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    torch.testing.assert_close(view["0"]["entropy"], expected(model[0], x), atol=1e-6, rtol=0)  # type: ignore[arg-type]
    (entry,) = view.coverage()
    assert (entry.layer, entry.calls, dict(entry.kernels)) == ("0", 1, {"by hand": 1})
    assert not any(module._forward_hooks for module in model.modules())


def test_an_adapted_module_is_not_counted_twice(x: torch.Tensor) -> None:
    model = nn.Sequential(Mixer())
    with watch(model, ["entropy"], adapters={Mixer: report}) as view:
        model(x)
    assert view.kernels() == {"by hand": 1}


def test_no_call_is_counted_where_the_adapter_returns_none(x: torch.Tensor) -> None:
    model = nn.Sequential(Mixer())
    with watch(model, ["entropy"], adapters={Mixer: lambda *_: None}) as view:
        model(x)
    (entry,) = view.coverage()
    assert not entry.seen
    assert entry.reason is not None


def test_what_is_no_adapter_is_refused(x: torch.Tensor) -> None:
    with pytest.raises((ArgumentError, TypeError), match=r'must be "softmax" or a function|annotation'):
        watch(Mixer(), adapters={Mixer: 3})  # type: ignore[dict-item]
    with pytest.raises((ArgumentError, TypeError), match=r"classes of nn\.Module|annotation"):
        watch(Mixer(), adapters={int: "softmax"})  # type: ignore[dict-item]
    model = nn.Sequential(Mixer())
    with watch(model, adapters={Mixer: lambda *_: 7}), pytest.raises(ArgumentError, match="got int"):  # type: ignore[dict-item,return-value]
        model(x)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_what_a_checkpoint_computes_again_is_reported_once(x: torch.Tensor, use_reentrant: bool) -> None:
    class Saving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixer = Mixer()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = checkpoint(self.mixer, x, use_reentrant=use_reentrant)
            return result

    model = Saving()

    def gradients(x: torch.Tensor) -> list[torch.Tensor | None]:
        model.zero_grad()
        model(x.requires_grad_()).square().sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    plain = gradients(x)
    for adapter in ("softmax", report):
        with watch(model, ["entropy"], adapters={Mixer: adapter}) as view:
            watched = gradients(x)
        assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))  # type: ignore[arg-type]
        (entry,) = view.coverage()
        assert (entry.layer, entry.calls, entry.rows) == ("mixer", 1, 18)


def test_an_adapter_that_fails_leaves_nothing(x: torch.Tensor) -> None:
    def fail(*_: Any) -> AttentionCall:
        raise ValueError("no such projection")

    model = nn.Sequential(Mixer())
    with pytest.raises(ValueError, match="no such projection"), watch(model, adapters={Mixer: fail}):
        model(x)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert taps._TAPS.listeners == ()
    assert taps._TAPS._library is None
