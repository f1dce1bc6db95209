"""The linear layer for few rows by the native kernels: what decoding spends its time on.

With one token a step every product reads a matrix once, and its time is that of reading. PyTorch's products
read float32 at 80 % of the memory's speed for one row, and at a third of it for eight; bfloat16 at half of it.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from regard.functional.impl.native import native_available, native_module
from regard.functional.impl.native_region import this_machine
from regard.functional.impl.torch_private import modes_are_on, transforms_are_on

__all__ = ["DTYPES", "linear", "native_linear"]

DTYPES = ("float32", "bfloat16")
"""Types that the native layer takes, by name."""
_NUMBERS = {getattr(torch, name): number for number, name in enumerate(DTYPES)}
_PLAIN = (Tensor, torch.nn.Parameter)
_LEAST_WEIGHT = 1 << 16  # numbers, below which a call costs more than its products
_PRODUCTS_OF_A_THREAD = 1 << 18


def linear(
    x: Float[Tensor, "*batch in_features"],
    weight: Float[Tensor, "out_features in_features"],
    bias: Float[Tensor, " out_features"] | None = None,
) -> Float[Tensor, "*batch out_features"]:
    """Return ``x`` · ``weight``ᵀ + ``bias``, by the native kernel where there are few rows, no gradients, and it wins.

    Where it wins is in the table of ``native_region``. Compiled code and autocast take PyTorch's product.
    """
    if torch.is_grad_enabled() or not _takes(x, weight, bias):
        return F.linear(x, weight, bias)
    if modes_are_on():  # somebody listens to operators
        from regard.functional.impl.native_linear_operator import native_linear_operator

        heard: Tensor = native_linear_operator(x, weight, bias)
        return heard
    return native_linear(x, weight, bias)


def native_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Run the native kernel on float32 or bfloat16, for any number of rows; products are summed in float32.

    Raises:
        UnsupportedError: ``regard-native`` is not installed.
    """
    native = native_module()
    out_features, in_features = weight.shape
    rows = x.reshape(math.prod(x.shape[:-1]), in_features)
    rows, weight = (one if one.stride(-1) == 1 else one.contiguous() for one in (rows, weight))
    output = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype)
    if not output.numel():
        return output
    call: Any = native.LinearCall()
    call.rows, call.in_features, call.out_features = len(rows), in_features, out_features
    call.dtype = _NUMBERS[x.dtype]
    products = len(rows) * in_features * out_features
    call.threads = max(1, min(torch.get_num_threads(), products // _PRODUCTS_OF_A_THREAD))
    call.input, call.input_row = rows.data_ptr(), rows.stride(0)
    call.weight, call.weight_row = weight.data_ptr(), weight.stride(0)
    held = None if bias is None else bias.contiguous()
    call.bias = None if held is None else held.data_ptr()
    call.output = output.data_ptr()
    native.run("linear", call)
    return output


def _takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Return whether the kernel can run this and is the faster one."""
    if torch.compiler.is_compiling() or x.device.type != "cpu" or not native_available():
        return False
    if not all(one is None or type(one) in _PLAIN for one in (x, weight, bias)):  # a quantised one has other memory
        return False
    if x.dtype not in _NUMBERS or weight.dtype != x.dtype or (bias is not None and bias.dtype != x.dtype):
        return False
    if weight.numel() < _LEAST_WEIGHT or weight.layout != torch.strided or weight.device.type != "cpu":
        return False
    most = this_machine().most_rows(x.dtype)
    if not 0 < x.numel() <= most * weight.shape[1]:
        return False
    return not torch.is_autocast_enabled("cpu") and not transforms_are_on()
