"""Callbacks for training loops of other people, made from whichever library is installed."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard._errors import MissingDependencyError
from regard.observe.callbacks.settings import Settings
from regard.observe.recorders import Recorder

if TYPE_CHECKING:
    from regard.observe.callbacks.hugging_face_callback import HuggingFaceCallback
    from regard.observe.callbacks.lightning_callback import LightningHooks

__all__ = ["hugging_face", "lightning"]

_LIGHTNING = ("lightning.pytorch", "pytorch_lightning")


def hugging_face(
    *,
    run: Path | str | None = None,
    log: bool = False,
    recorder: Recorder | Sequence[Recorder] | None = None,
    guard: str = "off",
    **watching: Any,
) -> "HuggingFaceCallback":
    """Return a callback that watches the training of a Hugging Face ``Trainer``.

    Every training step is watched, under the number of its optimizer step: the batches of gradient accumulation are
    merged into one step. Evaluation is not watched. The model is being watched only while ``Trainer.training_step``
    runs, so that nothing stays on it whatever raises.

    Pass it to the ``Trainer`` at construction; a callback that is added later learns of an error inside a training step
    alone, and the status of its run stays ``running`` after an error elsewhere.

    On several processes (``torchrun``, ``accelerate launch``) each needs the callback: every rank watches its share of
    the batch, the first one writes the sums over all.

    Args:
        run: a folder to write as a run: ``events.jsonl`` with every step's loss and learning rate, the gradient norm of
            steps that the Trainer logs and its evaluations; ``heads.parquet``; and in ``run.json`` how it ended.
            Training that resumes from a checkpoint goes on in the same folder.
        log: also hand the mean over the heads of each layer's statistics to ``Trainer.log``, whenever that logs a loss.
        recorder: where the statistics of each step go besides: one recorder or several. They are flushed, not closed.
        guard: also guard the numbers of attention in every training step, up to the optimizer's: ``"warn"`` logs what
            is not finite or about to be, ``"raise"`` ends training there with ``NumericError``. See ``regard.guard``.
        **watching: ``statistics``, ``rows``, ``every``, ``quantiles_every``, ``layers``, ``heads``, ``seed`` and the
            other options of ``regard.watch``.

    Raises:
        MissingDependencyError: ``transformers`` or ``accelerate`` is not installed.
        ArgumentError: an option of ``watch`` or ``guard`` that cannot mean anything.

    Example:
        >>> from regard.observe import callbacks
        >>> callback = callbacks.hugging_face(run="runs/mine", statistics=["entropy", "max_weight"], rows=64)
        >>> # trainer = Trainer(model, args, train_dataset=data, callbacks=[callback]); trainer.train()
    """
    settings = Settings.of(run, log, recorder, watching, guard)
    for package in ("transformers", "accelerate"):
        if find_spec(package) is None:
            raise MissingDependencyError(
                f"A callback for the Hugging Face Trainer needs {package}, which is not installed; "
                'run `pip install "regard[hf]"`.'
            )
    from regard.observe.callbacks.hugging_face_callback import HuggingFaceCallback

    return HuggingFaceCallback(settings)


def lightning(
    *,
    run: Path | str | None = None,
    log: bool = False,
    recorder: Recorder | Sequence[Recorder] | None = None,
    guard: str = "off",
    **watching: Any,
) -> "LightningHooks":
    """Return a callback that watches the training of a Lightning ``Trainer``.

    Every training step is watched, under the number of its optimizer step: accumulated batches are merged into one
    step. The sanity check, validation and tests are not watched. An error or an interruption anywhere ends the watch.

    Where the ``LightningModule`` keeps its attention in one submodule, that is what is watched: its ``forward`` is told
    the padding, and layers are named from there. Otherwise the whole ``LightningModule`` is.

    It derives from the ``Callback`` of ``lightning.pytorch`` or of ``pytorch_lightning``: of the one that is imported,
    else of the one that is installed, the former first.

    On several processes every rank watches its share of the batch, the first one writes the sums over all.

    Args:
        run: a folder to write as a run: ``events.jsonl`` with every step's loss, learning rate and gradient norm and
            with the validations; ``heads.parquet``; and in ``run.json`` how it ended. Training that resumes from a
            checkpoint goes on in the same folder.
        log: also hand the mean over the heads of each layer's statistics to the trainer's loggers, whenever they log.
        recorder: where the statistics of each step go besides: one recorder or several. They are flushed, not closed.
        guard: also guard the numbers of attention in every training step, up to the optimizer's: ``"warn"`` logs what
            is not finite or about to be, ``"raise"`` ends training there with ``NumericError``. See ``regard.guard``.
        **watching: ``statistics``, ``rows``, ``every``, ``quantiles_every``, ``layers``, ``heads``, ``seed`` and the
            other options of ``regard.watch``.

    Raises:
        MissingDependencyError: Lightning is not installed.
        ArgumentError: an option of ``watch`` or ``guard`` that cannot mean anything.

    Example:
        >>> from regard.observe import callbacks
        >>> callback = callbacks.lightning(run="runs/mine", statistics=["entropy", "max_weight"], rows=64)
        >>> # Trainer(callbacks=[callback]).fit(module, loader)
    """
    settings = Settings.of(run, log, recorder, watching, guard)
    module = _lightning()
    from regard.observe.callbacks.lightning_callback import LightningHooks

    made = type("LightningCallback", (LightningHooks, module.Callback), {"__doc__": LightningHooks.__doc__})
    callback: LightningHooks = made(settings)
    return callback


def _lightning() -> Any:
    for name in _LIGHTNING:
        if name in sys.modules:
            return sys.modules[name]
    for name in _LIGHTNING:
        if find_spec(name.partition(".")[0]) is not None:
            return import_module(name)
    raise MissingDependencyError(
        'A callback for Lightning needs it, which is not installed; run `pip install "regard[lightning]"`.'
    )
