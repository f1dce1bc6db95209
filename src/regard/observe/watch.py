"""``watch``: look at every attention call of a model while it runs."""

import inspect
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from torch import nn
from torch.utils.hooks import RemovableHandle

from regard._errors import ArgumentError
from regard.observe.capture import CaptureMode
from regard.observe.plan import Plan
from regard.observe.recorder import HeadRecorder
from regard.observe.view import View, padding_of

__all__ = ["Watch", "watch"]

_DEFAULT = ("entropy", "normalized_entropy", "max_weight", "first_mass", "padding_mass", "output_norm")
# PyTorch leaves its C++ fast path when a hook sits on one of these; their own calls then count the steps.
_UNHOOKED = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


class Watch:
    """A model being watched: a context manager, or ``start()`` and ``stop()``."""

    def __init__(self, model: nn.Module, plan: Plan, recorder: HeadRecorder | None) -> None:
        self.view = View(model, plan, recorder)
        self._model = model
        self._mode: CaptureMode | None = None
        self._hook: RemovableHandle | None = None

    def start(self) -> View:
        """Begin to watch.

        Raises:
            ArgumentError: it is watching already.
        """
        if self._mode is not None:
            raise ArgumentError("A watch must be stopped before it starts again; it is watching already.")
        if not isinstance(self._model, _UNHOOKED):
            names = tuple(inspect.signature(self._model.forward).parameters)
            self._hook = self._model.register_forward_pre_hook(
                lambda _, args, kwargs: self._begin(names, args, kwargs), with_kwargs=True
            )
        self._mode = CaptureMode(self.view.receive)
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self.view

    def stop(self) -> View:
        """End watching; nothing stays on the model. Stopping twice is harmless."""
        if self._mode is not None:
            self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._mode = None
        if self._hook is not None:
            self._hook.remove()
            self._hook = None
        return self.view

    def __enter__(self) -> View:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _begin(self, names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.view.begin_forward(padding_of({**dict(zip(names, args, strict=False)), **kwargs}))


def watch(
    model: nn.Module,
    statistics: Sequence[str] = _DEFAULT,
    *,
    rows: Literal["all"] | int = "all",
    every: int | Mapping[str, int] = 1,
    quantiles_every: int = 0,
    layers: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    seed: int = 0,
    recorder: HeadRecorder | None = None,
) -> Watch:
    """Watch every attention call of ``model``: exact statistics per head, kernel kept, outputs bit-identical.

    Works on any module whose attention goes through ``torch.nn.functional.scaled_dot_product_attention`` or
    ``regard.attention``; what does not is listed by ``View.coverage()`` with the reason. No n by n tensor is
    made.

    Args:
        model: the model; it is not changed.
        statistics: names from ``STATISTICS``.
        rows: ``"all"`` for exact statistics, or how many query rows to sample from each call (mean ± standard error).
        every: take statistics at every n-th step; a mapping gives single statistics their own interval.
        quantiles_every: add quantiles over the rows at every n-th step; 0 for never.
        layers: patterns of dotted module names, such as ``["encoder.layer.0.*"]``; None for all.
        heads: head indices; None for all.
        seed: of the sampled rows.
        recorder: also write the statistics of each step to a run folder.

    Returns:
        A context manager that gives a ``View``; it also has ``start()`` and ``stop()``.

    Raises:
        ArgumentError: an unknown statistic, or a schedule that cannot mean anything.

    Example:
        >>> with regard.watch(model, ["entropy", "first_mass"]) as view:
        ...     _ = model(inputs)
        >>> view.table()[0]["statistic"]
        'entropy'
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"watch needs an nn.Module, got {type(model).__name__}; wrap a function in a module.")
    plan = Plan(
        statistics=tuple(statistics),
        rows=rows,
        every=every,
        quantiles_every=quantiles_every,
        layers=layers,
        heads=heads,
        seed=seed,
    )
    return Watch(model, plan, recorder)
