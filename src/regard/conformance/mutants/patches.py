"""Small patches of modules: a method of one object replaced, or the kernel of one attention layer of transformers."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from regard.conformance.mutants.steps import Steps

__all__ = ["derived", "kernel", "with_kernel"]


def derived(module: nn.Module, **methods: Callable[..., Any]) -> None:
    """Replace methods of one module, as a subclass would; copies of it keep them."""
    own: Any = type(module)
    module.__class__ = type(own.__name__, (own,), methods)


def kernel(steps: Steps, *, merge: bool = True) -> Callable[..., tuple[Tensor, None]]:
    """Return an attention function of transformers that does ``steps``.

    Args:
        steps: the attention.
        merge: hand heads over behind the tokens, (batch, len, heads, head_dim), as its layers expect.
    """

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        alone = attention_mask is None and query.shape[2] > 1
        output = steps(query, key, value, attention_mask, dropout, bool(causal and alone), scaling)
        return output.transpose(1, 2).contiguous() if merge else output, None

    return attend


def with_kernel(layer: Any, name: str, attend: Callable[..., Any]) -> None:
    """Have one attention layer call ``attend``; masks are still made as for the model's own implementation.

    Args:
        layer: an attention layer that looks up its attention function by its configuration.
        name: under which ``attend`` is registered with transformers.
        attend: the attention function.
    """
    ALL_ATTENTION_FUNCTIONS.register(f"regard_mutant_{name}", attend)
    config = copy.copy(layer.config)
    config._attn_implementation = f"regard_mutant_{name}"
    layer.config = config
