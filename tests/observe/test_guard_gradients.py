"""Gradients that are not finite are told when an optimizer is about to use them, and not when it is not."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from regard._errors import NumericError
from regard.modules import MultiHeadAttention
from regard.observe import Guard, guard

WIDTH, HEADS = 16, 4


class Poison(torch.autograd.Function):
    """The identity, whose gradient is multiplied with what ``factor`` holds."""

    @staticmethod
    def forward(ctx: object, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.saved_tensors[0], None


class Model(nn.Module):
    """Two layers; the gradient between the second and the loss can be spoilt."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MultiHeadAttention(WIDTH, HEADS) for _ in range(2))

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x if factor is None else Poison.apply(x, factor)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1))


def spoil(at: float) -> Tensor:
    factor = torch.ones(WIDTH)
    factor[3] = at
    return factor


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def test_a_gradient_that_an_optimizer_would_use_is_told_where_it_entered(model: Model, x: Tensor) -> None:
    optimizer = sgd(model)
    with guard(model) as guarding:
        model(x, spoil(math.nan)).sum().backward()
        assert guarding.findings == [], "nothing has happened yet"
        optimizer.step()
    (finding,) = guarding.findings
    assert (finding.cause, finding.layer, finding.heads) == ("gradient", "layers.1", (0, 1, 2, 3))
    assert finding.origin == "the layers after this one"


def test_raise_keeps_the_parameters_as_they_were(model: Model, x: Tensor) -> None:
    optimizer = sgd(model)
    before = [parameter.clone() for parameter in model.parameters()]
    with guard(model, on="raise"):
        model(x, spoil(math.inf)).sum().backward()
        with pytest.raises(NumericError, match="gradient of query, key or value is not finite"):
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def _zeroed(model: Model, guarding: Guard) -> None:
    model.zero_grad()
    sgd(model).step()


def _of_another_model(model: Model, guarding: Guard) -> None:
    other = nn.Linear(2, 2)
    other(torch.ones(1, 2)).sum().backward()
    sgd(other).step()


def _left_out_by_a_fused_optimizer(model: Model, guarding: Guard) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    optimizer.grad_scale, optimizer.found_inf = torch.ones(()), torch.ones(())  # as a scaler tells it
    optimizer.step()


def _no_step_at_all(model: Model, guarding: Guard) -> None:
    model(torch.zeros(1, 3, WIDTH)).sum().backward()


@pytest.mark.parametrize("then", [_zeroed, _of_another_model, _left_out_by_a_fused_optimizer, _no_step_at_all])
def test_a_gradient_that_no_optimizer_uses_is_no_fault(
    model: Model, x: Tensor, then: Callable[[Model, Guard], None]
) -> None:
    """Scalers of the loss find their scale by overflow: a step that is left out is healthy."""
    with guard(model, on="raise") as guarding:
        model(x, spoil(math.inf)).sum().backward()
        then(model, guarding)
    assert guarding.findings == []


def test_a_step_that_a_scaler_leaves_out_is_healthy_and_the_next_one_too(model: Model, x: Tensor) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    optimizer = sgd(model)
    with guard(model, on="raise") as guarding:
        for at in (math.inf, 1.0, math.inf, 1.0):
            scaler.scale(model(x, spoil(at)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    assert guarding.findings == []
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_a_bad_step_is_followed_to_the_parameter_that_it_spoils(model: Model, x: Tensor) -> None:
    optimizer = sgd(model)
    with guard(model) as guarding:
        for at in (1.0, math.nan, 1.0):
            optimizer.zero_grad()
            model(x, spoil(at)).sum().backward()
            optimizer.step()
    told = [(finding.step, finding.cause, finding.layer) for finding in guarding.findings]
    assert told[:2] == [(2, "gradient", "layers.1"), (3, "parameter", "layers.0")]
    assert guarding.findings[1].origin == "the parameter layers.0.query.weight"
