"""From PyTorch's encoder–decoder to ours."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from regard._errors import ArgumentError, UnsupportedError
from regard.models.transformer import Transformer
from regard.models.transformer_config import TransformerConfig
from regard.modules import from_torch

__all__ = ["transformer_from_torch"]

_ACTIVATIONS = {torch.nn.functional.relu: "relu", torch.nn.functional.gelu: "gelu"}
_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def transformer_from_torch(
    module: nn.Module,
    source: nn.Embedding,
    target: nn.Embedding | None = None,
    output: nn.Linear | None = None,
    **options: Any,
) -> Transformer:
    """Return a model with a copy of the weights of an ``nn.Transformer`` and of the embeddings around it.

    ``nn.Transformer`` begins at vectors and ends at vectors, so its embeddings and its output projection are given
    beside it. Equal to 1e-5 in float32 where the vectors that it was given were √embed_dim · embedding + position.

    Args:
        module: the two stacks, with any ``batch_first``; ours is always batch first. Its causal mask and its padding
            masks need not be given any more, see ``Transformer.forward``.
        source: embeddings of the source's tokens.
        target: embeddings of the target's; None for the same.
        output: projection to the target's vocabulary, without a bias; None for the target's embeddings.
        **options: further fields of ``TransformerConfig``: ``bos_id``, ``eos_id``, ``pad_id``, ``max_len``.

    Raises:
        ArgumentError: ``module`` is something else, or the vocabularies do not fit.
        UnsupportedError: layers that differ, an activation other than ReLU and GELU, or an output with a bias.

    Example:
        >>> theirs = nn.Transformer(8, 2, 1, 1, dim_feedforward=16, batch_first=True)
        >>> transformer_from_torch(theirs, nn.Embedding(20, 8)).config.num_encoder_layers
        1
    """
    if not isinstance(module, nn.Transformer):
        raise ArgumentError(f"transformer_from_torch needs an nn.Transformer, got {type(module).__name__}.")
    if output is not None and output.bias is not None:
        raise UnsupportedError("The output projection must have no bias, got one; make it with bias=False.")
    config = TransformerConfig(
        vocab_size=source.num_embeddings,
        target_vocab_size=None if target is None else target.num_embeddings,
        tied_embeddings="none" if output is not None else "all" if target is None else "target",
        **_sizes(module),
        **options,
    )
    ours = Transformer(config).to(source.weight)
    ours.load_state_dict(dict(_weights(module, source, target or source, output)))
    return ours.train(module.training)


def _sizes(module: nn.Transformer) -> dict[str, Any]:
    """Return the fields of the config that the stacks decide, which all layers must agree on."""
    layers = [one for one in module.modules() if isinstance(one, _LAYERS)]
    found = [_layer_sizes(layer) for layer in layers]
    if any(one != found[0] for one in found):
        raise UnsupportedError("All layers of an nn.Transformer must be alike, got layers that differ.")
    norms = (module.encoder.norm is not None, module.decoder.norm is not None)
    if norms[0] != norms[1]:
        raise UnsupportedError("Encoder and decoder must both end in a norm or both not, got one that does.")
    return {
        **found[0],
        "num_encoder_layers": len(module.encoder.layers),
        "num_decoder_layers": len(module.decoder.layers),
        "final_norm": norms[0],
    }


def _layer_sizes(layer: Any) -> dict[str, Any]:
    activation = "relu" if isinstance(layer.activation, nn.ReLU) else _ACTIVATIONS.get(layer.activation)
    if activation is None:
        raise UnsupportedError(f"The activation must be ReLU or GELU, got {layer.activation!r}.")
    if layer.self_attn.in_proj_bias is None:
        raise UnsupportedError("Layers made with bias=False have no counterpart here; make them with biases.")
    return {
        "embed_dim": layer.self_attn.embed_dim,
        "num_heads": layer.self_attn.num_heads,
        "feed_forward_dim": layer.linear1.out_features,
        "activation": activation,
        "norm": "pre" if layer.norm_first else "post",
        "dropout_p": layer.dropout1.p,
        "attention_dropout_p": layer.self_attn.dropout,
        "layer_norm_eps": layer.norm1.eps,
    }


def _weights(
    module: nn.Transformer, source: nn.Embedding, target: nn.Embedding, output: nn.Linear | None
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under our names."""
    yield "source_embeddings.tokens.weight", source.weight
    yield "target_embeddings.tokens.weight", target.weight
    if output is not None:
        yield "output.weight", output.weight
    stacks = {
        "encoder": (module.encoder, ("attention", "feed_forward"), ("self_attn",)),
        "decoder": (
            module.decoder,
            ("self_attention", "cross_attention", "feed_forward"),
            ("self_attn", "multihead_attn"),
        ),
    }
    for name, (stack, sublayers, attentions) in stacks.items():
        for number, layer in enumerate(stack.layers):
            before = f"{name}.layer.{number}."
            for place, sublayer in enumerate(sublayers, start=1):
                yield from _linear(f"{before}{sublayer}_norm", getattr(layer, f"norm{place}"))
            for sublayer, attention in zip(sublayers, attentions, strict=False):
                yield from _attention(before + sublayer, getattr(layer, attention))
            yield from _linear(f"{before}feed_forward.hidden", layer.linear1)
            yield from _linear(f"{before}feed_forward.output", layer.linear2)
        if stack.norm is not None:
            yield from _linear(f"{name}.norm", stack.norm)


def _linear(name: str, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for kind, parameter in module.named_parameters():
        yield f"{name}.{kind}", parameter


def _attention(name: str, module: nn.MultiheadAttention) -> Iterator[tuple[str, Tensor]]:
    for kind, parameter in from_torch(module).named_parameters():
        yield f"{name}.{kind}", parameter
