"""The native linear layer as an operator of PyTorch, for those who listen to operators; registered on import."""

import torch
from torch import Tensor

from regard.functional.impl.native_linear import native_linear

__all__ = ["native_linear_operator"]


@torch.library.custom_op(
    "regard::native_linear",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor weight, Tensor? bias) -> Tensor",
)
def native_linear_operator(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``x`` · ``weight``ᵀ + ``bias``."""
    return native_linear(x, weight, bias)


@native_linear_operator.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))
