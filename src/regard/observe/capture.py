"""Catch attention calls while they run, through PyTorch's own extension points and without changing the call.

A ``TorchFunctionMode`` sees ``scaled_dot_product_attention`` and ``regard.attention`` with their masks as the model
passed them. While such a call runs, a ``TorchDispatchMode`` below autograd sees the kernel that PyTorch really chose,
its query and key after autocast, and the log-sum-exp that the kernel computed anyway.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from regard.functional import attention, causal_mask

__all__ = ["AttentionCall", "CaptureMode"]

_FUSED = "_scaled_dot_product_"
# Position of the log-sum-exp among the outputs, by kernel; kernels that pad it or leave it out are not listed.
_LSE_OUTPUT = {"_scaled_dot_product_flash_attention_for_cpu": 1, "_scaled_dot_product_flash_attention": 1}


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """One attention call as the kernel saw it; all tensors are detached views, nothing is copied.

    ``query`` is (batch, heads, q_len, head_dim), ``key`` (batch, kv_heads, kv_len, head_dim), ``output``
    (batch, heads, q_len, value_dim), ``lse`` (batch, heads, q_len) or None where the kernel keeps it to itself.
    """

    query: Tensor
    key: Tensor
    output: Tensor
    lse: Tensor | None
    attn_mask: Tensor | None
    attn_bias: Tensor | None
    causal: bool
    scale: float | None
    softcap: float | None
    dropout_p: float
    kernel: str

    @property
    def kind(self) -> str:
        """``self`` for equal lengths, ``decode`` for one query against many keys, else ``cross``."""
        q_len, kv_len = self.query.shape[2], self.key.shape[2]
        if q_len == kv_len:
            return "self"
        return "decode" if q_len == 1 else "cross"

    @property
    def masking(self) -> dict[str, Any]:
        """The arguments that shape the scores, as ``regard.functional`` takes them."""
        names = ("attn_mask", "attn_bias", "causal", "scale", "softcap")
        return {name: getattr(self, name) for name in names}

    def select_heads(self, heads: Sequence[int]) -> "AttentionCall":
        """Return the same call with only ``heads``, each with its own key head."""
        group = self.query.shape[1] // self.key.shape[1]
        chosen = torch.tensor(list(heads), device=self.query.device)
        taken: dict[str, Any] = {"query": chosen, "output": chosen, "lse": chosen, "key": chosen // group}
        for name in ("attn_mask", "attn_bias"):
            tensor = getattr(self, name)
            taken[name] = chosen if tensor is not None and tensor.shape[1] > 1 else None
        picked = {
            name: getattr(self, name).index_select(1, index)
            for name, index in taken.items()
            if index is not None and getattr(self, name) is not None
        }
        return replace(self, **picked)

    @property
    def mask_kind(self) -> str:
        """What restricts or biases the scores: ``none``, or names joined by ``+``."""
        kinds = {"causal": self.causal, "mask": self.attn_mask is not None, "bias": self.attn_bias is not None}
        return "+".join(name for name, present in kinds.items() if present) or "none"


class CaptureMode(TorchFunctionMode):
    """Hand every attention call to ``receive`` after it ran; the call's result is returned untouched."""

    def __init__(self, receive: Callable[[AttentionCall], None]) -> None:
        super().__init__()
        self._receive = receive

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and, if it is an attention function, report it."""
        kwargs = dict(kwargs or {})
        if func is not F.scaled_dot_product_attention and func is not attention:
            return func(*args, **kwargs)
        with _KernelMode() as kernel:
            output = func(*args, **kwargs)
        arguments = _from_torch(*args, **kwargs) if func is not attention else _from_regard(*args, **kwargs)
        with torch.no_grad():
            self._receive(_call(arguments, output, kernel))
        return output


class _KernelMode(TorchDispatchMode):
    """Note which fused kernel ran and what went in and out of it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name: str | None = None
        self.query: Tensor | None = None
        self.key: Tensor | None = None
        self.lse: Tensor | None = None
        self.num_fused = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name.startswith(_FUSED) and not name.endswith("_backward"):
            self.num_fused += 1
            self.name, self.query, self.key = name, args[0], args[1]
            position = _LSE_OUTPUT.get(name)
            self.lse = None if position is None else result[position]
        return result


def _from_torch(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> dict[str, Any]:
    """Translate the arguments of torch's function: a float mask is a bias, and its causal corner is the top left."""
    mask = attn_mask if attn_mask is not None and attn_mask.dtype == torch.bool else None
    bias = attn_mask if mask is None else None
    q_len, kv_len = query.shape[-2], key.shape[-2]
    if is_causal and q_len != kv_len:
        mask, is_causal = causal_mask(q_len, q_len, device=query.device), False
        mask = mask[:, :kv_len] if kv_len < q_len else torch.nn.functional.pad(mask, (0, kv_len - q_len), value=False)
    return {
        "query": query,
        "key": key,
        "attn_mask": mask,
        "attn_bias": bias,
        "causal": is_causal,
        "scale": scale,
        "softcap": None,
        "dropout_p": dropout_p,
        "kernel": "math",
    }


def _from_regard(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    impl: str = "auto",
) -> dict[str, Any]:
    return {
        "query": query,
        "key": key,
        "attn_mask": attn_mask,
        "attn_bias": attn_bias,
        "causal": causal,
        "scale": scale,
        "softcap": softcap,
        "dropout_p": dropout_p,
        "kernel": f"regard {impl}",
    }


def _call(arguments: dict[str, Any], output: Tensor, kernel: _KernelMode) -> AttentionCall:
    """Join what the model asked for with what the kernel saw; the kernel's tensors win where there was exactly one."""
    if kernel.num_fused == 1 and kernel.query is not None and kernel.query.shape == arguments["query"].shape:
        fused = {"query": kernel.query, "key": kernel.key, "kernel": kernel.name}
        lse = kernel.lse
    else:
        fused, lse = {"kernel": kernel.name or arguments["kernel"]}, None
    merged = {**arguments, **fused}
    merged["output"] = output
    without_heads = arguments["query"].ndim == 3
    for name in ("query", "key", "output", "attn_mask", "attn_bias"):
        if merged[name] is not None:
            merged[name] = _four_axes(merged[name].detach(), without_heads)
    return AttentionCall(**merged, lse=lse)


def _four_axes(tensor: Tensor, without_heads: bool) -> Tensor:
    """Give a call without head or batch axis axes of length one, so that statistics see one layout.

    Three axes of a query are (batch, len, head_dim), as PyTorch broadcasts them; a mask of three axes then has no head
    axis either.
    """
    if without_heads and tensor.ndim == 3:
        return tensor[:, None]
    return tensor[(None,) * (4 - tensor.ndim)] if tensor.ndim < 4 else tensor
