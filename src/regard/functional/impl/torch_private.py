"""The one computing module that touches private parts of PyTorch: its CPU flash kernel with the log-sum-exp, oneDNN.

The public ``scaled_dot_product_attention`` keeps the log-sum-exp to itself. Below it, ``aten`` has one operator per
kernel; the CPU one returns the log-sum-exp unpadded and in natural units for every dtype. On a GPU the operators
(``_scaled_dot_product_flash_attention``, ``…_efficient_attention``, ``…_cudnn_attention``) differ from version to
version in whether they return it, in which units and with how much padding, so they are not called from here: whoever
catches their call takes what they returned.

Products of float32 go to MKL, which reaches less than half of what oneDNN does on processors of AMD, and PyTorch calls
oneDNN for float32 only within convolutions and compiled code. The operator that compiled code calls is used here.
"""

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, wraps
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from regard._errors import UnsupportedError

__all__ = [
    "constant_when_compiled",
    "cpu_flash_available",
    "flash_with_lse",
    "has_amx",
    "is_imaginary",
    "modes_are_on",
    "never_compiled",
    "product_of_transposed",
    "scaled_above_zero",
    "transforms_are_on",
    "unheard",
]

Answer = TypeVar("Answer", bound=Callable[..., Any])

_FEWEST_PRODUCTS = 1 << 16  # below this oneDNN is no faster
_OPERATOR = "_scaled_dot_product_flash_attention_for_cpu"


def cpu_flash_available(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Return whether ``flash_with_lse`` can run on these tensors."""
    return _obstacle(query, key, value) is None


def flash_with_lse(
    query: Float[Tensor, "batch heads q_len head_dim"],
    key: Float[Tensor, "batch kv_heads kv_len head_dim"],
    value: Float[Tensor, "batch kv_heads kv_len head_dim"],
    *,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[Float[Tensor, "batch heads q_len head_dim"], Float[Tensor, "batch heads q_len"]]:
    """Return attention and the log-sum-exp of each row's scores from one call of PyTorch's fused CPU kernel.

    Args:
        query: what asks.
        key: what is compared with.
        value: what is summed; the kernel wants it as wide as the key.
        attn_bias: (batch or 1, heads or 1, q_len or 1, kv_len), added to the scores; -inf forbids.
        causal: bottom-right causal; more keys than queries, or a bias as well, need a bias that says so.
        scale: factor of the dot products, 1 / √head_dim by default.

    Returns:
        The output, and the log-sum-exp in float32 (float64 for float64), -inf for a row without keys.

    Raises:
        UnsupportedError: another device, unequal widths, an empty tensor, a combination the kernel has not, or a
            PyTorch without this operator.
    """
    obstacle = _obstacle(query, key, value)
    if obstacle is None and causal and (attn_bias is not None or query.shape[2] != key.shape[2]):
        obstacle = "causal with equal lengths and without a bias, or a bias that holds the causal mask"
    if obstacle is not None:
        raise UnsupportedError(f"PyTorch's CPU flash kernel needs {obstacle}; use route='streaming' or impl='chunked'.")
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    if causal:
        query, scale = scaled_above_zero(query, scale)
    operator = getattr(torch.ops.aten, _OPERATOR)
    output, lse = operator(query, key, value, 0.0, causal, attn_mask=attn_bias, scale=scale)
    if attn_bias is not None:
        # The kernel reports 0 for a row without keys.
        empty = (attn_bias == -torch.inf).all(-1)
        lse = lse.masked_fill(empty, -torch.inf)
    return output, lse


def scaled_above_zero(query: Tensor, scale: float) -> tuple[Tensor, float]:
    """Return queries and a scale above 0 that give the same scores.

    PyTorch's CPU kernel hides later keys before it scales the scores, and -inf times another scale hides nothing.
    """
    if scale > 0:
        return query, scale
    return (-query, -scale) if scale < 0 else (query * 0.0, 1.0)


def product_of_transposed(left: Tensor, right: Tensor) -> Tensor | None:
    """Return left · rightᵀ of (batch, heads, ·, width), or None where oneDNN is not there or no faster.

    Operands are copied into the order that it wants, a matrix at a time: others take it a thousand times as long.
    """
    size = left.shape[2] * right.shape[2]
    if size < _FEWEST_PRODUCTS or left.device.type != "cpu" or left.dtype != torch.float32 or not _has_onednn():
        return None
    linear = torch.ops.mkldnn._linear_pointwise.default
    places = [(batch, head) for batch in range(left.shape[0]) for head in range(left.shape[1])]
    products = [linear(left[at].contiguous(), right[at].contiguous(), None, "none", [], "") for at in places]
    whole = products[0][None] if len(products) == 1 else torch.stack(products)
    return whole.reshape(*left.shape[:2], *whole.shape[1:])


def constant_when_compiled(function: Answer) -> Answer:
    """Let ``torch.compile`` call ``function`` once and take the answer as known.

    It is what ``torch.compiler.assume_constant_result`` does, which imports the compiler (and Triton) at once.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def never_compiled(function: Answer) -> Answer:
    """Let code that ``torch.compile`` made call ``function``, and what that calls, as they are.

    It is what ``torch.compiler.disable`` does, which imports the compiler at once; here only where it is there already.
    """

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        return torch.compiler.disable(function)(*args, **kwargs)

    called._torchdynamo_disable = True  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]


def is_imaginary(tensor: Tensor) -> bool:
    """Return whether ``tensor`` has a shape and a type but no numbers, as a model has that is planned and not run."""
    return getattr(tensor, "fake_mode", None) is not None


def modes_are_on() -> bool:
    """Return whether somebody listens to every operator, who would not hear of a kernel that is none."""
    return bool(torch._C._len_torch_dispatch_stack())


def transforms_are_on() -> bool:
    """Return whether a transform such as ``torch.vmap`` or forward differentiation is at work, which kernels lose."""
    return torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0


def unheard() -> AbstractContextManager[None]:
    """Let operators run for real and by themselves: no mode that counts, traces or imagines hears of them."""
    return _disable_current_modes()


def has_amx() -> bool:
    """Return whether this processor has matrix units that PyTorch uses for bfloat16."""
    return bool(torch.cpu._is_amx_tile_supported())


@cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _obstacle(query: Tensor, key: Tensor, value: Tensor) -> str | None:
    """Return what the kernel would need, or None."""
    if not hasattr(torch.ops.aten, _OPERATOR):
        return f"a PyTorch with {_OPERATOR}, which {torch.__version__} is not"
    if any(tensor.device.type != "cpu" for tensor in (query, key, value)):
        return "tensors on the CPU"
    if query.shape[-1] != value.shape[-1]:
        return f"values as wide as keys, got {value.shape[-1]} and {query.shape[-1]}"
    if query.numel() == 0 or key.numel() == 0:
        return "at least one sequence, query and key"
    return None
