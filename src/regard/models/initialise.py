"""Weights to start training from scratch with, at any width."""

from torch import nn

__all__ = ["initialise"]

_EMBEDDING_STD = 0.02


def initialise(module: nn.Module) -> None:
    """Draw the weights of one module so that its scale fits its width; for ``nn.Module.apply``.

    - linear: uniform in ±1/√fan_in, a standard deviation of 1/√(3 · fan_in), which BERT's fixed 0.02 only meets near
      width 800; biases 0;
    - embedding: normal(0, 0.02). The layer norm behind it takes the scale away from what follows, so it decides only
      how far a step of the optimiser turns a word's vector, and small ones learn sooner;
    - layer norm: 1 and 0; RMSNorm: 1.

    References:
        LeCun et al., Efficient BackProp (1998), section 4.6; Devlin et al., BERT, arXiv:1810.04805.
    """
    if isinstance(module, nn.Linear):
        bound = module.in_features**-0.5
        nn.init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=_EMBEDDING_STD)
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.reset_parameters()
