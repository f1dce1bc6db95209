"""Mutants of attention modules: ``nn.MultiheadAttention`` called the wrong way, and a module with four projections."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.adapters import AttentionModule
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.steps import Steps

__all__ = ["MODULE_MUTANTS"]

_WIDTH, _HEADS = 16, 4


class _Projected(nn.Module):
    """Multi-head self-attention with four projections, and each of its choices open to change."""

    def __init__(self, merge: bool = True, dropout: float = 0.1, always: bool = False) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(_WIDTH, _WIDTH) for _ in range(4))
        self.num_heads, self.merge, self.dropout_p, self.always = _HEADS, merge, dropout, always
        self.roles = ("query", "key", "value")  # the projections that make query, key and value

    def forward(self, x: Tensor, context: Tensor | None = None, key_padding_mask: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        query, key, value = (
            getattr(self, name)(one).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for name, one in zip(self.roles, (x, context, context), strict=True)
        )
        mask = None if key_padding_mask is None else ~key_padding_mask[:, None, None]
        dropout_p = self.dropout_p if self.training or self.always else 0.0
        attended = Steps()(query, key, value, mask, dropout_p)
        merged = attended.transpose(1, 2).flatten(2) if self.merge else attended.reshape(*x.shape)
        output: Tensor = self.output(merged)
        return output


def _projected(seed: int, **choices: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Projected(**choices)


def _torch(seed: int) -> AttentionModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = nn.MultiheadAttention(_WIDTH, _HEADS, batch_first=True)
    return _called(module, _as_documented)


def _called(module: nn.Module, call: Callable[..., Tensor]) -> AttentionModule:
    return AttentionModule(module=module, call=call, embed_dim=_WIDTH, num_heads=_HEADS, causal="never")


def _as_documented(module: Any, x: Tensor, keep: Tensor | None, causal: bool) -> Tensor:
    output: Tensor = module(x, x, x, key_padding_mask=None if keep is None else ~keep, need_weights=False)[0]
    return output


def _inverted(module: Any, x: Tensor, keep: Tensor | None, causal: bool) -> Tensor:
    output: Tensor = module(x, x, x, key_padding_mask=keep, need_weights=False)[0]
    return output


def _repeated(module: Any, x: Tensor, keep: Tensor | None, causal: bool) -> Tensor:
    if keep is None:
        return _as_documented(module, x, keep, causal)
    hidden = (~keep)[:, None].expand(-1, x.shape[1], -1).repeat(_HEADS, 1, 1)
    output: Tensor = module(x, x, x, attn_mask=hidden, need_weights=False)[0]
    return output


def _batch_second(module: Any, x: Tensor, keep: Tensor | None, causal: bool) -> Tensor:
    y = x.transpose(0, 1)
    output: Tensor = module(y, y, y, need_weights=False)[0]
    return output.transpose(0, 1)


def _with(call: Callable[..., Tensor]) -> Callable[[AttentionModule], AttentionModule]:
    return lambda healthy: _called(healthy.module, call)


def _changed(name: str, value: Any) -> Callable[[nn.Module], nn.Module]:
    def mutate(module: nn.Module) -> nn.Module:
        setattr(module, name, value)
        return module

    return mutate


def _mutant(
    on: str,
    healthy: Callable[[int], Any],
    name: str,
    kind: str,
    rule: str,
    report: str,
    says: str,
    mutate: Callable[[Any], Any],
) -> Mutant:
    return Mutant(
        name=name,
        kind=kind,
        report=report,
        report_says=says,
        on=on,
        rule=rule,
        healthy=healthy,
        mutate=mutate,
    )


_TORCH, _PROJECTED = "nn.MultiheadAttention", "module with four projections"

MODULE_MUTANTS = (
    _mutant(
        _TORCH,
        _torch,
        "key_padding_mask of real tokens",
        "mask inverted",
        "mask_sense",
        "mlwithme/TransformerTranslation#6",
        "a padding mask was filled where it was true although its zeros stood for padding",
        _with(_inverted),
    ),
    _mutant(
        _TORCH,
        _torch,
        "attn_mask repeated heads outermost",
        "mask of another sequence of the batch",
        "batch",
        "line/lighthouse#77",
        "the mask was tiled over heads (M0 M1 M0 M1) where nn.MultiheadAttention expects M0 M0 M1 M1",
        _with(_repeated),
    ),
    _mutant(
        _TORCH,
        _torch,
        "batch taken for the sequence",
        "attention over the batch",
        "batch",
        "om-ai-lab/OmDet#19",
        "nn.MultiheadAttention without batch_first=True got tensors with the batch first",
        _with(_batch_second),
    ),
    _mutant(
        _PROJECTED,
        _projected,
        "heads viewed without transpose",
        "heads merged in the wrong order",
        "head_merge",
        "meta-pytorch/opacus#825",
        "with batch_first=True heads were viewed as time steps, without the transpose before it",
        _changed("merge", False),
    ),
    _mutant(
        _PROJECTED,
        _projected,
        "dropout in evaluation",
        "dropout active in evaluation",
        "dropout",
        "NVIDIA/torch-harmonics#221",
        "a module passed its dropout probability to the kernel in evaluation mode as well",
        _changed("always", True),
    ),
    _mutant(
        _PROJECTED,
        _projected,
        "values from the projection of keys",
        "value from another projection",
        "roles",
        "yflyzhang/AnnotatedTransformer#1",
        "values went through the projection of keys, and that of values was never used",
        _changed("roles", ("query", "key", "key")),
    ),
)
