"""Count what a call of a model costs, without running it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from regard._errors import ArgumentError, UnsupportedError
from regard.cost.account import Account
from regard.cost.footprint import Holding
from regard.cost.imaginary import Imagination
from regard.cost.ledger import Ledger

__all__ = ["account_of", "count", "imagined", "refuse_compiled", "tensors_of"]


def count(model: nn.Module, *inputs: Any, backward: bool = False, real: bool = False, **named: Any) -> Account:
    """Count the operations of ``model(*inputs, **named)``, part by part.

    Nothing is computed unless ``real``: the model runs on shapes alone, so 131,072 tokens cost no more than 16. It runs
    in the mode it is in, training or evaluation, and is left as it is.

    Args:
        model: any module that PyTorch runs operator by operator.
        *inputs: what it is called with; tensors on the ``meta`` device will do.
        backward: whether to count the backward pass too, from the sum of what the model returns.
        real: run for real: needed where a model decides by numbers, and counts what masks of eager attention hide.
        **named: further arguments of the call.

    Raises:
        ArgumentError: the model returns nothing to go backward from.
        UnsupportedError: the model is compiled, or decides by numbers and ``real`` is not given.

    Example:
        >>> layer = nn.TransformerEncoderLayer(768, 12, 3072, dropout=0.0, batch_first=True)
        >>> found = count(layer, torch.zeros(1, 512, 768))
        >>> f"{found.share('attention core'):.0%}"
        '10%'
    """
    refuse_compiled(model)
    imagination = None if real else Imagination()
    counted = model if imagination is None else imagination.module(model)
    if imagination is not None:
        inputs, named = imagined(inputs, imagination), imagined(named, imagination)
    if backward and not torch.is_grad_enabled():
        raise ArgumentError("backward=True needs gradients, got a call under torch.no_grad(); leave that.")

    def run() -> Sequence[Tensor]:
        results = list(tensors_of(counted(*inputs, **named)))
        if backward:
            leaves = [one for one in results if one.requires_grad]
            if not leaves:
                raise ArgumentError("backward=True needs a result with a gradient, got none; train a parameter.")
            torch.autograd.backward([one.sum() for one in leaves])
        return results

    before = {name: parameter.grad for name, parameter in counted.named_parameters()}
    try:
        return account_of(counted, run, list(tensors_of((inputs, named))), imagination, reads_masks=real)
    finally:
        for name, parameter in counted.named_parameters():
            parameter.grad = before[name]


def account_of(
    model: nn.Module,
    run: Callable[[], Sequence[Tensor]],
    inputs: Sequence[Tensor],
    imagination: Imagination | None,
    *,
    state: Sequence[Tensor] = (),
    reads_masks: bool = False,
) -> Account:
    """Return what ``run`` costs, which calls ``model`` with ``inputs`` and returns what the model does.

    Args:
        model: whose weights are known by name.
        run: what is counted.
        inputs: of the model.
        imagination: in which the model lives; None for a real one.
        state: of an optimizer, in use before and after.
        reads_masks: whether to count what eager attention masks.
    """
    ledger = Ledger(model, imagined=imagination is not None, reads_masks=reads_masks)
    ledger.give(inputs)
    for tensor in state:
        ledger.footprint.see(tensor, Holding.OPTIMIZER)
    around: AbstractContextManager[None] = nullcontext() if imagination is None else imagination()
    with torch.random.fork_rng(devices=[]), around, ledger:
        results = run()
    ledger.settle(results)
    return ledger.account(sum(parameter.numel() for parameter in model.parameters()))


def refuse_compiled(model: nn.Module) -> None:
    """Raise ``UnsupportedError`` for a model whose operators nobody hears of."""
    if any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
        raise UnsupportedError(
            "A model must run operator by operator to be counted, got one that torch.compile made; give the module "
            "that was compiled, which is its _orig_mod."
        )


def tensors_of(found: Any) -> Sequence[Tensor]:
    """Return the tensors in arguments or results, in order."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(found) if isinstance(leaf, Tensor)]


def imagined(found: Any, imagination: Imagination) -> Any:
    """Return arguments whose floating tensors have no numbers; ids and masks keep theirs."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and (leaf.dtype.is_floating_point or leaf.is_meta):
            return imagination.tensor(leaf)
        return leaf

    return torch.utils._pytree.tree_map(one, found)
