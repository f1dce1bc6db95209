"""The hooks of the callback for Lightning; they need nothing of Lightning itself."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from regard._errors import ArgumentError
from regard.observe.callbacks.layer_means import LayerMeans
from regard.observe.callbacks.ranks import is_first_rank, refuse_spread_heads
from regard.observe.callbacks.run_folder import RunFolder, TrainingFacts
from regard.observe.callbacks.session import Session
from regard.observe.callbacks.settings import Settings
from regard.observe.guarding.finding import Finding
from regard.observe.layers import attention_modules
from regard.observe.view import View

__all__ = ["LightningHooks"]

_PREFIXES = ("val_", "val/", "valid_", "valid/", "validation_", "validation/")
_WHOLE_GRADIENTS = ("SingleDeviceStrategy", "DDPStrategy")


class LightningHooks:
    """Watches every training step of a Lightning ``Trainer``; made by ``regard.observe.callbacks.lightning``."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._means = LayerMeans()
        self._session: Session | None = None

    @property
    def view(self) -> View:
        """What was watched in the last training, on this rank.

        Raises:
            ArgumentError: no training has begun.
        """
        if self._session is None:
            raise ArgumentError("A view needs a training to look at, got none; call Trainer.fit() first.")
        return self._session.view

    @property
    def findings(self) -> list[Finding]:
        """What the guard found in the last training, on this rank, oldest first; nothing without ``guard``."""
        return [] if self._session is None else self._session.findings

    # hooks of Lightning

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Begin a session.

        Raises:
            RecordError: the run folder holds a run and training does not resume one.
            UnsupportedError: the heads of the model are spread over processes.
        """
        refuse_spread_heads(getattr(trainer.strategy, "tensor_parallel_size", None))
        folder = self._open_folder(trainer, pl_module) if is_first_rank() else None
        recorders = [*self._settings.recorders, *([self._means] if self._settings.log else [])]
        self._session = Session(
            _watched_part(pl_module),
            options=self._settings.watching,
            recorders=recorders,
            folder=folder,
            step=trainer.global_step,
            guarding=self._settings.guard,
        )

    def on_train_batch_start(self, trainer: Any, pl_module: nn.Module, batch: Any, batch_idx: int) -> None:
        """Begin to watch; a batch belongs to the optimizer step that it will be part of."""
        session = self._running()
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        told = {"lr": float(rates[0])} if rates else {}
        session.begin_step(trainer.global_step + 1, epoch=trainer.current_epoch + 1, **told)
        session.watching().start()

    def on_before_optimizer_step(self, trainer: Any, pl_module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Have the guard judge the gradients, unless a scaler will: it leaves steps out that would use bad ones.

        And take the norm of the whole gradient, before it is clipped, where each rank holds the whole of it.
        """
        session = self._running()
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            session.before_optimizer(optimizer)
        if session.folder is None or type(trainer.strategy).__name__ not in _WHOLE_GRADIENTS:
            return
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            session.tell_later(trainer.global_step + 1, "grad_norm", get_total_norm(gradients))

    def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End watching, and share what was seen where the trainer logs: there all ranks meet anyway."""
        session = self._running()
        session.watching().stop()
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            session.add_loss(loss.reshape(()))
        if trainer.global_step < session.begun:
            return  # gradients still accumulate
        logs = trainer.global_step % trainer.log_every_n_steps == 0
        session.end_step(share=logs)
        means = self._means.take() if logs else {}
        if means:
            for logger in trainer.loggers:
                logger.log_metrics(means, step=trainer.global_step)

    def on_validation_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Record a validation within training."""
        if self._session is None:
            return  # the sanity check before training
        metrics = {}
        for name, value in trainer.callback_metrics.items():
            prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
            if prefix is not None:
                metrics[name.removeprefix(prefix)] = float(value)
        self._session.end_validation(trainer.global_step, trainer.current_epoch + 1, metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Share and write what was seen."""
        self._running().share()
        self._running().flush_files()

    def on_save_checkpoint(self, trainer: Any, pl_module: nn.Module, checkpoint: dict[str, Any]) -> None:
        """Put on disk what a training that resumes from here relies on."""
        if self._session is not None and self._session.is_open:
            self._session.flush_files()

    def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """End the session of a training that came to its end."""
        self._running().finish()

    def on_exception(self, trainer: Any, pl_module: nn.Module, exception: BaseException) -> None:
        """End the session of a training that raised or was interrupted."""
        if self._session is not None:
            self._session.fail(exception)

    # within

    def _running(self) -> Session:
        assert self._session is not None, "the trainer tells that training starts before it tells of batches"
        return self._session

    def _open_folder(self, trainer: Any, pl_module: nn.Module) -> RunFolder | None:
        if self._settings.run is None:
            return None
        config = {
            "max_epochs": trainer.max_epochs,
            "max_steps": trainer.max_steps,
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "gradient_clip_val": trainer.gradient_clip_val,
            "num_devices": trainer.num_devices,
            "num_nodes": trainer.num_nodes,
            "strategy": type(trainer.strategy).__name__,
            "module": type(pl_module).__name__,
        }
        package = type(trainer).__module__.partition(".")[0]
        facts = TrainingFacts(
            recipe="lightning",
            config=config,
            seeds={},
            precision=str(trainer.precision),
            device=trainer.strategy.root_device,
            packages=(package.replace("_", "-"),),
        )
        return RunFolder(self._settings.run, facts, step=trainer.global_step)


def _watched_part(module: nn.Module) -> nn.Module:
    """Return the one submodule that holds all the attention there is, or ``module``."""
    parts = [child for child in module.children() if attention_modules(child)]
    return parts[0] if len(parts) == 1 else module
