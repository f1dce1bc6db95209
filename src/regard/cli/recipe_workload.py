"""A recipe at work: its model, before a document was read, and its step of training."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard._errors import UnsupportedError
from regard.cost import Arguments, Workload
from regard.train import ClassifierConfig, choose_hardware, configure
from regard.train.classification.model import new_classifier

__all__ = ["workload_of_recipe"]

_LABELS = 8
"""Classes of a recipe whose data was not read yet; their number hardly matters."""


def workload_of_recipe(recipe: str, settings: Sequence[str]) -> Workload:
    """Return the step that ``recipe`` trains with, at its longest documents.

    Raises:
        UnsupportedError: the recipe is not a classifier's.
        ArgumentError: as for ``configure``; a recipe that reads a file needs its path.
        MissingDependencyError: its model comes with a package that is not installed.
    """
    config = configure(recipe, settings)
    if not isinstance(config, ClassifierConfig):
        raise UnsupportedError(
            f"A recipe that is planned or profiled must be a classifier's, got {recipe!r} for {config.task}; "
            "give the model itself, as the model/ of a run or package.module:factory."
        )
    hardware = choose_hardware(config.device, config.precision)
    wanted = config.model.attention_dtype
    attention = hardware.attention_dtype if wanted == "auto" else torch.float32 if wanted == "float32" else None
    model = new_classifier(
        config.model,
        _LABELS,
        vocab_size=config.model.vocab_size or 1,
        max_len=config.data.max_len,
        pad_id=0,
        attention_dtype=attention,
    )
    vocabulary = next(one.num_embeddings for one in model.modules() if isinstance(one, nn.Embedding))

    def inputs(batch: int, length: int) -> Arguments:
        return Arguments(positional=[torch.randint(vocabulary, (batch, length))])

    def loss(result: Any, arguments: Arguments) -> Tensor:
        return F.cross_entropy(result.float(), torch.zeros(len(result), dtype=torch.int64))

    return Workload(
        model=model,
        inputs=inputs,
        batch=config.optim.batch_size,
        length=config.data.max_len,
        trains=True,
        loss=loss,
        precision="bfloat16" if hardware.precision == torch.bfloat16 else "float32",
        name=recipe,
    )
