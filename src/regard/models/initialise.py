"""Weights to start training from scratch with, at any width."""

from torch import nn

__all__ = ["initialise", "initialise_recurrent"]

_EMBEDDING_STD = 0.02
_GATES_OF_LSTM = 4  # input, forget, cell, output


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


def initialise_recurrent(layers: nn.RNNBase | nn.RNNCellBase) -> None:
    """Draw the weights of recurrent layers, gate by gate: orthogonal from state to state, uniform from the input.

    Biases are 0, those of an LSTM's forget gates 1, so that it remembers until it learns to forget.

    References:
        Saxe et al., arXiv:1312.6120; Jozefowicz et al., An empirical exploration of recurrent network architectures
        (ICML 2015), section 2.2.
    """
    for name, parameter in layers.named_parameters():
        gates = parameter.split(layers.hidden_size)
        if name.startswith("weight_hh"):
            for gate in gates:
                nn.init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            bound = parameter.shape[1] ** -0.5
            nn.init.uniform_(parameter, -bound, bound)
        else:
            nn.init.zeros_(parameter)
            if name.startswith("bias_ih") and len(gates) == _GATES_OF_LSTM:
                nn.init.ones_(gates[1])
