"""What a name stands for is told apart without calling what must not be called."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regard import RegardError
from regard.conformance.subjects.made import made


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    return torch.zeros_like(query)


class Ready(nn.Module):
    """A module that needs no arguments."""


@pytest.mark.parametrize("found", [attend, F.scaled_dot_product_attention, nn.Linear(2, 2), lambda q, k, v: q])
def test_modules_and_attention_functions_stand_for_themselves(found: object) -> None:
    assert made(found, "x") is found


@pytest.mark.parametrize("found", [Ready, lambda: Ready(), lambda width=3: Ready()])
def test_what_needs_no_arguments_makes_the_model(found: object) -> None:
    assert isinstance(made(found, "x"), Ready)


def test_a_factory_may_make_a_function() -> None:
    assert made(lambda: attend, "x") is attend


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (3, "x must be a model, a module, an attention function or a function that makes one, got int"),
        (lambda width, depth: Ready(), "got one that needs width, depth; write a function without arguments"),
        (nn.Linear, "got one that needs in_features, out_features"),
        (lambda: None, "x must return a model, a module or an attention function, got None"),
        (lambda: 3, "got an object of type int"),
    ],
)
def test_anything_else_gets_one_sentence(found: object, message: str) -> None:
    with pytest.raises(RegardError, match=message):
        made(found, "x")
