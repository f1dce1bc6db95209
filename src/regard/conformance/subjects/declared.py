"""What the configuration and class of a model declare: whether it is causal, its scale, soft cap and window."""

import sys
from typing import Any

from torch import nn

from regard.conformance.subjects.rotary import attention_factors

__all__ = ["declared"]

_UNSCALED = {
    "t5": "T5 scales nothing: its initialisation has the factor",
    "mt5": "as T5",
    "umt5": "as T5",
    "longt5": "as T5",
    "switch_transformers": "as T5",
    "pop2piano": "as T5",
    "udop": "as T5",
    "gpt_neo": "GPT-Neo does not scale",
}


def declared(module: nn.Module) -> dict[str, tuple[Any, str]]:
    """Return the traits that ``module`` declares, as ``Traits.told`` takes them."""
    config: Any = getattr(module, "config", None)
    found: dict[str, tuple[Any, str] | None] = {"causal": _causal(module, config)}
    found |= {"scale": _scale(config), "softcap": _softcap(config), "window": _window(config)}
    found |= {"num_kv_heads": _kv_heads(config), "attention_factors": attention_factors(config)}
    return {name: one for name, one in found.items() if one is not None}


def _causal(module: nn.Module, config: Any) -> tuple[bool, str] | None:
    if getattr(config, "is_encoder_decoder", False):
        return True, "the decoder of an encoder–decoder is"
    if getattr(config, "is_causal", None) is False:
        return False, "config.is_causal is False"
    if getattr(config, "use_bidirectional_attention", None) in (True, "all"):
        return False, f"config.use_bidirectional_attention is {config.use_bidirectional_attention!r}"
    name = type(module).__name__
    if any(word in name for word in ("CausalLM", "LMHeadModel", "ForCausal")):
        return True, f"its class is called {name}"
    for trait in ("is_decoder", "causal"):
        if getattr(config, trait, False) is True:
            return True, f"config.{trait}"
    if getattr(config, "model_type", None) in _fill_masks():
        return False, f"{config.model_type} models are trained to fill in masked tokens"
    told = [one.is_causal for one in module.modules() if isinstance(getattr(one, "is_causal", None), bool)]
    if told:
        return any(told), f"is_causal of its attention layers is {any(told)}"
    return None


def _fill_masks() -> frozenset[str]:
    """Return the model types of transformers that have a head for masked tokens; without it imported, none."""
    auto = sys.modules.get("transformers.models.auto.modeling_auto")
    return frozenset(getattr(auto, "MODEL_FOR_MASKED_LM_MAPPING_NAMES", ()))


def _scale(config: Any) -> tuple[float, str] | None:
    multiplier = getattr(config, "attention_multiplier", None)
    if isinstance(multiplier, (int, float)):
        return float(multiplier), "config.attention_multiplier"
    scalar = getattr(config, "query_pre_attn_scalar", None)
    if isinstance(scalar, (int, float)):
        return float(scalar) ** -0.5, "config.query_pre_attn_scalar ** -0.5"
    if getattr(config, "scale_attn_weights", True) is False:
        return 1.0, "config.scale_attn_weights is False"
    kind = getattr(config, "model_type", None)
    return (1.0, _UNSCALED[kind]) if kind in _UNSCALED else None


def _softcap(config: Any) -> tuple[float, str] | None:
    cap = getattr(config, "attn_logit_softcapping", None)
    return (float(cap), "config.attn_logit_softcapping") if cap else None


def _window(config: Any) -> tuple[int, str] | None:
    window = getattr(config, "sliding_window", None)
    used = getattr(config, "use_sliding_window", True)
    return (window, "config.sliding_window") if isinstance(window, int) and window and used else None


def _kv_heads(config: Any) -> tuple[int, str] | None:
    number = getattr(config, "num_key_value_heads", None)
    return (number, "config.num_key_value_heads") if isinstance(number, int) else None
