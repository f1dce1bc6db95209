"""From one attention module of ``transformers`` to ours."""

from typing import Any

from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.models._hf import bert, gpt2, llama
from regard.models.decoder_config import DecoderConfig
from regard.modules import MultiHeadAttention

__all__ = ["attention_from_hf"]


def attention_from_hf(module: nn.Module) -> MultiHeadAttention:
    """Return a layer with a copy of the weights of one attention module of a GPT-2, a Llama or a BERT.

    It computes what the module computes with its output projection, to 1e-5 in float32: in a ``BertAttention`` that is
    the part before dropout, residual and norm. A Llama's layer turns queries and keys by their positions itself.

    Args:
        module: a ``GPT2Attention``, ``LlamaAttention`` or ``BertAttention``; it stays as it is.

    Raises:
        ArgumentError: ``module`` is something else, such as cross-attention.
        UnsupportedError: its config has something that our layer does not have; it is named.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=1, intermediate_size=64)
        >>> theirs = LlamaForCausalLM(config).model.layers[0].self_attn
        >>> attention_from_hf(theirs)(torch.zeros(1, 5, 32)).shape
        torch.Size([1, 5, 32])
    """
    kind = type(module).__name__
    read = {"GPT2Attention": _gpt2, "LlamaAttention": _llama, "BertAttention": _bert}.get(kind)
    if read is None or hasattr(module, "q_attn"):
        raise ArgumentError(
            f"The self-attention of a GPT-2, Llama or BERT is needed, got a {kind}; "
            "give its GPT2Attention, LlamaAttention or BertAttention."
        )
    ours, weights = read(module)
    ours = ours.to(next(module.parameters()))
    ours.load_state_dict(weights)
    return ours.train(module.training)


def _gpt2(module: Any) -> tuple[MultiHeadAttention, dict[str, Tensor]]:
    config = gpt2.config_from_hf(module.config.to_dict(), source="The config of the module")
    weights: dict[str, Tensor] = {}
    for leaf, fused in (("weight", module.c_attn.weight.T), ("bias", module.c_attn.bias)):
        parts = fused.chunk(3)
        weights |= {f"{name}.{leaf}": part for name, part in zip(("query", "key", "value"), parts, strict=True)}
    weights |= {"output.weight": module.c_proj.weight.T, "output.bias": module.c_proj.bias}
    return _causal(config), weights


def _llama(module: Any) -> tuple[MultiHeadAttention, dict[str, Tensor]]:
    config = llama.config_from_hf(module.config.to_dict(), source="The config of the module")
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
    return _causal(config), _of_linears({ours: getattr(module, theirs) for ours, theirs in names.items()})


def _bert(module: Any) -> tuple[MultiHeadAttention, dict[str, Tensor]]:
    config = bert.config_from_hf(module.self.config.to_dict(), source="The config of the module")
    ours = MultiHeadAttention(config.embed_dim, config.num_heads, dropout_p=config.attention_dropout_p)
    projections = {name: getattr(module.self, name) for name in ("query", "key", "value")}
    return ours, _of_linears({**projections, "output": module.output.dense})


def _causal(config: DecoderConfig) -> MultiHeadAttention:
    return MultiHeadAttention(
        config.embed_dim,
        config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        bias=config.attention_bias,
        dropout_p=config.attention_dropout_p,
        causal=True,
        rotary=config.rotary_base if config.positions == "rotary" else None,
    )


def _of_linears(linears: dict[str, nn.Linear]) -> dict[str, Tensor]:
    return {
        f"{name}.{leaf}": tensor for name, linear in linears.items() for leaf, tensor in linear.state_dict().items()
    }
