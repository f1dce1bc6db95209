"""How many floating-point operations an operator spends in matrix products: two for each multiplication that is added.

This is the convention of the literature. Formulas of PyTorch's own counter are taken where it has them; it has none for
attention on a CPU, recurrent layers and matrix–vector products. Attention is counted in ``attention_work``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

__all__ = ["FACTORS", "product_flops"]

FACTORS: Mapping[str, tuple[int, int]] = {
    "_addmm_activation": (1, 2),
    "_int_mm": (0, 1),
    "_linear_pointwise": (0, 1),
    "addmm": (1, 2),
    "addmv": (1, 2),
    "baddbmm": (1, 2),
    "bmm": (0, 1),
    "convolution": (0, 1),
    "dot": (0, 1),
    "linear": (0, 1),
    "matmul": (0, 1),
    "mkldnn_linear": (0, 1),
    "mm": (0, 1),
    "mv": (0, 1),
    "native_linear": (0, 1),
    "vdot": (0, 1),
}
"""Operators that are one product -> the places of its two factors among the arguments."""


def product_flops(operator: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int | None:
    """Return the operations that ``operator`` spends in products; None where there is no formula for it."""
    name = operator._schema.name.partition("::")[2]
    own = _FORMULAS.get(name)
    if own is not None:
        return own(args, result)
    from torch.utils.flop_counter import flop_registry

    formula = flop_registry.get(operator._overloadpacket)
    return None if formula is None else int(formula(*args, **kwargs, out_val=result))


def _linear(args: Sequence[Any], result: Tensor) -> int:
    return 2 * result.numel() * int(args[0].shape[-1])


def _addmm_activation(args: Sequence[Any], result: Tensor) -> int:
    return 2 * result.numel() * int(args[1].shape[-1])


def _mv(args: Sequence[Any], result: Tensor) -> int:
    return 2 * int(args[0].numel())


def _addmv(args: Sequence[Any], result: Tensor) -> int:
    return 2 * int(args[1].numel())


def _onednn_recurrent(args: Sequence[Any], result: Any) -> int:
    """Count one layer in one direction: each frame (len, batch, width) meets both matrices."""
    frames, of_input, of_state = args[:3]
    return 2 * int(frames.shape[0] * frames.shape[1]) * int(of_input.numel() + of_state.numel())


def _onednn_recurrent_backward(args: Sequence[Any], result: Any) -> int:
    return 2 * _onednn_recurrent(args, result)


def _cudnn_recurrent(args: Sequence[Any], result: Any) -> int:
    frames, weights = args[:2]
    return 2 * (int(frames.numel()) // int(frames.shape[-1])) * sum(int(one.numel()) for one in weights if one.ndim > 1)


_FORMULAS: Mapping[str, Callable[[Sequence[Any], Any], int]] = {
    "_addmm_activation": _addmm_activation,
    "_cudnn_rnn": _cudnn_recurrent,
    "_int_mm": _linear,
    "_linear_pointwise": _linear,
    "addmv": _addmv,
    "dot": _mv,
    "linear": _linear,
    "mkldnn_linear": _linear,
    "mkldnn_rnn_layer": _onednn_recurrent,
    "mkldnn_rnn_layer_backward": _onednn_recurrent_backward,
    "mv": _mv,
    "native_linear": _linear,
    "vdot": _mv,
}
