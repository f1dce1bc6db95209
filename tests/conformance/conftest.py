"""Attention with one fault planted on purpose: as a function, as a module, and in small models of ``transformers``."""

import math
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BLOCK = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


class Attend:
    """``scaled_dot_product_attention`` written out, with one fault or none.

    Faults: see the branches; each is a mistake that does not raise.
    """

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.__name__ = "attend"

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        fault, group = self.fault, query.shape[1] // key.shape[1]
        if group > 1:
            key, value = (self._repeated(one, group) for one in (key, value))
        scale = self._scale(query, scale)
        scores = (query @ key.mT) * scale if fault != "square" else (query @ key.mT) * scale * scale
        if is_causal:
            scores = self._causal(scores)
        if attn_mask is not None:
            scores = self._masked(scores, attn_mask)
        return self._output(scores, value)

    def _repeated(self, one: Tensor, group: int) -> Tensor:
        return one.repeat(1, group, 1, 1) if self.fault == "tiled heads" else one.repeat_interleave(group, 1)

    def _scale(self, query: Tensor, scale: float | None) -> float:
        width = query.shape[-1] * (query.shape[1] if self.fault == "scaled by embed_dim" else 1)
        if self.fault == "unscaled":
            return 1.0
        return 1 / math.sqrt(width) if scale is None or self.fault == "scale ignored" else scale

    def _causal(self, scores: Tensor) -> Tensor:
        q_len, kv_len = scores.shape[-2:]
        corner = {"sees the next": kv_len - q_len + 1, "top left": 0}.get(self.fault, kv_len - q_len)
        keep = torch.ones(q_len, kv_len, dtype=torch.bool).tril(corner)
        return scores if self.fault == "not causal" else scores.masked_fill(~keep, -torch.inf)

    def _masked(self, scores: Tensor, mask: Tensor) -> Tensor:
        if mask.dtype != torch.bool:
            return scores + mask
        if self.fault == "mask ignored":
            return scores
        if self.fault == "mask as 0 and 1":
            return scores + mask.to(scores.dtype)
        hidden = mask if self.fault == "mask inverted" else ~mask
        return scores.masked_fill(hidden, -1e9 if self.fault == "filled with -1e9" else -torch.inf)

    def _output(self, scores: Tensor, value: Tensor) -> Tensor:
        fault = self.fault
        empty = (scores == -torch.inf).all(-1, keepdim=True)
        if fault == "empty rows are NaN":
            empty = torch.zeros_like(empty)
        weights = scores.masked_fill(empty, 0.0).softmax(-2 if fault == "softmax over queries" else -1)
        weights = weights.masked_fill(empty, 0.0)
        if fault == "clamped weights":
            weights = weights.clamp(max=0.2)
        if fault == "dropped weights":
            weights = F.dropout(weights, 0.2)
        if fault == "detached weights":
            weights = weights.detach()
        output = weights @ value
        if fault == "first of the batch":
            output = output + 1e-3 * (output[:1] - output)
        if fault == "neighbours mixed":
            output = output + 1e-3 * output.roll(1, 2)
        if fault == "writes into value":
            value.mul_(1.5)
        return output.roll(1, 1) if fault == "heads exchanged" else output


class FaultyModule(nn.Module):
    """Multi-head self-attention with four projections, written out, with one fault or none."""

    def __init__(self, fault: str = "", *, embed_dim: int = 16, num_heads: int = 4) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(embed_dim, embed_dim) for _ in range(4))
        self.num_heads, self.fault, self.dropout_p = num_heads, fault, 0.1
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor, context: Tensor | None = None, *, key_padding_mask: Tensor | None = None) -> Tensor:
        fault, context = self.fault, x if context is None else context
        if fault == "context ignored":
            context = x
        query, key, value = (
            layer(of).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, of in ((self.query, x), (self.key, context), (self.value, context))
        )
        factor = torch.full((self.num_heads, 1, 1), query.shape[-1] ** -0.5, dtype=x.dtype)
        if fault == "one head unscaled":
            factor[1] = 1.0
        scores = (query @ key.mT) * factor
        if fault == "counts calls":
            self.calls += 1
        if key_padding_mask is not None:
            scores = self._masked(scores, key_padding_mask)
        weights = scores.softmax(-2 if fault == "softmax over queries" else -1)
        if fault == "dropout in eval":
            weights = F.dropout(weights, self.dropout_p)
        if fault == "training differs" and self.training:
            weights = weights * 1.01
        merged = weights @ value
        if fault == "merged without transpose":
            return self.output(merged.reshape(x.shape))
        return self.output(merged.transpose(1, 2).flatten(2))

    def _masked(self, scores: Tensor, padding: Tensor) -> Tensor:
        if self.fault == "padding ignored":
            return scores
        hidden = ~padding if self.fault == "padding inverted" else padding
        if self.fault == "one head sees padding":
            hidden = hidden[:, None, None, :].expand_as(scores).clone()
            hidden[:, 2] = False
            return scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        return scores.masked_fill(hidden[:, None, None, :], torch.finfo(scores.dtype).min)


def small_model(family: str, impl: str = "sdpa") -> Any:
    """Return a model of two layers with random weights."""
    import transformers as t

    if family == "gpt2":
        config = t.GPT2Config(
            vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=32, attn_implementation=impl, **SPECIAL
        )
        return t.GPT2LMHeadModel(config)
    if family == "bert":
        return t.BertModel(t.BertConfig(vocab_size=50, **BLOCK, attn_implementation=impl), add_pooling_layer=False)
    grouped = {"vocab_size": 50, **BLOCK, "num_key_value_heads": 2, "attn_implementation": impl, **SPECIAL}
    if family == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(**grouped))
    if family == "mistral":
        return t.MistralForCausalLM(t.MistralConfig(**grouped, sliding_window=4))
    if family == "gemma2":
        return t.Gemma2ForCausalLM(t.Gemma2Config(**grouped, head_dim=8, sliding_window=4, attn_logit_softcapping=2.0))
    if family == "bart":
        stacks = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
        stacks |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
        return t.BartForConditionalGeneration(
            t.BartConfig(vocab_size=50, **stacks, max_position_embeddings=32, decoder_start_token_id=1, **SPECIAL)
        )
    raise ValueError(family)


def with_arguments(module: nn.Module, change: Callable[[nn.Module, dict[str, Any]], dict[str, Any]]) -> None:
    """Have ``module`` called with other named arguments; the change moves with a copy of the module."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return type(self).forward(self, *args, **{**kwargs, **change(self, kwargs)})

    module.forward = MethodType(forward, module)  # type: ignore[method-assign]


@pytest.fixture
def attend() -> type[Attend]:
    """Return the maker of functions with a fault."""
    return Attend


@pytest.fixture
def faulty() -> type[FaultyModule]:
    """Return the maker of modules with a fault."""
    return FaultyModule


@pytest.fixture
def small() -> Callable[..., Any]:
    """Return the maker of small models."""
    return small_model


@pytest.fixture
def changed() -> Callable[..., None]:
    """Return what has a module called with other named arguments."""
    return with_arguments
